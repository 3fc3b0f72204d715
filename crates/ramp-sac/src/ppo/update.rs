//! One update: some passes over the gathered steps, which are then forgotten.

use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use super::{Ppo, Rollout};
use crate::{
    categorical::Categorical,
    error::{Error, Result},
    networks::Wrt,
};

/// What one update saw; means over the minibatches of its last pass.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PpoMetrics {
    /// `-E[min(ρ A, clip(ρ, 1 - ε, 1 + ε) A)] - c E[entropy]`.
    pub actor_loss: f64,
    /// E[(V - return)²], in squared reward units.
    pub critic_loss: f64,
    /// Mean entropy of the policy in nats.
    pub entropy: f64,
    /// E[ρ - 1 - ln ρ], an estimate of the KL divergence from the policy that gathered the steps, in nats.
    pub kl: f64,
    /// Share of the steps whose ratio left the trusted interval.
    pub clipped: f64,
}

impl Ppo {
    /// Learns from the episodes gathered since the last update and forgets them. `None` if there are none.
    ///
    /// # Errors
    /// [`Error::Diverged`] if a loss is NaN or infinite; [`Error::Device`] if outputs cannot be read.
    pub fn update(&mut self) -> Result<Option<PpoMetrics>> {
        let rollout = std::mem::take(&mut self.rollout);
        let mut order: Vec<usize> = (0..rollout.actions.len()).collect();
        if order.is_empty() {
            return Ok(None);
        }
        let mut metrics = PpoMetrics::ZERO;
        for _ in 0..self.config.epochs {
            order.shuffle(&mut self.learn_rng);
            metrics = PpoMetrics::ZERO;
            for rows in order.chunks(self.config.batch_size) {
                let share = rows.len() as f64 / order.len() as f64;
                self.minibatch(&rollout, rows, share, &mut metrics)?;
            }
        }
        Ok(Some(metrics))
    }

    /// One gradient step of both networks; adds what it saw to `metrics`, weighted by `share`.
    fn minibatch(
        &mut self,
        rollout: &Rollout,
        rows: &[usize],
        share: f64,
        metrics: &mut PpoMetrics,
    ) -> Result<()> {
        let (width, n) = (self.config.state_dim, self.config.actions);
        let size = rows.len() as f64;
        let states: Vec<f32> =
            rows.iter().flat_map(|&row| &rollout.states[row * width..(row + 1) * width]).copied().collect();
        let (logits, tape) = self.actor.forward_tape(&states, Wrt::Params)?;
        let advantages = self.advantages_of(rollout, rows);
        let mut seen = PpoMetrics::ZERO;
        let mut outer = Vec::with_capacity(logits.len());
        for ((logits, &row), advantage) in logits.chunks_exact(n).zip(rows).zip(advantages) {
            let policy = Categorical::new(logits, &rollout.masks[row * n..(row + 1) * n]);
            let action = rollout.actions[row];
            let term = surrogate(policy.log[action], rollout.log_probs[row], advantage, self.config.clip);
            let entropy = policy.entropy();
            seen.actor_loss += term.loss - self.config.entropy_coefficient * entropy;
            seen.entropy += entropy;
            seen.kl += term.ratio - 1.0 - term.ratio.ln();
            seen.clipped += f64::from(u8::from((term.ratio - 1.0).abs() > self.config.clip));
            // -c H = c Σ π ln π.
            let by_entropy = policy.pull_back(&policy.log);
            for (at, p) in policy.probabilities.iter().enumerate() {
                // ∂ ln π(a) / ∂ z_j = [j = a] - π_j, 0 where an action is not allowed.
                let by_log = if at == action { 1.0 - p } else { -p };
                let slope = term.by_log_prob * by_log + self.config.entropy_coefficient * by_entropy[at];
                outer.push((slope / size) as f32);
            }
        }
        let grads = self.actor.backward(&tape, &outer);
        self.actor_adam.step(&mut self.actor, grads, self.config.lr);
        self.policy = None;

        let (values, tape) = self.critic.forward_tape(&states, Wrt::Params)?;
        let errors: Vec<f64> =
            values.iter().zip(rows).map(|(value, &row)| f64::from(*value) - rollout.returns[row]).collect();
        seen.critic_loss = errors.iter().map(|error| error * error).sum();
        let outer: Vec<f32> = errors.iter().map(|error| (2.0 * error / size) as f32).collect();
        let grads = self.critic.backward(&tape, &outer);
        self.critic_adam.step(&mut self.critic, grads, self.config.lr);

        metrics.add(&seen, share / size);
        for (what, value) in [("actor loss", seen.actor_loss), ("critic loss", seen.critic_loss)] {
            if !value.is_finite() {
                return Err(Error::Diverged { what, value, update: self.updates });
            }
        }
        self.updates += 1;
        Ok(())
    }

    fn advantages_of(&self, rollout: &Rollout, rows: &[usize]) -> Vec<f64> {
        let raw: Vec<f64> = rows.iter().map(|&row| rollout.advantages[row]).collect();
        if !self.config.normalise_advantages || raw.len() < 2 {
            return raw;
        }
        let n = raw.len() as f64;
        let mean = raw.iter().sum::<f64>() / n;
        let std = (raw.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt();
        raw.iter().map(|x| (x - mean) / (std + 1e-8)).collect()
    }
}

/// A step's part of the clipped objective.
pub(super) struct Surrogate {
    pub(super) loss: f64,
    /// Its slope at ln π(a|s).
    pub(super) by_log_prob: f64,
    /// π / π_old
    pub(super) ratio: f64,
}

/// -min(ρ A, clip(ρ, 1 - ε, 1 + ε) A) with ρ = π / π_old (Eq. 7): beyond the interval there is nothing to gain.
pub(super) fn surrogate(log_prob: f64, old: f64, advantage: f64, clip: f64) -> Surrogate {
    let ratio = (log_prob - old).exp();
    let (free, bounded) = (ratio * advantage, ratio.clamp(1.0 - clip, 1.0 + clip) * advantage);
    // ∂ ρ / ∂ ln π is ρ; the bounded term has a slope only inside, where it is the free one.
    let by_log_prob = if free <= bounded { -free } else { 0.0 };
    Surrogate { loss: -free.min(bounded), by_log_prob, ratio }
}

impl PpoMetrics {
    const ZERO: Self = Self { actor_loss: 0.0, critic_loss: 0.0, entropy: 0.0, kl: 0.0, clipped: 0.0 };

    fn add(&mut self, other: &Self, weight: f64) {
        self.actor_loss += weight * other.actor_loss;
        self.critic_loss += weight * other.critic_loss;
        self.entropy += weight * other.entropy;
        self.kl += weight * other.kl;
        self.clipped += weight * other.clipped;
    }
}
