//! One update: critics, actor, temperature, targets, in the order of Section 3.3 and in its symbols.

use rand::Rng;
use rand_distr::StandardNormal;
use serde::{Deserialize, Serialize};

use crate::{
    actor::Samples,
    agent::Agent,
    critic,
    error::{Error, Result},
    learner::Learner,
    networks::{Wrt, beside},
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
        let lookahead = self.config.target.lookahead();
        let Some(batch) = self.learner.replay.sample(
            self.config.batch_size,
            lookahead,
            self.config.gamma,
            &mut self.learner.learn_rng,
        ) else {
            return Ok(None);
        };
        self.learn(&batch).map(Some)
    }

    /// One gradient step of everything on a minibatch of any number of rows.
    pub(crate) fn learn(&mut self, batch: &Batch) -> Result<UpdateMetrics> {
        let (lr, alpha) = (self.config.lr, self.learner.temperature.alpha());
        let dims = [self.config.state_dim, self.config.action_dim];

        // Three passes that wait for none of the others: y, Q_θ(s, a), and the actor's outputs.
        let rows = batch.rewards.len();
        let next_noise = if self.config.target.bootstraps() { self.noise(rows) } else { Vec::new() };
        let noise = self.noise(rows);
        let threads = self.learner.actor.shares_threads(rows);
        let this = &*self;
        let (y, (q, outputs)) = beside(
            threads,
            || this.target(batch, &next_noise, alpha),
            || {
                let input = critic::join(&batch.states, &batch.actions, dims);
                beside(
                    threads,
                    || this.learner.critics.forward_tape(&input, Wrt::Params),
                    || this.learner.actor.forward_tape(&batch.states, Wrt::Params),
                )
            },
        );
        let (y, (q, tape), (outputs, actor_tape)) = (y?, q?, outputs?);

        // Critics: L(θ) = E[(Q_θ₁(s, a) - y)²] + E[(Q_θ₂(s, a) - y)²], y a constant.
        let mean_q = critic::mean(q.iter().map(|&q| f64::from(q)));
        let (critic_loss, outer) = critic::twin_loss(&q, &y);
        let grads = self.learner.critics.backward(&tape, &outer);
        self.learner.critic_adam.step(&mut self.learner.critics, grads, lr);

        // Actor: L(φ) = E[α log π_φ(ã|s) - min Q_θ(s, ã)], ã ~ π_φ reparameterised, θ a constant.
        let ActorStep { slopes, loss: actor_loss, mean_log_pi } =
            self.actor_slopes(&batch.states, &outputs, &noise, alpha)?;
        let Learner { actor, actor_adam, targets, critics, .. } = &mut self.learner;
        let learn = || {
            let grads = actor.backward(&actor_tape, &slopes);
            actor_adam.step(actor, grads, lr);
        };
        // Targets: θ̄ ← (1 - τ) θ̄ + τ θ. Monte-Carlo regression has none.
        let follow = || {
            if self.config.target.bootstraps() {
                targets.follow(critics, self.config.tau);
            }
        };
        beside(threads, learn, follow);
        self.policy = None;

        // Temperature: L(α) = -α E[log π + H̄].
        let alpha_loss = self.learner.temperature.update(
            mean_log_pi,
            self.config.target_entropy,
            lr,
            self.config.adam_epsilon,
        );

        let (alpha, entropy) = (self.learner.temperature.alpha(), -mean_log_pi);
        let metrics = UpdateMetrics { critic_loss, actor_loss, alpha_loss, alpha, entropy, mean_q };
        metrics.check_finite(self.learner.updates)?;
        self.learner.updates += 1;
        Ok(metrics)
    }

    /// E[α log π(ã|s) - min Q(s, ã)] and its slopes at the actor's `outputs` for `states`. The critics are constants.
    fn actor_slopes(&self, states: &[f32], outputs: &[f32], noise: &[f32], alpha: f64) -> Result<ActorStep> {
        let dims @ [state_dim, action_dim] = [self.config.state_dim, self.config.action_dim];
        let sampled = self.gaussian.sample(outputs, noise, action_dim);
        let input = critic::join(states, &sampled.actions, dims);
        let (q, tape) = self.learner.critics.forward_tape(&input, Wrt::Input)?;
        let least = critic::least(&q);
        // -min Q has a slope at the smaller critic only.
        let mut outer = vec![0.0; q.len()];
        for (row, (_, which)) in least.iter().enumerate() {
            outer[which * least.len() + row] = (-1.0 / least.len() as f64) as f32;
        }
        let by_input = self.learner.critics.backward_input(&tape, &outer)?;
        let (first, second) = by_input.split_at(by_input.len() / 2);
        let width = state_dim + action_dim;
        let rows = first.chunks_exact(width).zip(second.chunks_exact(width));
        let by_action: Vec<f32> =
            rows.flat_map(|(a, b)| a[state_dim..].iter().zip(&b[state_dim..]).map(|(a, b)| a + b)).collect();
        let mean_log_pi = critic::mean(sampled.log_pi.iter().copied());
        Ok(ActorStep {
            slopes: self.gaussian.pull_back(&sampled, alpha, &by_action),
            loss: alpha * mean_log_pi - critic::mean(least.iter().map(|(q, _)| f64::from(*q))),
            mean_log_pi,
        })
    }

    /// y, `[batch]`: r + γ (1 - d) (min Q_θ̄(s', a') - α log π(a'|s')) with a' ~ π(·|s') (Eq. 18), the same n steps
    /// later, or the stored return; `noise` draws a'. Eq. 15 prints the entropy with the wrong sign and the online
    /// critics; Eq. 18 has both right.
    fn target(&self, batch: &Batch, noise: &[f32], alpha: f64) -> Result<Vec<f32>> {
        if !self.config.target.bootstraps() {
            return Ok(batch.returns.clone());
        }
        let dims = [self.config.state_dim, self.config.action_dim];
        let next = self.sample(&batch.next_states, noise)?;
        let q = self.learner.targets.forward(&critic::join(&batch.next_states, &next.actions, dims))?;
        let values = critic::least(&q).into_iter().zip(next.log_pi);
        Ok(values
            .zip(batch.rewards.iter().zip(&batch.discounts))
            .map(|(((q, _), log_pi), (&reward, &discount))| {
                // Not `discount * soft`: behind a terminal state there may be anything.
                let future = if discount == 0.0 { 0.0 } else { discount * (f64::from(q) - alpha * log_pi) };
                (f64::from(reward) + future) as f32
            })
            .collect())
    }

    /// Actions for `states` `[batch, state]` from standard normal `noise` `[batch, action]`.
    fn sample(&self, states: &[f32], noise: &[f32]) -> Result<Samples> {
        Ok(self.gaussian.sample(&self.learner.actor.forward(states)?, noise, self.config.action_dim))
    }

    /// Standard normal noise `[batch, action]`.
    fn noise(&mut self, batch: usize) -> Vec<f32> {
        let len = batch * self.config.action_dim;
        (0..len).map(|_| self.learner.learn_rng.sample(StandardNormal)).collect()
    }
}

/// What the actor's loss says.
struct ActorStep {
    /// `[batch, 2 action]`
    slopes: Vec<f32>,
    loss: f64,
    mean_log_pi: f64,
}

impl UpdateMetrics {
    pub(crate) fn check_finite(&self, updates: u64) -> Result<()> {
        let named = [
            ("critic loss", self.critic_loss),
            ("actor loss", self.actor_loss),
            ("entropy", self.entropy),
            ("alpha", self.alpha),
        ];
        // The networks are f32: what does not fit there has no gradient either. Not `>`: a NaN must fail.
        let fits = |value: f64| value.abs() <= f64::from(f32::MAX);
        match named.into_iter().find(|(_, value)| !fits(*value)) {
            None => Ok(()),
            Some((what, value)) => Err(Error::Diverged { what, value, update: updates }),
        }
    }
}

#[cfg(test)]
#[path = "update_tests.rs"]
mod tests;
