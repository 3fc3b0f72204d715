//! Activation statistics at the input of every linear layer, gathered in one calibration pass.

use std::{collections::BTreeMap, sync::Arc};

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    gram::Gram,
    layer::LayerId,
    model::{CausalLm, to_host},
};

/// Sees the input of linear layers during a forward pass.
pub trait Tap {
    /// `input`, `[rows, in]`, is about to be multiplied by each of `layers`.
    ///
    /// # Errors
    /// Whatever stops the forward pass.
    fn observe(&mut self, layers: &[LayerId], input: &Tensor<2>) -> Result<()>;
}

/// Sees nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoTap;

impl Tap for NoTap {
    fn observe(&mut self, _layers: &[LayerId], _input: &Tensor<2>) -> Result<()> {
        Ok(())
    }
}

/// Statistics of one layer's input, per input channel.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ChannelStats {
    /// Mean of |x|, `[in]`.
    pub mean_abs: Vec<f32>,
    /// Largest |x|, `[in]`.
    pub max_abs: Vec<f32>,
    /// Sum of x² over all tokens, `[in]`.
    pub sum_sq: Vec<f64>,
    /// Tokens seen.
    pub count: u64,
}

impl ChannelStats {
    /// Mean of x², `[in]`: what an imatrix gives the codec for each column.
    #[must_use]
    pub fn mean_sq(&self) -> Vec<f32> {
        self.sum_sq.iter().map(|sum| (sum / self.count.max(1) as f64) as f32).collect()
    }

    /// The statistics of `x * scale`, where the layer's input is multiplied channel by channel.
    #[must_use]
    pub fn scaled(&self, scale: &[f32]) -> Self {
        let times = |xs: &[f32]| xs.iter().zip(scale).map(|(x, s)| x * s.abs()).collect();
        let square = |s: &f32| f64::from(*s) * f64::from(*s);
        Self {
            mean_abs: times(&self.mean_abs),
            max_abs: times(&self.max_abs),
            sum_sq: self.sum_sq.iter().zip(scale).map(|(x, s)| x * square(s)).collect(),
            count: self.count,
        }
    }
}

/// Statistics of every linear layer's input. One pass feeds the features, the folding and the imatrix.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CalibrationStats {
    layers: BTreeMap<LayerId, ChannelStats>,
    /// Layers with the same input share one matrix. Not serialized: it is large, and gathered in one pass.
    #[serde(skip)]
    grams: BTreeMap<LayerId, Arc<Gram>>,
}

/// What a calibration pass gathers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gather {
    /// The Gram matrices of the inputs, too: `8 * in²` bytes for each distinct input. GPTQ rounding needs them.
    pub gram: bool,
}

impl CalibrationStats {
    /// Runs the model over `windows` and gathers the statistics. The head's input is gathered, too; the
    /// embedding has no input. `progress` is told the tokens done and may stop the pass by returning `false`.
    ///
    /// # Errors
    /// When a window is empty or holds a token that the model does not have, when the device fails, or
    /// [`Error::Interrupted`] when `progress` says so.
    pub fn collect(
        model: &CausalLm,
        windows: &[&[u32]],
        progress: impl FnMut(usize) -> bool,
    ) -> Result<Self> {
        Self::gather(model, windows, Gather::default(), progress)
    }

    /// As [`CalibrationStats::collect`], with a choice of what is gathered.
    ///
    /// # Errors
    /// As [`CalibrationStats::collect`].
    pub fn gather(
        model: &CausalLm,
        windows: &[&[u32]],
        what: Gather,
        mut progress: impl FnMut(usize) -> bool,
    ) -> Result<Self> {
        let mut sums = Sums { what, ..Sums::default() };
        let n_blocks = model.config().n_blocks;
        let mut tokens = 0;
        for window in windows {
            let hidden = model.run_blocks(model.embed(&[window])?, 0..n_blocks, &mut sums)?;
            if !model.config().tie_word_embeddings {
                sums.observe(&[LayerId::Output], &model.finish(hidden))?;
            }
            tokens += window.len();
            if !progress(tokens) {
                return Err(Error::Interrupted);
            }
        }
        Ok(sums.finish())
    }

