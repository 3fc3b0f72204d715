//! Credit for single layers of a categorical agent: measured cost plus the price of bytes, against the layer's best.

use crate::{
    knapsack::shadow_price,
    problem::Problem,
    reward::{Outcome, Reference, RewardConfig},
    sensitivity::Sensitivity,
};

/// Bound of one layer's reward: a hopeless choice need not be told apart from a disastrous one.
const MAX_LAYER_REWARD: f64 = 5.0;

/// The Lagrangian of the additive problem at the price where its budget binds.
#[derive(Clone, Debug)]
pub(crate) struct Shaping {
    sensitivity: Sensitivity,
    /// Nats per unit of budget.
    price: f64,
    /// Least `divergence + price * cost` of each slot, in nats.
    least: Vec<f64>,
    anchor: Anchor,
}

/// A measured allocation that the others are compared with. Sensitivities of single layers do not add up to the divergence
/// of all: what they miss of the anchor is missed of its neighbours, too, and belongs to no choice.
#[derive(Clone, Copy, Debug, Default)]
struct Anchor {
    /// Its divergence in nats, on which the units of rewards are based.
    kld: f64,
    /// Its reward.
    reward: f64,
    /// The sum of its layers' own rewards.
    own: f64,
}

impl Shaping {
    /// `kld` sets the units of rewards: a divergence in nats like those to come.
    pub(crate) fn new(problem: &Problem, sensitivity: &Sensitivity, kld: f64) -> Self {
        let price = shadow_price(problem, sensitivity);
        let loss = |slot: usize, choice: usize| {
            price.mul_add(problem.choice_cost(slot, choice) as f64, sensitivity.get(slot, choice))
        };
        let least: Vec<f64> = (0..problem.slots().len())
            .map(|slot| {
                let choices = 0..problem.slots()[slot].choices.len();
                choices.map(|choice| loss(slot, choice)).fold(f64::INFINITY, f64::min)
            })
            .collect();
        let anchor = Anchor { kld, ..Anchor::default() };
        Self { sensitivity: sensitivity.clone(), price, least, anchor }
    }

    /// The same at another budget, in the same units.
    pub(crate) fn at(&self, problem: &Problem) -> Self {
        Self { anchor: self.anchor, ..Self::new(problem, &self.sensitivity, self.anchor.kld) }
    }

    /// Sets the allocation that others are compared with, its divergence and its reward.
    pub(crate) fn anchor(
        &mut self,
        problem: &Problem,
        choices: &[usize],
        kld: f64,
        config: &RewardConfig,
        outcome: Outcome,
        reference: &Reference,
    ) {
        self.anchor.kld = kld;
        let own = self.total(problem, choices, config, reference);
        self.anchor = Anchor { kld, reward: config.reward(Some(outcome), reference), own };
    }

    pub(crate) const fn sensitivity(&self) -> &Sensitivity {
        &self.sensitivity
    }

    /// What a choice loses against its slot's best one, in nats; not below zero.
    pub(crate) fn regret(&self, problem: &Problem, slot: usize, choice: usize) -> f64 {
        let cost = problem.choice_cost(slot, choice) as f64;
        (self.price.mul_add(cost, self.sensitivity.get(slot, choice)) - self.least[slot]).max(0.0)
    }

    /// A choice's own reward. Rewards are multiplied by the number of layers, so that one layer's is of order one.
    pub(crate) fn own(
        &self,
        problem: &Problem,
        slot: usize,
        choice: usize,
        reward: &RewardConfig,
        reference: &Reference,
    ) -> f64 {
        let scale = problem.slots().len() as f64 * reward.slope(self.anchor.kld, reference);
        (-self.regret(problem, slot, choice) * scale).max(-MAX_LAYER_REWARD)
    }

    /// What is missing from the sum of all layers' own rewards to the episode's reward, both against the anchor's.
    pub(crate) fn residual(
        &self,
        problem: &Problem,
        choices: &[usize],
        episode_reward: f64,
        reward: &RewardConfig,
        reference: &Reference,
    ) -> f64 {
        let own = self.total(problem, choices, reward, reference);
        choices.len() as f64 * (episode_reward - self.anchor.reward) - (own - self.anchor.own)
    }

    fn total(
        &self,
        problem: &Problem,
        choices: &[usize],
        reward: &RewardConfig,
        reference: &Reference,
    ) -> f64 {
        let own = |(slot, &choice): (usize, &usize)| self.own(problem, slot, choice, reward, reference);
        choices.iter().enumerate().map(own).sum()
    }
}
