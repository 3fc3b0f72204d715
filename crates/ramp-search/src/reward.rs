//! The reward of an episode (Sec. 3.4 of the paper), as printed and as it can be learnt from.

mod text;

use serde::{Deserialize, Serialize};

pub use text::{RewardSplit, RewardText, RewardTokens};

use crate::error::{Error, Result};

/// The quality reward, Eq. 19: `10 (1 - PPL / PPL_base)` below the base's perplexity, `-5 (PPL / PPL_base - 1)`
/// above it.
///
/// As printed, an improvement weighs twice a loss; the text says the opposite.
#[must_use]
pub fn quality_reward(perplexity: f64, base_perplexity: f64) -> f64 {
    let ratio = perplexity / base_perplexity;
    if ratio <= 1.0 { 10.0 * (1.0 - ratio) } else { -5.0 * (ratio - 1.0) }
}

/// The budget penalty, Eq. 20, for a target of `target` mean bits and a ceiling of `target + 0.25`.
///
/// The paper's target is 4.0. As printed, the penalty jumps from -0.5 back to 0 at the ceiling and
/// reaches -0.5 again only at 0.158 bits above it.
#[must_use]
pub fn budget_penalty(mean_bits: f64, target: f64) -> f64 {
    let over = mean_bits - target;
    if over <= 0.0 {
        0.0
    } else if over <= 0.25 {
        -2.0 * over
    } else {
        -20.0 * (over - 0.25).powi(2)
    }
}

/// Eq. 20 without its jump: above the ceiling the penalty goes on from where it was, -0.5, with the slope that it had,
/// and the printed square on top.
#[must_use]
pub fn continuous_budget_penalty(mean_bits: f64, target: f64) -> f64 {
    let over = mean_bits - target;
    if over <= 0.25 { budget_penalty(mean_bits, target) } else { -2.0 * over - 20.0 * (over - 0.25).powi(2) }
}

/// The reward of an episode in the paper, Eq. 21.
#[must_use]
pub fn paper_reward(perplexity: f64, base_perplexity: f64, mean_bits: f64, target: f64) -> f64 {
    quality_reward(perplexity, base_perplexity) + budget_penalty(mean_bits, target)
}

/// What an episode is rewarded with for its quality.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QualityReward {
    /// Eq. 19 as printed: an improvement weighs twice a loss.
    Eq19,
    /// Eq. 19 as the text describes it: a loss weighs twice an improvement.
    Eq19Swapped,
    /// `-ln(PPL / PPL_base)`, symmetric, in units of what the uniform allocation loses.
    LnRatio,
    /// `-KLD`, in units of the uniform allocation's: less noise on the same tokens, and no luck.
    Kld,
    /// `-ln(KLD / KLD_uniform)`: the same relative improvement is worth the same anywhere.
    LnKld,
    /// "Naive" of Table 20, `Acc - λ bits`; the accuracy is not defined there, `PPL_base / PPL` stands in for it.
    Naive,
    /// "Linear" of Table 20: `-(PPL / PPL_base - 1) - λ bits`.
    Linear,
}

/// What an episode pays for its bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BudgetPenalty {
    /// Eq. 20 as printed, with its inverted cliff.
    Eq20,
    /// Eq. 20 without the jump.
    Continuous,
    /// Nothing: the budget is held by other means.
    None,
}

/// Every decision about an episode's reward.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RewardConfig {
    /// Reward for quality.
    pub quality: QualityReward,
    /// Penalty on mean bits.
    pub penalty: BudgetPenalty,
    /// Mean bits where the penalty begins; `None` takes those of the uniform allocation of the same budget. Paper: 4.0.
    pub target_bits: Option<f64>,
    /// λ of the naive and the linear reward, for each bit.
    pub bits_weight: f64,
    /// Bounds of the reward before it is scaled; `None` as in the paper.
    pub clip: Option<[f64; 2]>,
    /// Factor. Paper: 1.
    pub scale: f64,
    /// Reward of an episode that gave no number (NaN or infinity), before it is scaled.
    pub floor: f64,
}

impl RewardConfig {
    /// Eq. 21 as printed.
    #[must_use]
    pub const fn paper() -> Self {
        Self {
            quality: QualityReward::Eq19,
            penalty: BudgetPenalty::Eq20,
            target_bits: None,
            bits_weight: 0.1,
            clip: None,
            scale: 1.0,
            floor: -5.0,
        }
    }

    /// Divergence in units of the uniform allocation's, bounded.
    #[must_use]
    pub const fn sound() -> Self {
        Self {
            quality: QualityReward::Kld,
            penalty: BudgetPenalty::None,
            clip: Some([-5.0, 0.5]),
            ..Self::paper()
        }
    }

