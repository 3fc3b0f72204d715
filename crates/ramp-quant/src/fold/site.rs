//! Where scales can be folded: layers that share an input, and what in front of them takes the inverse.

use burn::tensor::{Tensor, TensorData};
use ramp_gguf::GgmlType;
use ramp_model::{Architecture, CalibrationStats, CausalLm, ChannelStats, LayerId, NormId, Role};

use super::{ActStatistic, EXPONENTS, FoldConfig};
use crate::{
    error::{Error, Result},
    format::Format,
    quantize::quantize,
};

/// Which input of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Attn,
    Ffn,
    O,
    Down,
}

/// What takes the inverse.
#[derive(Clone, Copy, Debug)]
enum Source {
    Norm(NormId),
    /// As many rows as there are scales, from this one on.
    Rows(LayerId, usize),
}

/// Layers with one input, and what gives it.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) block: usize,
    pub(super) place: Place,
    layers: Vec<LayerId>,
    source: Source,
    /// Input channels of the layers.
    width: usize,
    /// Input channels that share a scale stand `share` times in the input, in runs of `run`.
    run: usize,
    share: usize,
}

impl Site {
    /// The sites of a block that `config` asks for and the architecture has.
    pub(super) fn of(model: &CausalLm, block: usize, config: &FoldConfig) -> Vec<Self> {
        let shape = model.config();
        let architecture = shape.architecture;
        let id = |role| LayerId::Block { block, role };
        let ids = |roles: &[Role]| roles.iter().map(|&role| id(role)).collect();
        let site =
            |place, layers, source, width| Self { block, place, layers, source, width, run: width, share: 1 };
        let hidden = shape.hidden_size;
        let mut sites = Vec::new();
        if config.attn {
            let source = Source::Norm(NormId::Attn(block));
            sites.push(site(Place::Attn, ids(architecture.attn_inputs()), source, hidden));
        }
        if config.ffn {
            let source = Source::Norm(NormId::Ffn(block));
            sites.push(site(Place::Ffn, ids(architecture.ffn_inputs()), source, hidden));
        }
        let fused = architecture == Architecture::Gpt2;
        if config.o {
            let source =
                if fused { Source::Rows(id(Role::Qkv), 2 * hidden) } else { Source::Rows(id(Role::V), 0) };
            let o = site(Place::O, vec![id(Role::O)], source, shape.n_heads * shape.head_dim);
            sites.push(Self { run: shape.head_dim, share: shape.n_heads / shape.n_kv_heads, ..o });
        }
        if config.down && !fused {
            let source = Source::Rows(id(Role::Up), 0);
            sites.push(site(Place::Down, vec![id(Role::Down)], source, shape.intermediate_size));
        }
        sites
    }

    /// The scale that an input channel has.
    const fn scale_of(&self, channel: usize) -> usize {
        channel / (self.run * self.share) * self.run + channel % self.run
    }

    /// One factor per input channel.
    fn expand(&self, scales: &[f32]) -> Vec<f32> {
        (0..self.width).map(|channel| scales[self.scale_of(channel)]).collect()
    }

    /// The exponent and `s`.
    pub(super) fn fit(
        &self,
        model: &CausalLm,
        stats: &CalibrationStats,
        config: &FoldConfig,
    ) -> Result<(f64, Vec<f32>)> {
        for &id in &self.layers {
            check_stats(id, stats, self.width)?;
        }
        let act = self.activation(stats, config.statistic)?;
        let Some(ty) = config.choose else {
            return Ok((config.exponent, self.scales(&act, config.epsilon, config.exponent)?));
        };
        let weights =
            self.layers.iter().map(|&id| Ok((id, model.weight_data(id)?))).collect::<Result<Vec<_>>>()?;
        let mut best: Option<(f64, f64, Vec<f32>)> = None;
        for exponent in EXPONENTS {
            let scales = self.scales(&act, config.epsilon, exponent)?;
            let factors = self.expand(&scales);
            let mut error = 0.0;
            for (id, weights) in &weights {
                let imatrix = stats.imatrix(*id).unwrap_or_default();
                error +=
                    output_error(ty, weights, &factors, &imatrix).map_err(|error| error.in_tensor(*id))?;
            }
            if best.as_ref().is_none_or(|(least, ..)| error < *least) {
                best = Some((error, exponent, scales));
            }
        }
        let (_, exponent, scales) = best.unwrap_or_default();
        Ok((exponent, scales))
    }

