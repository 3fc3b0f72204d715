//! Rotary position embedding in the Hugging Face convention: a head's first half pairs with its second half.

use std::f64::consts::TAU;

use burn::tensor::{Device, Tensor, TensorData};

use crate::config::{ModelConfig, RopeScaling};

/// Rotary frequencies of a model, one for each pair of a head's channels.
#[derive(Clone, Debug)]
pub(crate) struct Rope {
    /// Radians per position, `[head_dim / 2]`.
    inv_freq: Vec<f32>,
}

/// Cosines and sines of one sequence length, each `[seq, head_dim / 2]`.
pub(crate) struct RopeTables {
    cos: Tensor<4>,
    sin: Tensor<4>,
}

/// Divisors of the rotary frequencies, `[head_dim / 2]`, where they differ from one to the next; what llama.cpp
/// reads from `rope_freqs.weight`.
pub(crate) fn frequency_divisors(config: &ModelConfig) -> Option<Vec<f32>> {
    let (factor, low_freq_factor, high_freq_factor, original_context) = match &config.rope_scaling {
        Some(RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context }) => {
            (*factor, *low_freq_factor, *high_freq_factor, *original_context)
        }
        Some(RopeScaling::Divisors(divisors)) => return Some(divisors.clone()),
        None | Some(RopeScaling::Linear { .. }) => return None,
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
            (_, None) => base.map(|freq| freq as f32).collect(),
        };
        Self { inv_freq }
    }

    pub(crate) fn tables(&self, seq: usize, device: &Device) -> RopeTables {
        let half = self.inv_freq.len();
        let table = |f: fn(f32) -> f32| {
            let values: Vec<f32> = (0..seq)
                .flat_map(|position| self.inv_freq.iter().map(move |freq| f(position as f32 * freq)))
                .collect();
            Tensor::from_data(TensorData::new(values, [1, 1, seq, half]), device)
        };
        RopeTables { cos: table(f32::cos), sin: table(f32::sin) }
    }
}

impl RopeTables {
    /// Rotates `x`, `[batch, heads, seq, head_dim]`.
    pub(crate) fn apply(&self, x: Tensor<4>) -> Tensor<4> {
        let half = x.dims()[3] / 2;
        let first = x.clone().narrow(3, 0, half);
        let second = x.narrow(3, half, half);
        let rotated_first = first.clone() * self.cos.clone() - second.clone() * self.sin.clone();
        let rotated_second = second * self.cos.clone() + first * self.sin.clone();
        Tensor::cat(vec![rotated_first, rotated_second], 3)
    }
}