    /// The same on a logarithmic scale.
    #[must_use]
    pub const fn logarithmic() -> Self {
        Self { quality: QualityReward::LnKld, clip: Some([-5.0, 5.0]), ..Self::sound() }
    }

    /// Checks the fields.
    ///
    /// # Errors
    /// [`Error::Option`] names the first field that is impossible.
    pub fn validate(&self) -> Result<()> {
        let check = |name, value: f64, holds: bool, expected| {
            if holds { Ok(()) } else { Err(Error::Option { name, value: value.to_string(), expected }) }
        };
        check("reward.scale", self.scale, self.scale > 0.0 && self.scale.is_finite(), "a number above zero")?;
        check("reward.floor", self.floor, self.floor.is_finite(), "a number")?;
        let weight = self.bits_weight;
        check("reward.bits_weight", weight, weight >= 0.0 && weight.is_finite(), "a number, not negative")?;
        if let Some(bits) = self.target_bits {
            check("reward.target_bits", bits, bits > 0.0 && bits.is_finite(), "a number above zero")?;
        }
        if let Some([low, high]) = self.clip {
            check(
                "reward.clip",
                low,
                low.is_finite() && high.is_finite() && low < high,
                "below its upper bound",
            )?;
        }
        Ok(())
    }

    /// The reward of an episode; `None` where the evaluation gave no number.
    #[must_use]
    pub fn reward(&self, outcome: Option<Outcome>, reference: &Reference) -> f64 {
        let raw = outcome.map_or(f64::NAN, |outcome| self.raw(outcome, reference));
        let raw = if raw.is_nan() { self.floor } else { raw };
        self.scale * self.clip.map_or(raw, |[low, high]| raw.clamp(low, high))
    }

    fn raw(&self, outcome: Outcome, reference: &Reference) -> f64 {
        let Outcome { kld, perplexity, mean_bits } = outcome;
        let base = reference.base_perplexity;
        // A divergence of nothing is worth no more than this share of the uniform one.
        let least = 1e-9 * reference.uniform_kld.max(f64::MIN_POSITIVE);
        let quality = match self.quality {
            QualityReward::Eq19 => quality_reward(perplexity, base),
            QualityReward::Eq19Swapped => {
                let ratio = perplexity / base;
                if ratio <= 1.0 { 5.0 * (1.0 - ratio) } else { -10.0 * (ratio - 1.0) }
            }
            QualityReward::LnRatio => {
                let uniform = (reference.uniform_perplexity / base).ln().abs().max(1e-9);
                -(perplexity / base).ln() / uniform
            }
            QualityReward::Kld => -kld / reference.uniform_kld.max(1e-9),
            QualityReward::LnKld => -(kld.max(least) / reference.uniform_kld.max(f64::MIN_POSITIVE)).ln(),
            QualityReward::Naive => base / perplexity - self.bits_weight * mean_bits,
            QualityReward::Linear => -(perplexity / base - 1.0) - self.bits_weight * mean_bits,
        };
        let target = self.target_bits.unwrap_or(reference.target_bits);
        quality
            + match self.penalty {
                BudgetPenalty::Eq20 => budget_penalty(mean_bits, target),
                BudgetPenalty::Continuous => continuous_budget_penalty(mean_bits, target),
                BudgetPenalty::None => 0.0,
            }
    }

    /// How much the scaled reward falls for each nat of divergence near `kld`, where that is known; what perplexities say
    /// is taken for as much.
    pub(crate) fn slope(&self, kld: f64, reference: &Reference) -> f64 {
        let unit = match self.quality {
            QualityReward::LnKld => kld,
            _ => reference.uniform_kld,
        };
        self.scale / unit.max(1e-9)
    }
}

/// What an episode came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    /// KL divergence in nats.
    pub kld: f64,
    /// Perplexity.
    pub perplexity: f64,
    /// Mean nominal bits over the block matrices.
    pub mean_bits: f64,
}

