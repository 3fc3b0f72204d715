//! Running sums of a calibration pass in a GPU's memory. Moving a Gram matrix to the host for every window would take
//! most of the pass' time.

use std::collections::BTreeMap;

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use ramp_cuda::ops::{add_f64, channel_sums};

use crate::{
    calibration::{LayerSums, Sums, gram_of},
    error::Result,
    gram::Gram,
    layer::LayerId,
    model::bits_to_host,
};

/// The share of the free memory that one more Gram matrix may take.
const SHARE: u64 = 8;

/// Sums by the first of the layers that share an input. Those of the host are older, where both are there.
#[derive(Debug, Default)]
pub(crate) struct DeviceSums(BTreeMap<LayerId, Site>);

/// Two are never compared: a pass that is, has fetched them.
impl PartialEq for DeviceSums {
    fn eq(&self, other: &Self) -> bool {
        self.0.is_empty() && other.0.is_empty()
    }
}

#[derive(Debug)]
struct Site {
    layers: Vec<LayerId>,
    /// Bits of f64, `[3, in]`: sums of |x|, largest |x|, sums of x².
    channels: Tensor<2, Int>,
    /// Tokens in `channels`, those of the host included.
    count: u64,
    /// Bits of f64, `[in, in]`, and the tokens in it.
    gram: Option<(Tensor<2, Int>, u64)>,
}

impl Sums {
    /// Adds one window's input, f32 `[rows, in]`, of some layers.
    pub(crate) fn add_on_device(&mut self, layers: &[LayerId], input: &Tensor<2>) -> Result<()> {
        let [rows, width] = input.dims();
        let [first, ..] = layers else { return Ok(()) };
        let site = match self.on_device.0.remove(first) {
            Some(site) => site,
            None => self.begin(*first, layers, width, &input.device()),
        };
        let gram = match site.gram {
            Some((sum, count)) => Some((add_f64(sum, gram_of(input)), count + rows as u64)),
            None => {
                self.add_gram(layers, input)?;
                None
            }
        };
        let channels = channel_sums(site.channels, input.clone());
        let site = Site { channels, count: site.count + rows as u64, gram, ..site };
        self.on_device.0.insert(*first, site);
        Ok(())
    }

    /// Goes on from what the host has. Gram matrices that the memory has no room for stay there.
    fn begin(&self, first: LayerId, layers: &[LayerId], width: usize, device: &Device) -> Site {
        let (channels, count) = match self.layers.get(&first) {
            Some(LayerSums { abs, max_abs, sq, count }) => {
                let max_abs = max_abs.iter().map(|&x| f64::from(x));
                let all: Vec<f64> = abs.iter().copied().chain(max_abs).chain(sq.iter().copied()).collect();
                (of_f64(&all, [3, width], device), *count)
            }
            None => (Tensor::zeros([3, width], (device, DType::I64)), 0),
        };
        let bytes = 8 * (width as u64).pow(2);
        let fits = ramp_cuda::memory(device).is_some_and(|(free, _)| bytes <= free / SHARE);
        let gram = (self.gram && fits).then(|| match self.grams.get(&first) {
            Some((gram, _)) => (of_f64(gram.sum(), [width; 2], device), gram.count()),
            None => (Tensor::zeros([width; 2], (device, DType::I64)), 0),
        });
        Site { layers: layers.to_vec(), channels, count, gram }
    }

    /// Takes over the sums of the device, which keeps its own.
    pub(crate) fn fetch_from_device(&mut self) -> Result<()> {
        for (first, site) in &self.on_device.0 {
            let sums = bits_to_host(site.channels.clone())?;
            let width = sums.len() / 3;
            for &layer in &site.layers {
                let layer = self.layers.entry(layer).or_insert_with(|| LayerSums::new(width));
                layer.abs.copy_from_slice(&sums[..width]);
                layer.max_abs.iter_mut().zip(&sums[width..2 * width]).for_each(|(to, &x)| *to = x as f32);
                layer.sq.copy_from_slice(&sums[2 * width..]);
                layer.count = site.count;
            }
            if let Some((sum, count)) = &site.gram {
                let gram = Gram::from_sum(width, bits_to_host(sum.clone())?, *count);
                self.grams.insert(*first, (gram, site.layers.clone()));
            }
        }
        Ok(())
    }
}

fn of_f64(values: &[f64], shape: [usize; 2], device: &Device) -> Tensor<2, Int> {
    let bits: Vec<i64> = values.iter().map(|x| x.to_bits() as i64).collect();
    Tensor::from_data(TensorData::new(bits, shape), (device, DType::I64))
}
