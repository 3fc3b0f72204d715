//! Scale folding (Algorithm 2, Table 11): the scale of activation channels moves into the weights.

use burn::tensor::{Tensor, TensorData};
use ramp_model::{CalibrationStats, CausalLm, ChannelStats, LayerId, NormId, Role};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// What is known about an input channel of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActStatistic {
    /// Mean of |x|, as in AWQ.
    MeanAbs,
    /// Largest |x|, the paper's activation scale (Appendix A).
    MaxAbs,
}

/// How to fold.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FoldConfig {
    /// The activation scale.
    pub statistic: ActStatistic,
    /// Power of the activation scale, 0 to 1. 0.5 is the square root of Algorithm 2; 0 folds nothing.
    pub exponent: f64,
    /// Added to the activation scale before the power, so that a channel that never fired has a scale (Table 11:
    /// 1e-5). Above 0.
    pub epsilon: f64,
    /// Fold the input of q, k and v (or of the one matrix for all three) into the attention norm.
    pub attn: bool,
    /// Fold the input of gate and up (or of up alone) into the feed-forward norm.
    pub ffn: bool,
}

impl FoldConfig {
    /// Algorithm 2 with Table 11: the square root of the per-channel maximum, on both sub-blocks.
    #[must_use]
    pub const fn paper() -> Self {
        Self { statistic: ActStatistic::MaxAbs, exponent: 0.5, epsilon: 1e-5, attn: true, ffn: true }
    }

    /// Checks the numbers.
    ///
    /// # Errors
    /// When the exponent is not in 0 to 1, or epsilon is not a number above 0.
    pub fn validate(&self) -> Result<()> {
        let Self { exponent, epsilon, .. } = *self;
        if !(0.0..=1.0).contains(&exponent) {
            return Err(Error::FoldConfig { field: "exponent", value: exponent, expected: "0 to 1" });
        }
        if !(epsilon > 0.0 && epsilon.is_finite()) {
            return Err(Error::FoldConfig { field: "epsilon", value: epsilon, expected: "a number above 0" });
        }
        Ok(())
    }
}

impl Default for FoldConfig {
    /// As the paper, but with the mean of |x|, which one stray token does not move.
    fn default() -> Self {
        Self { statistic: ActStatistic::MeanAbs, ..Self::paper() }
    }
}

/// The scales that were folded into one block.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BlockFold {
    /// Factor of each input channel of q, k and v, `[hidden]`; empty when not folded.
    pub attn: Vec<f32>,
    /// Factor of each input channel of gate and up, `[hidden]`; empty when not folded.
    pub ffn: Vec<f32>,
}

/// What folding did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FoldReport {
    /// The scales of each block, in order.
    pub blocks: Vec<BlockFold>,
}

/// Folds activation scales into the weights (Algorithm 2).
///
/// For q, k and v, and again for gate and up, `s = (act + epsilon)^exponent`, divided by its mean. Column `j` of
/// the weights is multiplied by `s_j` and channel `j` of the norm in front of them is divided by it, so that the
/// model computes the same function. The statistics of those layers are transformed with their inputs, which
/// become `x / s`: no second calibration pass is needed. A LayerNorm's bias is divided like its weight.
///
/// The other layers have no norm in front that could take the inverse, and stay as they are.
///
/// # Errors
/// When the configuration is out of range, or statistics are missing, of another width, or no possible
/// statistics. Model and statistics are then unchanged.
pub fn fold(model: &mut CausalLm, stats: &mut CalibrationStats, config: &FoldConfig) -> Result<FoldReport> {
    config.validate()?;
    // All scales first, so that an error leaves nothing half done.
    let blocks = (0..model.config().n_blocks)
        .map(|block| {
            let scales = |folded: bool, site: Site| {
                if folded { site.scales(model, stats, config) } else { Ok(Vec::new()) }
            };
            let [attn, ffn] = Site::of(model, block);
            Ok(BlockFold { attn: scales(config.attn, attn)?, ffn: scales(config.ffn, ffn)? })
        })
        .collect::<Result<Vec<_>>>()?;
    for (block, folded) in blocks.iter().enumerate() {
        for (site, scales) in Site::of(model, block).into_iter().zip([&folded.attn, &folded.ffn]) {
            if !scales.is_empty() {
                site.apply(model, stats, scales)?;
            }
        }
    }
    Ok(FoldReport { blocks })
}

/// A norm and the layers that read it.
struct Site {
    block: usize,
    norm: NormId,
    roles: &'static [Role],
}

impl Site {
    /// The attention norm and the feed-forward norm.
    const fn of(model: &CausalLm, block: usize) -> [Self; 2] {
        let architecture = model.config().architecture;
        [
            Self { block, norm: NormId::Attn(block), roles: architecture.attn_inputs() },
            Self { block, norm: NormId::Ffn(block), roles: architecture.ffn_inputs() },
        ]
    }

    fn layers(&self) -> impl Iterator<Item = LayerId> {
        self.roles.iter().map(|&role| LayerId::Block { block: self.block, role })
    }

    /// `s`, from the first layer's statistics (q or gate, as Algorithm 2 says; all layers of a site see the same
    /// input). Checks those of every layer.
    fn scales(&self, model: &CausalLm, stats: &CalibrationStats, config: &FoldConfig) -> Result<Vec<f32>> {
        let width = model.config().hidden_size;
        for id in self.layers() {
            check_stats(id, stats, width)?;
        }
        let id = LayerId::Block { block: self.block, role: self.roles[0] };
        let missing = || Error::MissingStats { layer: id.to_string() };
        let layer = stats.get(id).ok_or_else(missing)?;
        let act = match config.statistic {
            ActStatistic::MeanAbs => &layer.mean_abs,
            ActStatistic::MaxAbs => &layer.max_abs,
        };
        let powers: Vec<f64> =
            act.iter().map(|&x| (f64::from(x) + config.epsilon).powf(config.exponent)).collect();
        let mean = powers.iter().sum::<f64>() / powers.len() as f64;
        let scales: Vec<f32> = powers.iter().map(|power| (power / mean) as f32).collect();
        // Both the scale and its inverse must be ordinary numbers.
        match scales.iter().position(|s| !s.is_normal() || !s.recip().is_normal()) {
            Some(channel) => Err(Error::StatsValue { layer: id.to_string(), channel, value: act[channel] }),
            None => Ok(scales),
        }
    }

    fn apply(&self, model: &mut CausalLm, stats: &mut CalibrationStats, scales: &[f32]) -> Result<()> {
        let s: Tensor<1> =
            Tensor::from_data(TensorData::new(scales.to_vec(), [scales.len()]), model.device());
        let inverse: Vec<f32> = scales.iter().map(|s| s.recip()).collect();
        for id in self.layers() {
            model.set_weight(id, model.weight(id)? * s.clone().unsqueeze())?;
        }
        let layers: Vec<LayerId> = self.layers().collect();
        stats.scale_input(&layers, &inverse);
        Ok(model.scale_norm(self.norm, &s.recip())?)
    }
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

#[cfg(test)]
mod tests;
