//! Behaviour cloning: start the actor from known good actions, such as the solutions of a solver.

use burn::tensor::activation;
use rand::Rng;

use crate::{
    adam::Adam,
    agent::Agent,
    error::{Error, Result},
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
        if !(lr > 0.0 && lr.is_finite()) {
            return Err(Error::Config { field: "lr", value: lr.to_string(), rule: "positive and finite" });
        }
        let (state_dim, action_dim) = (self.config.state_dim, self.config.action_dim);
        let batch = self.config.batch_size.min(states.len());
        let mut adam = Adam::new(self.config.adam_epsilon, self.config.grad_clip);
        for _ in 0..steps {
            let picks: Vec<usize> =
                (0..batch).map(|_| self.learn_rng.random_range(0..states.len())).collect();
            let gather = |from: &[f32], width: usize| -> Vec<f32> {
                picks.iter().flat_map(|&row| &from[row * width..(row + 1) * width]).copied().collect()
            };
            let s = self.rows(&gather(&flat_states, state_dim), state_dim).autodiff();
            let a = self.rows(&gather(&flat_actions, action_dim), action_dim).autodiff();
            let (mu, _) = self.actor.distribution(s);
            let loss = (activation::sigmoid(mu) - a).square().mean();
            adam.step(&mut self.actor.net, loss.backward(), lr);
        }
        self.policy = None;

        let cloned = self.act_batch(states, crate::ActMode::Deterministic)?.concat();
        let squared = cloned.iter().zip(&flat_actions).map(|(c, a)| f64::from(c - a).powi(2)).sum::<f64>();
        let loss = squared / flat_actions.len() as f64;
        if loss.is_finite() {
            return Ok(loss as f32);
        }
        Err(Error::Diverged { what: "behaviour cloning loss", value: loss, update: self.updates })
    }
}
