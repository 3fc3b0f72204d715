//! One update: critics, actor, temperature, targets, in the order of Section 3.3 and in its symbols.

use burn::tensor::Tensor;
use rand::Rng;
use rand_distr::StandardNormal;
use serde::{Deserialize, Serialize};

use crate::{
    agent::Agent,
    config::TargetKind,
    critic,
    error::{Error, Result},
    mlp::read,
    polyak::polyak,
    replay::Batch,
};

/// What one update saw; means over its minibatch, before the parameters changed except for `alpha`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct UpdateMetrics {
    /// MSE(Q₁, y) + MSE(Q₂, y), in squared reward units.
    pub critic_loss: f64,
    /// E[α log π - min Q], in reward units.
    pub actor_loss: f64,
    /// -α E[log π + H̄]; 0 if α is fixed.
    pub alpha_loss: f64,
    /// Entropy coefficient after the update.
    pub alpha: f64,
    /// -E[log π] of the current policy in nats.
    pub entropy: f64,
    /// Mean of both critics over the stored actions, in reward units.
    pub mean_q: f64,
}

impl Agent {
    /// One gradient step of critics, actor and temperature on one minibatch, then one step of the
    /// targets. `None` while the replay buffer holds fewer than `batch_size` transitions.
    ///
    /// # Errors
    /// [`Error::Diverged`] if a loss is NaN or infinite; [`Error::Device`] if the losses cannot be read.
    pub fn update(&mut self) -> Result<Option<UpdateMetrics>> {
        let Some(batch) = self.replay.sample(self.config.batch_size, &mut self.learn_rng) else {
            return Ok(None);
        };
        let (lr, alpha) = (self.config.lr, self.temperature.alpha());
        let s = self.rows(&batch.states, self.config.state_dim);
        let a = self.rows(&batch.actions, self.config.action_dim);

        // Critics: L(θ) = E[(Q_θ₁(s, a) - y)²] + E[(Q_θ₂(s, a) - y)²], y a constant.
        let y = self.target(&batch, alpha);
        let q = critic::twin_q(&self.critics, s.clone().autodiff(), a.autodiff());
        let mean_q = q.clone().without_autodiff().mean();
        let critic_loss = (q - y.autodiff().unsqueeze()).square().mean() * 2.0;
        self.critic_adam.step(&mut self.critics, critic_loss.backward(), lr);

        // Actor: L(φ) = E[α log π_φ(ã|s) - min Q_θ(s, ã)], ã ~ π_φ reparameterised, θ a constant.
        let epsilon = self.noise();
        let s = s.autodiff();
        let (sampled, log_pi) = self.actor.sample(s.clone(), epsilon.autodiff());
        let min_q = critic::min_q(&self.critics.frozen(), s, sampled);
        let mean_log_pi = log_pi.clone().without_autodiff().mean();
        let actor_loss = (log_pi * alpha - min_q).mean();
        self.actor_adam.step(&mut self.actor.net, actor_loss.backward(), lr);
        self.policy = None;

        // The one synchronisation with the device.
        let losses = [critic_loss.without_autodiff(), actor_loss.without_autodiff(), mean_log_pi, mean_q];
        let losses = read(Tensor::cat(losses.to_vec(), 0))?;
        let [critic_loss, actor_loss, mean_log_pi, mean_q] = std::array::from_fn(|i| f64::from(losses[i]));

        // Temperature: L(α) = -α E[log π + H̄].
        let alpha_loss = self.temperature.update(mean_log_pi, &self.config);

        // Targets: θ̄ ← (1 - τ) θ̄ + τ θ. Monte-Carlo regression has none.
        if self.config.target == TargetKind::Td0 {
            let targets = self.targets.clone();
            self.targets = polyak(targets, &self.critics, self.config.tau);
        }

        let (alpha, entropy) = (self.temperature.alpha(), -mean_log_pi);
        let metrics = UpdateMetrics { critic_loss, actor_loss, alpha_loss, alpha, entropy, mean_q };
        self.check_finite(&metrics)?;
        self.updates += 1;
        Ok(Some(metrics))
    }

    /// y, `[batch, 1]` without autodiff: r + γ (1 - d) (min Q_θ̄(s', a') - α log π(a'|s')) with
    /// a' ~ π(·|s') (Eq. 18), or the stored return. Eq. 15 prints the entropy with the wrong sign and
    /// the online critics; Eq. 18 has both right.
    fn target(&mut self, batch: &Batch, alpha: f64) -> Tensor<2> {
        if self.config.target == TargetKind::MonteCarlo {
            return self.rows(&batch.returns, 1);
        }
        let next = self.rows(&batch.next_states, self.config.state_dim);
        let epsilon = self.noise();
        let (next_action, next_log_pi) = self.actor.plain().sample(next.clone(), epsilon);
        let next_q = critic::min_q(&self.targets, next, next_action);
        let future = (next_q - next_log_pi * alpha) * self.config.gamma;
        self.rows(&batch.rewards, 1) + self.rows(&batch.continues, 1) * future
    }

    /// Standard normal noise `[batch, action]` without autodiff.
    fn noise(&mut self) -> Tensor<2> {
        let len = self.config.batch_size * self.config.action_dim;
        let values: Vec<f32> = (0..len).map(|_| self.learn_rng.sample(StandardNormal)).collect();
        self.rows(&values, self.config.action_dim)
    }

    fn check_finite(&self, metrics: &UpdateMetrics) -> Result<()> {
        let named = [
            ("critic loss", metrics.critic_loss),
            ("actor loss", metrics.actor_loss),
            ("entropy", metrics.entropy),
            ("alpha", metrics.alpha),
        ];
        match named.into_iter().find(|(_, value)| !value.is_finite()) {
            None => Ok(()),
            Some((what, value)) => Err(Error::Diverged { what, value, update: self.updates }),
        }
    }
}

#[cfg(test)]
#[path = "update_tests.rs"]
mod tests;
