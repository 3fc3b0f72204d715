//! The reward of an episode (Sec. 3.4 of the paper), as printed and as it can be learnt from.

use serde::{Deserialize, Serialize};

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

/// The reward of an episode in the paper, Eq. 21.
#[must_use]
pub fn paper_reward(perplexity: f64, base_perplexity: f64, mean_bits: f64, target: f64) -> f64 {
    quality_reward(perplexity, base_perplexity) + budget_penalty(mean_bits, target)
}

/// The scale of the sound reward: the uniform allocation of the same budget is worth -1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct KldReward {
    /// KL divergence of the uniform allocation in nats.
    pub uniform_kld: f64,
}

impl KldReward {
    /// `-KLD / KLD_uniform`, not below -5: a broken allocation must not blow up the critics.
    #[must_use]
    pub fn reward(&self, kld: f64) -> f64 {
        if !kld.is_finite() {
            return -5.0;
        }
        (-kld / self.uniform_kld.max(1e-9)).max(-5.0)
    }
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

    #[test]
    fn sound_reward_is_minus_one_at_uniform_and_bounded() {
        let reward = KldReward { uniform_kld: 0.02 };
        assert_eq!(reward.reward(0.02), -1.0);
        assert_eq!(reward.reward(0.0), 0.0);
        assert_eq!(reward.reward(1e9), -5.0);
        assert_eq!(reward.reward(f64::NAN), -5.0);
    }
}
