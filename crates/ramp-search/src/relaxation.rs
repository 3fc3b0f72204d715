//! The allocation problem between the formats: what an action in (0, 1) costs as a continuous number.
//!
//! A layer's formats are points on a curve. Between two of them the divergence interpolates geometrically and
//! the size linearly, so that the Lagrangian `divergence + price * size` has one minimum in the action. Where
//! each layer has its minimum is the classical reverse water-filling: bits grow with the logarithm of the
//! sensitivity. All layers then answer to a change of price by about the same shift of their action, which is
//! why a projection by one offset finds good allocations for other budgets, too.

use crate::{
    knapsack::shadow_price,
    problem::Problem,
    projection::{bin_centre, equal_bins},
    sensitivity::Sensitivity,
};

/// Steps of the grid on which the minimum is sought.
const GRID: usize = 400;
/// A divergence that counts as none, in nats; keeps logarithms finite.
const NEGLIGIBLE: f64 = 1e-12;
/// How far inside its bin an action is put that must stand for a given choice.
const MARGIN: f64 = 0.1;

/// The relaxed problem at the price where its budget binds.
#[derive(Clone, Debug)]
pub struct Relaxation<'a> {
    problem: &'a Problem,
    sensitivity: Sensitivity,
    /// Nats per unit of budget.
    price: f64,
    /// Minimum of the loss by slot: action and value.
    best: Vec<(f64, f64)>,
}

impl<'a> Relaxation<'a> {
    /// Finds the price and every slot's minimum.
    #[must_use]
    pub fn new(problem: &'a Problem, sensitivity: Sensitivity) -> Self {
        let price = shadow_price(problem, &sensitivity);
        let mut relaxation = Self { problem, sensitivity, price, best: Vec::new() };
        relaxation.best = (0..problem.slots().len())
            .map(|slot| {
                let at = |step: usize| step as f64 / GRID as f64;
                (0..=GRID)
                    .map(|step| (at(step), relaxation.loss(slot, at(step))))
                    .min_by(|a, b| a.1.total_cmp(&b.1))
                    .unwrap_or((0.5, 0.0))
            })
            .collect();
        relaxation
    }

    /// The measured costs.
    #[must_use]
    pub const fn sensitivity(&self) -> &Sensitivity {
        &self.sensitivity
    }

    /// `divergence + price * size` of an action in nats.
    #[must_use]
    pub fn loss(&self, slot: usize, action: f64) -> f64 {
        let n = self.problem.slots()[slot].choices.len();
        if n == 1 {
            return self.sensitivity.get(slot, 0);
        }
        // The middle of a bin is the format itself; the ends extrapolate by half a step.
        let position = action.clamp(0.0, 1.0).mul_add(n as f64, -0.5);
        let low = (position.floor().max(0.0) as usize).min(n - 2);
        let t = position - low as f64;
        let divergence = |choice: usize| self.sensitivity.get(slot, choice).max(NEGLIGIBLE).ln();
        let size = |choice: usize| self.problem.choice_cost(slot, choice) as f64;
        let lerp = |from: f64, to: f64| t.mul_add(to - from, from);
        let divergence = lerp(divergence(low), divergence(low + 1)).exp();
        self.price.mul_add(lerp(size(low), size(low + 1)) - size(0), divergence)
    }

    /// What an action loses against the slot's best one, in nats; not below zero.
    #[must_use]
    pub fn regret(&self, slot: usize, action: f64) -> f64 {
        (self.loss(slot, action) - self.best[slot].1).max(0.0)
    }

    /// The action of least loss of every slot.
    #[must_use]
    pub fn best_actions(&self) -> Vec<f64> {
        self.best.iter().map(|(action, _)| *action).collect()
    }

    /// Actions that stand for an allocation: the best ones where they agree with it, else the near edge of the
    /// bin that does.
    #[must_use]
    pub fn actions_for(&self, choices: &[usize]) -> Vec<f64> {
        let slots = self.problem.slots().iter().zip(choices);
        slots
            .zip(&self.best)
            .map(|((slot, &choice), &(action, _))| {
                let n = slot.choices.len();
                let half = (0.5 - MARGIN) / n as f64;
                if equal_bins(action, n) == choice {
                    action
                } else {
                    action.clamp(bin_centre(choice, n) - half, bin_centre(choice, n) + half)
                }
            })
            .collect()
    }
}