    /// The activation scale of each of the channels that have one, from the first layer's statistics (q or gate, as
    /// Algorithm 2 says; all layers of a site see the same input).
    fn activation(&self, stats: &CalibrationStats, statistic: ActStatistic) -> Result<Vec<f64>> {
        let id = self.layers[0];
        let layer = stats.get(id).ok_or_else(|| Error::MissingStats { layer: id.to_string() })?;
        let mut act = vec![0.0_f64; self.width / self.share];
        let mean = |x: f64| x / self.share as f64;
        for channel in 0..self.width {
            let act = &mut act[self.scale_of(channel)];
            match statistic {
                ActStatistic::MeanAbs => *act += mean(f64::from(layer.mean_abs[channel])),
                ActStatistic::MaxAbs => *act = act.max(f64::from(layer.max_abs[channel])),
                ActStatistic::Rms => *act += mean(layer.sum_sq[channel] / layer.count.max(1) as f64),
            }
        }
        if statistic == ActStatistic::Rms {
            act.iter_mut().for_each(|act| *act = act.sqrt());
        }
        Ok(act)
    }

    /// `s = (act + epsilon)^exponent`, divided by its mean.
    fn scales(&self, act: &[f64], epsilon: f64, exponent: f64) -> Result<Vec<f32>> {
        let powers: Vec<f64> = act.iter().map(|act| (act + epsilon).powf(exponent)).collect();
        let mean = powers.iter().sum::<f64>() / powers.len() as f64;
        let scales: Vec<f32> = powers.iter().map(|power| (power / mean) as f32).collect();
        // Both the scale and its inverse must be ordinary numbers.
        match scales.iter().position(|s| !s.is_normal() || !s.recip().is_normal()) {
            Some(channel) => {
                let (layer, value) = (self.layers[0].to_string(), act[channel] as f32);
                Err(Error::StatsValue { layer, channel, value })
            }
            None => Ok(scales),
        }
    }

    pub(super) fn apply(
        &self,
        model: &mut CausalLm,
        stats: &mut CalibrationStats,
        scales: &[f32],
    ) -> Result<()> {
        let factors = self.expand(scales);
        let tensor = |values: Vec<f32>| -> Tensor<1> {
            let len = values.len();
            Tensor::from_data(TensorData::new(values, [len]), model.device())
        };
        let columns = tensor(factors.clone());
        let inverse: Vec<f32> = scales.iter().map(|s| s.recip()).collect();
        let inverse_tensor = tensor(inverse.clone());
        for &id in &self.layers {
            model.set_weight(id, model.weight(id)? * columns.clone().unsqueeze())?;
        }
        let inverse_factors: Vec<f32> = factors.iter().map(|s| s.recip()).collect();
        stats.scale_input(&self.layers, &inverse_factors);
        match self.source {
            Source::Norm(norm) => model.scale_norm(norm, &inverse_tensor)?,
            Source::Rows(id, first) => model.scale_rows(id, first, &inverse)?,
        }
        Ok(())
    }
}

/// `Σ_ij E[x_j²] (W_ij - Ŵ_ij / s_j)²`, where `Ŵ` is what `W_ij s_j` becomes in a type.
fn output_error(ty: GgmlType, weights: &[f32], s: &[f32], imatrix: &[f32]) -> Result<f64> {
    let columns = s.len();
    let folded: Vec<f32> =
        weights.chunks(columns).flat_map(|row| row.iter().zip(s).map(|(w, s)| w * s)).collect();
    let importance: Vec<f32> = imatrix.iter().zip(s).map(|(m, s)| m / (s * s)).collect();
    let (shape, format) = ([folded.len() / columns, columns], Format::Ggml(ty).fallback(columns));
    let decoded = quantize(&folded, shape, format, Some(&importance))?.dequantized;
    let rows = folded.chunks(columns).zip(decoded.chunks(columns));
    let errors = rows.map(|(w, q)| -> f64 {
        let columns = w.iter().zip(q).zip(&importance);
        columns.map(|((w, q), m)| f64::from(*m) * f64::from(w - q) * f64::from(w - q)).sum()
    });
    Ok(errors.sum())
}

/// Checks that a layer has statistics of its input width that some activations could have.
fn check_stats(id: LayerId, stats: &CalibrationStats, width: usize) -> Result<()> {
    let layer = || id.to_string();
    let ChannelStats { mean_abs, max_abs, sum_sq, .. } =
        stats.get(id).ok_or_else(|| Error::MissingStats { layer: layer() })?;
    for found in [mean_abs.len(), max_abs.len(), sum_sq.len()] {
        if found != width {
            return Err(Error::StatsWidth { layer: layer(), expected: width, found });
        }
    }
    for values in [mean_abs, max_abs] {
        if let Some(channel) = values.iter().position(|x| !(x.is_finite() && *x >= 0.0)) {
            return Err(Error::StatsValue { layer: layer(), channel, value: values[channel] });
        }
    }
    Ok(())
}
