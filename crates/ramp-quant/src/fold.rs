//! Scale folding (Algorithm 2, Table 11): the scale of activation channels moves into the weights.

mod site;

use ramp_gguf::GgmlType;
use ramp_model::{CalibrationStats, CausalLm};
use serde::{Deserialize, Serialize};

use self::site::{Place, Site};
use crate::error::{Error, Result};

/// What is known about an input channel of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActStatistic {
    /// Mean of |x|, as in AWQ.
    MeanAbs,
    /// Largest |x|, the paper's activation scale (Appendix A).
    MaxAbs,
    /// Root of the mean of x².
    Rms,
}

/// The exponents that [`FoldConfig::choose`] chooses from; 0 is no folding.
pub const EXPONENTS: [f64; 5] = [0.0, 0.25, 0.5, 0.75, 1.0];

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
    /// Fold the input of o into the rows of v, whose heads it is made of: a channel of v is the same channel of all
    /// query heads that share it. Not in the paper.
    pub o: bool,
    /// Fold the input of down into the rows of up, which it is proportional to; not where up goes through an
    /// activation (GPT-2). Not in the paper.
    pub down: bool,
    /// Choose the exponent of each site from [`EXPONENTS`]: the one with which this type, with an imatrix, gives the
    /// least error at the outputs of the site's layers. `exponent` is then not used. Not in the paper.
    pub choose: Option<GgmlType>,
}

impl FoldConfig {
    /// Algorithm 2 with Table 11: the square root of the per-channel maximum, on both sub-blocks.
    #[must_use]
    pub const fn paper() -> Self {
        Self {
            statistic: ActStatistic::MaxAbs,
            exponent: 0.5,
            epsilon: 1e-5,
            attn: true,
            ffn: true,
            o: false,
            down: false,
            choose: None,
        }
    }

    /// All four sites, each with the exponent that is best for `ty`, or none.
    #[must_use]
    pub const fn chosen(ty: GgmlType) -> Self {
        let paper = Self::paper();
        Self { statistic: ActStatistic::MeanAbs, o: true, down: true, choose: Some(ty), ..paper }
    }

    /// What helps on K-quants with an imatrix: o and down alone, each with the exponent that is best for `ty`, or none.
    /// The norms are left alone; folding into them takes from the imatrix what it gives.
    #[must_use]
    pub const fn sound(ty: GgmlType) -> Self {
        Self { attn: false, ffn: false, ..Self::chosen(ty) }
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
    /// Factor of each channel of v, `[kv_heads * head_dim]`; empty when not folded.
    #[serde(default)]
    pub o: Vec<f32>,
    /// Factor of each input channel of down, `[ffn]`; empty when not folded.
    #[serde(default)]
    pub down: Vec<f32>,
    /// The exponents of these four, in their order; `None` where not folded.
    #[serde(default)]
    pub exponents: [Option<f64>; 4],
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
/// The other two layers have no norm in front of them. Beyond the paper, what comes before them can take the
/// inverse: the rows of v for o, the rows of up for down ([`FoldConfig::o`], [`FoldConfig::down`]).
///
/// # Errors
/// When the configuration is out of range, or statistics are missing, of another width, or no possible
/// statistics. Model and statistics are then unchanged.
pub fn fold(model: &mut CausalLm, stats: &mut CalibrationStats, config: &FoldConfig) -> Result<FoldReport> {
    config.validate()?;
    // All scales first, so that an error leaves nothing half done. Folding one site changes the rows or the norm
    // that another one's scales do not depend on.
    let sites: Vec<Site> =
        (0..model.config().n_blocks).flat_map(|block| Site::of(model, block, config)).collect();
    let found = sites.iter().map(|site| site.fit(model, stats, config)).collect::<Result<Vec<_>>>()?;
    let mut blocks = vec![BlockFold::default(); model.config().n_blocks];
    for (site, (exponent, scales)) in sites.iter().zip(found) {
        site.apply(model, stats, &scales)?;
        let block = &mut blocks[site.block];
        block.exponents[site.place as usize] = Some(exponent);
        *match site.place {
            Place::Attn => &mut block.attn,
            Place::Ffn => &mut block.ffn,
            Place::O => &mut block.o,
            Place::Down => &mut block.down,
        } = scales;
    }
    Ok(FoldReport { blocks })
}

#[cfg(test)]
mod tests;
