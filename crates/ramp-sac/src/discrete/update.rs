//! One update of the categorical agent, in the order of `update.rs`; expectations over actions are exact.

use super::DiscreteAgent;
use crate::{
    categorical::Categorical, critic, error::Result, networks::Wrt, replay::Batch, update::UpdateMetrics,
};

impl DiscreteAgent {
    /// One gradient step of critics, actor and temperature on one minibatch, then one step of the targets. `None`
    /// while the replay buffer holds fewer than `batch_size` transitions.
    ///
    /// # Errors
    /// [`Error::Diverged`](crate::Error::Diverged) if a loss is NaN or infinite;
    /// [`Error::Device`](crate::Error::Device) if outputs cannot be read.
    pub fn update(&mut self) -> Result<Option<UpdateMetrics>> {
        let (lookahead, gamma) = (self.config.target.lookahead(), self.config.gamma);
        let Some(batch) =
            self.learner.replay.sample(self.config.batch_size, lookahead, gamma, &mut self.learner.learn_rng)
        else {
            return Ok(None);
        };
        let (lr, alpha) = (self.config.lr, self.learner.temperature.alpha());
        let n = self.config.actions;
        let size = self.config.batch_size;

        // Critics: L(θ) = E[(Q_θ₁(s)[a] - y)²] + E[(Q_θ₂(s)[a] - y)²]: other actions have no slope.
        let y = self.target(&batch, alpha)?;
        let (q, tape) = self.learner.critics.forward_tape(&batch.states, Wrt::Params)?;
        let taken = |row: usize| row * n + batch.actions[row % size] as usize;
        let q_taken: Vec<f32> = (0..2 * size).map(|row| q[taken(row)]).collect();
        let mean_q = critic::mean(q_taken.iter().map(|&q| f64::from(q)));
        let (critic_loss, slopes) = critic::twin_loss(&q_taken, &y);
        let mut outer = vec![0.0; q.len()];
        for (row, slope) in slopes.into_iter().enumerate() {
            outer[taken(row)] = slope;
        }
        let grads = self.learner.critics.backward(&tape, &outer);
        self.learner.critic_adam.step(&mut self.learner.critics, grads, lr);

        // Actor: L(φ) = E[Σ π(a|s) (α log π(a|s) - min Q_θ(s)[a])], θ a constant.
        let least = critic::least(&self.learner.critics.forward(&batch.states)?);
        let (logits, tape) = self.learner.actor.forward_tape(&batch.states, Wrt::Params)?;
        let (mut actor_loss, mut entropy, mut target_entropy) = (0.0, 0.0, 0.0);
        let mut outer = Vec::with_capacity(logits.len());
        let rows = logits.chunks_exact(n).zip(batch.masks.chunks_exact(n)).zip(least.chunks_exact(n));
        for ((logits, mask), q) in rows {
            let policy = Categorical::new(logits, mask);
            let values: Vec<f64> =
                policy.log.iter().zip(q).map(|(log, (q, _))| alpha * log - f64::from(*q)).collect();
            actor_loss += policy.expect(&values) / size as f64;
            entropy += policy.entropy() / size as f64;
            target_entropy +=
                self.config.entropy_fraction * mask.iter().sum::<f32>().ln() as f64 / size as f64;
            outer.extend(policy.pull_back(&values).into_iter().map(|slope| (slope / size as f64) as f32));
        }
        let grads = self.learner.actor.backward(&tape, &outer);
        self.learner.actor_adam.step(&mut self.learner.actor, grads, lr);
        self.policy = None;

        // Temperature: L(α) = -α E[H̄(s) - H(s)] with the sign of `Temperature::update`.
        let alpha_loss =
            self.learner.temperature.update(-entropy, target_entropy, lr, self.config.adam_epsilon);

        if self.config.target.bootstraps() {
            self.learner.targets.follow(&self.learner.critics, self.config.tau);
        }
        let alpha = self.learner.temperature.alpha();
        let metrics = UpdateMetrics { critic_loss, actor_loss, alpha_loss, alpha, entropy, mean_q };
        metrics.check_finite(self.learner.updates)?;
        self.learner.updates += 1;
        Ok(Some(metrics))
    }

    /// y, `[batch]`: r + γ (1 - d) Σ π(a'|s') (min Q_θ̄(s')[a'] - α log π(a'|s')), the same n steps later, or the stored
    /// return.
    pub(super) fn target(&self, batch: &Batch, alpha: f64) -> Result<Vec<f32>> {
        if !self.config.target.bootstraps() {
            return Ok(batch.returns.clone());
        }
        let n = self.config.actions;
        let least = critic::least(&self.learner.targets.forward(&batch.next_states)?);
        let logits = self.learner.actor.forward(&batch.next_states)?;
        let rows = logits.chunks_exact(n).zip(batch.next_masks.chunks_exact(n)).zip(least.chunks_exact(n));
        Ok(rows
            .zip(batch.rewards.iter().zip(&batch.discounts))
            .map(|(((logits, mask), q), (&reward, &discount))| {
                let policy = Categorical::new(logits, mask);
                let values: Vec<f64> =
                    policy.log.iter().zip(q).map(|(log, (q, _))| f64::from(*q) - alpha * log).collect();
                let future = if discount == 0.0 { 0.0 } else { discount * policy.expect(&values) };
                (f64::from(reward) + future) as f32
            })
            .collect())
    }
}