    /// The statistics of a layer's input; `None` for the embedding, which has none.
    #[must_use]
    pub fn get(&self, id: LayerId) -> Option<&ChannelStats> {
        self.layers.get(&id)
    }

    /// The Gram matrix of a layer's input, where it was gathered.
    #[must_use]
    pub fn gram(&self, id: LayerId) -> Option<&Arc<Gram>> {
        self.grams.get(&id)
    }

    /// Transforms the statistics of layers that share one input, after that input was multiplied channel by
    /// channel with `scale`. Layers without statistics are left alone.
    pub fn scale_input(&mut self, layers: &[LayerId], scale: &[f32]) {
        let mut gram: Option<Arc<Gram>> = None;
        for id in layers {
            if let Some(stats) = self.layers.get_mut(id) {
                *stats = stats.scaled(scale);
            }
            if let Some(old) = self.grams.get_mut(id) {
                *old = gram.get_or_insert_with(|| Arc::new(old.scaled(scale))).clone();
            }
        }
    }

    /// Replaces the statistics of a layer, after a transform that is known exactly (folding).
    pub fn insert(&mut self, id: LayerId, stats: ChannelStats) {
        self.layers.insert(id, stats);
    }

    /// All layers with statistics, in execution order.
    pub fn iter(&self) -> impl Iterator<Item = (LayerId, &ChannelStats)> {
        self.layers.iter().map(|(id, stats)| (*id, stats))
    }

    /// Mean of x² per input channel of a layer: the imatrix of that layer.
    #[must_use]
    pub fn imatrix(&self, id: LayerId) -> Option<Vec<f32>> {
        self.get(id).map(ChannelStats::mean_sq)
    }
}

/// Running sums in f64, so that a million tokens do not lose the small channels.
#[derive(Default)]
struct Sums {
    what: Gather,
    layers: BTreeMap<LayerId, LayerSums>,
    /// By the first of the layers that share an input.
    grams: BTreeMap<LayerId, (Gram, Vec<LayerId>)>,
}

struct LayerSums {
    abs: Vec<f64>,
    max_abs: Vec<f32>,
    sq: Vec<f64>,
    count: u64,
}

impl LayerSums {
    fn new(width: usize) -> Self {
        Self { abs: vec![0.0; width], max_abs: vec![0.0; width], sq: vec![0.0; width], count: 0 }
    }
}

impl Tap for Sums {
    fn observe(&mut self, layers: &[LayerId], input: &Tensor<2>) -> Result<()> {
        let [rows, width] = input.dims();
        let abs = input.clone().abs();
        // One transfer for the three statistics of one window: [3, width].
        let window =
            Tensor::cat(vec![abs.clone().sum_dim(0), abs.max_dim(0), input.clone().square().sum_dim(0)], 0);
        let window = to_host(window)?;
        for &layer in layers {
            let sums = self.layers.entry(layer).or_insert_with(|| LayerSums::new(width));
            for channel in 0..width {
                sums.abs[channel] += f64::from(window[channel]);
                sums.max_abs[channel] = sums.max_abs[channel].max(window[width + channel]);
                sums.sq[channel] += f64::from(window[2 * width + channel]);
            }
            sums.count += rows as u64;
        }
        if let (true, [first, ..]) = (self.what.gram, layers) {
            let gram = to_host(input.clone().transpose().matmul(input.clone()))?; // [width, width]
            let (sum, _) = self.grams.entry(*first).or_insert_with(|| (Gram::zeros(width), layers.to_vec()));
            sum.add(&gram, rows as u64);
        }
        Ok(())
    }
}

impl Sums {
    fn finish(self) -> CalibrationStats {
        let mut grams = BTreeMap::new();
        for (gram, layers) in self.grams.into_values() {
            let gram = Arc::new(gram);
            grams.extend(layers.into_iter().map(|id| (id, gram.clone())));
        }
        let layers = self.layers.into_iter().map(|(id, LayerSums { abs, max_abs, sq: sum_sq, count })| {
            let mean_abs = abs.iter().map(|sum| (sum / count.max(1) as f64) as f32).collect();
            (id, ChannelStats { mean_abs, max_abs, sum_sq, count })
        });
        CalibrationStats { layers: layers.collect(), grams }
    }
}
