//! The entropy coefficient α.

use serde::{Deserialize, Serialize};

use crate::host::adam::BETAS;

/// α, fixed or learned through log α with Adam. One number, so it lives on the host: the update needs
/// the mean of log π there anyway, for the metrics.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Temperature {
    /// α never changes.
    Fixed { alpha: f64 },
    /// α = exp(log α), so it stays positive.
    Learned { log_alpha: f64, moment_1: f64, moment_2: f64, time: u64 },
}

impl Temperature {
    pub(crate) fn new(init_alpha: f64, learned: bool) -> Self {
        if learned {
            Self::Learned { log_alpha: init_alpha.ln(), moment_1: 0.0, moment_2: 0.0, time: 0 }
        } else {
            Self::Fixed { alpha: init_alpha }
        }
    }

    pub(crate) fn alpha(&self) -> f64 {
        match *self {
            Self::Fixed { alpha } => alpha,
            Self::Learned { log_alpha, .. } => log_alpha.exp(),
        }
    }

    /// One Adam step on L(α) = -α (E[log π] + H̄), with log π taken as a constant. Returns the loss
    /// before the step, 0 if α is fixed. α rises while the entropy -E[log π] is below H̄.
    pub(crate) fn update(&mut self, mean_log_prob: f64, target_entropy: f64, lr: f64, epsilon: f64) -> f64 {
        let alpha = self.alpha();
        let Self::Learned { log_alpha, moment_1, moment_2, time } = self else {
            return 0.0;
        };
        let [beta_1, beta_2] = BETAS;
        let loss = -alpha * (mean_log_prob + target_entropy);
        // dL / d log α = α dL/dα, which is the loss itself.
        let grad = loss;
        *time += 1;
        *moment_1 = beta_1 * *moment_1 + (1.0 - beta_1) * grad;
        *moment_2 = beta_2 * *moment_2 + (1.0 - beta_2) * grad * grad;
        let steps = *time as f64;
        let mean = *moment_1 / (1.0 - beta_1.powf(steps));
        let spread = (*moment_2 / (1.0 - beta_2.powf(steps))).sqrt();
        *log_alpha -= lr * mean / (spread + epsilon);
        loss
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(steps: usize, entropy: f64) -> f64 {
        let mut temperature = Temperature::new(0.2, true);
        for _ in 0..steps {
            temperature.update(-entropy, -1.0, 3e-4, 1e-8);
        }
        temperature.alpha()
    }

    #[test]
    fn alpha_rises_below_the_target_entropy_and_falls_above_it() {
        let start = after(0, 0.0);
        assert!((start - 0.2).abs() < 1e-12);
        assert!(after(100, -2.0) > start, "entropy -2 is below the target of -1");
        assert!(after(100, -0.5) < start, "entropy -0.5 is above the target of -1");
        assert!((after(100, -1.0) - start).abs() < 1e-12, "at the target");
    }

    #[test]
    fn one_step_moves_log_alpha_by_the_learning_rate() {
        // Adam's first step is lr · sign(gradient), whatever the gradient's size.
        let ratio = after(1, -7.0) / 0.2;
        assert!((ratio.ln() - 3e-4).abs() < 1e-9, "{ratio}");
    }

    #[test]
    fn alpha_stays_positive_for_ever() {
        assert!(after(50_000, -0.01) > 0.0);
    }

    #[test]
    fn fixed_alpha_ignores_the_entropy() {
        let mut temperature = Temperature::new(0.0, false);
        assert_eq!(temperature.update(-3.0, -1.0, 3e-4, 1e-8), 0.0);
        assert_eq!(temperature.alpha(), 0.0);
    }
}
