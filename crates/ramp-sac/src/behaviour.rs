//! Behaviour cloning: start the actor from known good actions, such as the solutions of a solver.

use rand::Rng;

use crate::{
    agent::Agent,
    config::check,
    error::{Error, Result},
    networks::{Optimizer, Wrt},
};

impl Agent {
    /// Fits the deterministic action sigmoid(µ(s)) to `actions` with `steps` minibatches of mean squared
    /// error, and returns that error over all pairs afterwards. Only the actor changes, by an Adam of its
    /// own, so the moments of later SAC updates are not disturbed. Its spread is not part of the loss, but
    /// moves with the layers that it shares with µ.
    ///
    /// # Errors
    /// [`Error::Length`] if the lists are empty, differ in length or hold a row of the wrong length;
    /// [`Error::Value`] if a number is malformed; [`Error::Config`] if `lr` is not positive;
    /// [`Error::Diverged`] if the final error is not finite; [`Error::Device`] if the actor cannot be
    /// read.
    pub fn clone_behaviour(
        &mut self,
        states: &[Vec<f32>],
        actions: &[Vec<f32>],
        steps: usize,
        lr: f64,
    ) -> Result<f32> {
        let (flat_states, flat_actions) = self.check_pairs(states, actions)?;
        if states.is_empty() {
            return Err(Error::Length { what: "list of states", found: 0, expected: 1 });
        }
        check("lr", lr, lr > 0.0 && lr.is_finite(), "positive and finite")?;
        let (state_dim, action_dim) = (self.config.state_dim, self.config.action_dim);
        let batch = self.config.batch_size.min(states.len());
        let mut adam = Optimizer::new(&self.learner.actor, self.config.adam_epsilon, self.config.grad_clip);
        let squash = self.config.squash;
        let share = 1.0 / (batch * action_dim) as f64;
        for _ in 0..steps {
            let picks: Vec<usize> =
                (0..batch).map(|_| self.learner.learn_rng.random_range(0..states.len())).collect();
            let gather = |from: &[f32], width: usize| -> Vec<f32> {
                picks.iter().flat_map(|&row| &from[row * width..(row + 1) * width]).copied().collect()
            };
            let (s, a) = (gather(&flat_states, state_dim), gather(&flat_actions, action_dim));
            let (outputs, tape) = self.learner.actor.forward_tape(&s, Wrt::Params)?;
            let mut outer = vec![0.0; outputs.len()];
            let rows = outputs.chunks_exact(2 * action_dim).zip(a.chunks_exact(action_dim));
            for (outer, (output, a)) in outer.chunks_exact_mut(2 * action_dim).zip(rows) {
                for ((outer, &mu), &a) in outer.iter_mut().zip(&output[..action_dim]).zip(a) {
                    let error = f64::from(squash.action(mu)) - f64::from(a);
                    *outer = (2.0 * error * squash.slope(f64::from(mu)) * share) as f32;
                }
            }
            let grads = self.learner.actor.backward(&tape, &outer);
            adam.step(&mut self.learner.actor, grads, lr);
        }
        self.policy = None;

        let cloned = self.act_batch(states, crate::ActMode::Deterministic)?.concat();
        let squared = cloned.iter().zip(&flat_actions).map(|(c, a)| f64::from(c - a).powi(2)).sum::<f64>();
        let loss = squared / flat_actions.len() as f64;
        if loss.is_finite() {
            return Ok(loss as f32);
        }
        Err(Error::Diverged { what: "behaviour cloning loss", value: loss, update: self.learner.updates })
    }
}