/// What rewards are measured against, on the same tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reference {
    /// Perplexity of the unquantized model.
    pub base_perplexity: f64,
    /// KL divergence of the uniform allocation of the same budget in nats.
    pub uniform_kld: f64,
    /// Its perplexity.
    pub uniform_perplexity: f64,
    /// Its mean nominal bits over the block matrices.
    pub target_bits: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quality_as_printed() {
        assert_eq!(quality_reward(5.0, 5.0), 0.0);
        assert!((quality_reward(4.5, 5.0) - 1.0).abs() < 1e-12);
        assert!((quality_reward(5.5, 5.0) + 0.5).abs() < 1e-12);
    }

    #[test]
    fn penalty_as_printed_with_its_jump() {
        assert_eq!(budget_penalty(3.65, 4.0), 0.0);
        assert!((budget_penalty(4.25, 4.0) + 0.5).abs() < 1e-12);
        // The cliff is inverted: just above the ceiling costs next to nothing.
        assert!(budget_penalty(4.2501, 4.0) > -1e-6);
        assert!(budget_penalty(4.4082, 4.0) < -0.5);
        assert!((paper_reward(5.5, 5.0, 4.1, 4.0) - (-0.5 - 0.2)).abs() < 1e-9);
    }

    const REFERENCE: Reference =
        Reference { base_perplexity: 5.0, uniform_kld: 0.02, uniform_perplexity: 5.5, target_bits: 4.0 };

    fn reward(config: RewardConfig, kld: f64, perplexity: f64, mean_bits: f64) -> f64 {
        config.validate().unwrap();
        config.reward(Some(Outcome { kld, perplexity, mean_bits }), &REFERENCE)
    }

    #[test]
    fn sound_rewards_are_fixed_at_uniform_and_bounded() {
        let sound = RewardConfig::sound();
        assert_eq!(reward(sound, 0.02, 5.5, 4.0), -1.0);
        assert_eq!(reward(sound, 0.0, 5.0, 4.0), 0.0);
        assert_eq!(reward(sound, 1e9, 9e9, 4.0), -5.0);
        let logarithmic = RewardConfig::logarithmic();
        assert_eq!(reward(logarithmic, 0.02, 5.5, 4.0), 0.0);
        assert!((reward(logarithmic, 0.01, 5.2, 4.0) - 2.0f64.ln()).abs() < 1e-12);
        assert_eq!(reward(logarithmic, 0.0, 5.0, 4.0), 5.0);
    }

    #[test]
    fn what_is_no_number_gets_the_floor() {
        let config = RewardConfig { floor: -3.0, scale: 2.0, ..RewardConfig::paper() };
        assert_eq!(config.reward(None, &REFERENCE), -6.0);
        assert_eq!(reward(config, f64::NAN, f64::NAN, 4.0), -6.0);
        assert_eq!(reward(RewardConfig::sound(), f64::NAN, 5.0, 4.0), -5.0);
        assert_eq!(reward(RewardConfig::sound(), f64::INFINITY, 5.0, 4.0), -5.0);
    }

    #[test]
    fn each_quality_by_hand() {
        let with = |quality| RewardConfig { quality, penalty: BudgetPenalty::None, ..RewardConfig::paper() };
        let at = |quality, perplexity| reward(with(quality), 0.01, perplexity, 4.5);
        assert!((at(QualityReward::Eq19, 5.5) + 0.5).abs() < 1e-12);
        assert!((at(QualityReward::Eq19Swapped, 5.5) + 1.0).abs() < 1e-12);
        assert!((at(QualityReward::Eq19Swapped, 4.5) - 0.5).abs() < 1e-12);
        assert!((at(QualityReward::LnRatio, 5.5) + 1.0).abs() < 1e-12);
        assert!((at(QualityReward::Naive, 5.5) - (5.0 / 5.5 - 0.45)).abs() < 1e-12);
        assert!((at(QualityReward::Linear, 5.5) - (-0.1 - 0.45)).abs() < 1e-12);
        // Eq. 21 is the paper's own configuration.
        let paper = reward(RewardConfig::paper(), 0.01, 5.5, 4.1);
        assert_eq!(paper, paper_reward(5.5, 5.0, 4.1, 4.0));
        let fixed = RewardConfig { target_bits: Some(4.1), ..RewardConfig::paper() };
        assert!((reward(fixed, 0.01, 5.5, 4.1) + 0.5).abs() < 1e-12);
    }

    #[test]
    fn the_mended_penalty_has_no_jump_and_only_falls() {
        for step in 0..200 {
            let bits = |step: i32| 3.9 + f64::from(step) * 0.005;
            let fall =
                continuous_budget_penalty(bits(step), 4.0) - continuous_budget_penalty(bits(step + 1), 4.0);
            assert!((0.0..0.2).contains(&fall), "{step}: {fall}");
        }
        assert_eq!(continuous_budget_penalty(4.2, 4.0), budget_penalty(4.2, 4.0));
    }

    #[test]
    fn impossible_rewards_are_named() {
        type Break = fn(&mut RewardConfig);
        let cases: [(&str, Break); 5] = [
            ("reward.scale", |c| c.scale = 0.0),
            ("reward.floor", |c| c.floor = f64::NAN),
            ("reward.bits_weight", |c| c.bits_weight = -1.0),
            ("reward.target_bits", |c| c.target_bits = Some(f64::INFINITY)),
            ("reward.clip", |c| c.clip = Some([1.0, 1.0])),
        ];
        for (name, spoil) in cases {
            let mut config = RewardConfig::sound();
            spoil(&mut config);
            assert!(config.validate().unwrap_err().to_string().starts_with(name));
        }
    }
}
