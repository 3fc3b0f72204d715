//! Rotary position embedding in the Hugging Face convention: a head's first half pairs with its second half.

use std::{
    f64::consts::TAU,
    sync::{Arc, Mutex, PoisonError},
};

use burn::tensor::{Device, Tensor, TensorData};

use crate::config::{ModelConfig, RopeScaling};

/// YaRN's rotations in the original context below which a wavelength is divided, and above which it is kept.
const YARN_BETA: [f64; 2] = [1.0, 32.0];

/// Rotary frequencies of a model, one for each pair of a head's channels.
#[derive(Clone, Debug)]
pub(crate) struct Rope {
    /// Radians per position, `[head_dim / 2]`.
    inv_freq: Vec<f32>,
    /// Factor of cosines and sines, other than 1 with YaRN.
    magnitude: f32,
    /// The longest tables so far: every block of every pass needs the same. Shared by the clones of a model.
    tables: Arc<Mutex<Option<Arc<RopeTables>>>>,
}

/// Cosines and sines of positions 0 to `seq`, `[seq, head_dim / 2]`.
#[derive(Debug)]
pub(crate) struct RopeTables {
    seq: usize,
    half: usize,
    cos: Vec<f32>,
    sin: Vec<f32>,
    /// The same on the device.
    device_cos: Tensor<4>,
    device_sin: Tensor<4>,
}

/// Divisors of the rotary frequencies, `[head_dim / 2]`, where they differ from one to the next and llama.cpp has
/// no keys to compute them: what it reads from `rope_freqs.weight`.
pub(crate) fn frequency_divisors(config: &ModelConfig) -> Option<Vec<f32>> {
    let (factor, low_freq_factor, high_freq_factor, original_context) = match &config.rope_scaling {
        Some(RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context }) => {
            (*factor, *low_freq_factor, *high_freq_factor, *original_context)
        }
        Some(RopeScaling::Divisors(divisors)) => return Some(divisors.clone()),
        _ => return None,
    };
    let divisor = |freq: f64| {
        let wavelength = TAU / freq;
        if wavelength < original_context / high_freq_factor {
            1.0
        } else if wavelength > original_context / low_freq_factor {
            factor
        } else {
            let smooth =
                (original_context / wavelength - low_freq_factor) / (high_freq_factor - low_freq_factor);
            1.0 / ((1.0 - smooth) / factor + smooth)
        }
    };
    Some(base_frequencies(config).map(|freq| divisor(freq) as f32).collect())
}

/// Frequencies of YaRN (arXiv 2309.00071, section 3.2, with the rounded ends of the ramp of its implementations).
fn yarn_frequencies(config: &ModelConfig, factor: f64, original_context: f64) -> Vec<f32> {
    let dim = config.head_dim as f64;
    // The pair that turns `rotations` times within the original context.
    let pair =
        |rotations: f64| dim * (original_context / (rotations * TAU)).ln() / (2.0 * config.rope_theta.ln());
    let low = pair(YARN_BETA[1]).floor().max(0.0);
    let high = pair(YARN_BETA[0]).ceil().min(dim - 1.0);
    let ramp = |i: usize| ((i as f64 - low) / (high - low).max(0.001)).clamp(0.0, 1.0);
    let mixed = |(i, freq): (usize, f64)| freq / factor * ramp(i) + freq * (1.0 - ramp(i));
    base_frequencies(config).enumerate().map(mixed).map(|freq| freq as f32).collect()
}

fn base_frequencies(config: &ModelConfig) -> impl Iterator<Item = f64> {
    let (theta, dim) = (config.rope_theta, config.head_dim);
    (0..dim / 2).map(move |i| theta.powf(-2.0 * i as f64 / dim as f64))
}

impl Rope {
    pub(crate) fn new(config: &ModelConfig) -> Self {
        let base = base_frequencies(config);
        let inv_freq = match (&config.rope_scaling, frequency_divisors(config)) {
            (_, Some(divisors)) => base.zip(divisors).map(|(freq, divisor)| freq as f32 / divisor).collect(),
            (Some(RopeScaling::Linear { factor }), None) => base.map(|freq| (freq / factor) as f32).collect(),
            (Some(RopeScaling::Yarn { factor, original_context }), None) => {
                yarn_frequencies(config, *factor, *original_context)
            }
            // Dynamic scaling does nothing within the positions that such a model is run with.
            (_, None) => base.map(|freq| freq as f32).collect(),
        };
        let magnitude = match &config.rope_scaling {
            Some(RopeScaling::Yarn { factor, .. }) => (0.1 * factor.ln() + 1.0) as f32,
            _ => 1.0,
        };
        Self { inv_freq, magnitude, tables: Arc::default() }
    }

    /// Tables of `seq` positions or more.
    pub(crate) fn tables(&self, seq: usize, device: &Device) -> Arc<RopeTables> {
        // A thread that panicked left whole tables behind, or none.
        let mut cached = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tables) = cached.as_ref().filter(|tables| tables.seq >= seq) {
            return tables.clone();
        }
        let tables = Arc::new(self.compute(seq, device));
        *cached = Some(tables.clone());
        tables
    }

    fn compute(&self, seq: usize, device: &Device) -> RopeTables {
        let half = self.inv_freq.len();
        let table = |f: fn(f32) -> f32| -> Vec<f32> {
            let row = |position| self.inv_freq.iter().map(move |freq| f(position as f32 * freq));
            (0..seq).flat_map(row).map(|value| value * self.magnitude).collect()
        };
        let (cos, sin) = (table(f32::cos), table(f32::sin));
        let on_device =
            |values: &[f32]| Tensor::from_data(TensorData::new(values.to_vec(), [1, 1, seq, half]), device);
        let (device_cos, device_sin) = (on_device(&cos), on_device(&sin));
        RopeTables { seq, half, cos, sin, device_cos, device_sin }
    }
}

impl RopeTables {
    /// Rotates `x`, `[batch, heads, seq, head_dim]`.
    pub(crate) fn apply(&self, x: Tensor<4>) -> Tensor<4> {
        let [.., seq, dim] = x.dims();
        let half = dim / 2;
        let first = x.clone().narrow(3, 0, half);
        let second = x.narrow(3, half, half);
        let cos = self.device_cos.clone().narrow(2, 0, seq);
        let sin = self.device_sin.clone().narrow(2, 0, seq);
        let rotated_first = first.clone() * cos.clone() - second.clone() * sin.clone();
        let rotated_second = second * cos + first * sin;
        Tensor::cat(vec![rotated_first, rotated_second], 3)
    }

    /// Cosines and sines, `[positions, head_dim / 2]`.
    #[cfg(feature = "cuda")]
    pub(crate) fn on_device(&self) -> [Tensor<2>; 2] {
        [&self.device_cos, &self.device_sin].map(|table| table.clone().reshape([self.seq, self.half]))
    }

    /// Rotates one head at one position, `[head_dim]`, from `head` to `out`.
    pub(crate) fn rotate(&self, position: usize, head: &[f32], out: &mut [f32]) {
        let at = position * self.half..(position + 1) * self.half;
        let (cos, sin) = (&self.cos[at.clone()], &self.sin[at]);
        let (first, second) = head.split_at(self.half);
        let (out_first, out_second) = out.split_at_mut(self.half);
        for i in 0..self.half {
            out_first[i] = first[i] * cos[i] - second[i] * sin[i];
            out_second[i] = second[i] * cos[i] + first[i] * sin[i];
        }
    }
}
