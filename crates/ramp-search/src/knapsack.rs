//! The allocation of least additive cost: a multiple-choice knapsack, solved exactly.

use serde::{Deserialize, Serialize};

use crate::{
    problem::{Choices, Problem},
    sensitivity::Sensitivity,
};

/// Bins of the dynamic program. Where the budget has more units than this, costs are rounded up to larger
/// units; what that leaves unused is spent greedily.
const MAX_BINS: u64 = 1 << 18;

/// Minimises the predicted cost within the budget by dynamic programming.
///
/// Exact when the budget, in units of the greatest common divisor of all cost steps, has at most 2^18 units
/// (files up to 8 MiB at 32-byte alignment, larger ones when their matrices have common sizes, as they do);
/// beyond that within one unit per layer of it.
#[must_use]
pub fn knapsack(problem: &Problem, sensitivity: &Sensitivity) -> Choices {
    let slots = problem.slots();
    let extra = |slot: usize, choice: usize| problem.choice_cost(slot, choice) - problem.choice_cost(slot, 0);
    let room = problem.capacity() - problem.cost(&problem.floor());
    let steps = (0..slots.len()).flat_map(|s| (0..slots[s].choices.len()).map(move |c| (s, c)));
    let unit = steps.map(|(s, c)| extra(s, c)).fold(0, gcd).max(1);
    let unit = unit.max((room / MAX_BINS + 1).next_multiple_of(unit));
    let bins = (room / unit) as usize;

    // best[r]: least cost of the slots so far within r units; picks[slot][r]: the choice that gives it.
    let mut best = vec![0.0f64; bins + 1];
    let mut picks: Vec<Vec<u8>> = Vec::with_capacity(slots.len());
    for (slot, options) in slots.iter().enumerate() {
        let mut next = vec![f64::INFINITY; bins + 1];
        let mut pick = vec![0u8; bins + 1];
        for choice in 0..options.choices.len() {
            let need = extra(slot, choice).div_ceil(unit) as usize;
            let cost = sensitivity.get(slot, choice);
            for room in need..=bins {
                let candidate = best[room - need] + cost;
                if candidate < next[room] {
                    next[room] = candidate;
                    pick[room] = choice as u8;
                }
            }
        }
        best = next;
        picks.push(pick);
    }

    let mut room = bins;
    let mut choices = vec![0; slots.len()];
    for slot in (0..slots.len()).rev() {
        let choice = usize::from(picks[slot][room]);
        choices[slot] = choice;
        room -= extra(slot, choice).div_ceil(unit) as usize;
    }
    fill(problem, &mut choices, |slot, choice| -sensitivity.get(slot, choice));
    choices
}

/// Spends what is left of the budget: raises, one step at a time, the slot that gains most value for its cost.
pub fn fill(problem: &Problem, choices: &mut [usize], value: impl Fn(usize, usize) -> f64) {
    let mut left = problem.capacity().saturating_sub(problem.cost(choices));
    loop {
        let gain = |slot: usize| {
            let choice = choices[slot];
            let cost = (choice + 1 < problem.slots()[slot].choices.len())
                .then(|| problem.choice_cost(slot, choice + 1) - problem.choice_cost(slot, choice))?;
            let gain = value(slot, choice + 1) - value(slot, choice);
            (cost <= left && gain > 0.0).then(|| (slot, cost, gain / cost.max(1) as f64))
        };
        let best = (0..choices.len()).filter_map(gain).max_by(|a, b| a.2.total_cmp(&b.2).then(b.0.cmp(&a.0)));
        let Some((slot, cost, _)) = best else { return };
        choices[slot] += 1;
        left -= cost;
    }
}

/// The price of a unit of budget at the knapsack's optimum: what the cheapest further improvement would gain
/// for each unit, in cost per unit.
///
/// Taken from the Lagrangian relaxation by bisection: the largest price at which the relaxed allocation still
/// uses the whole budget.
#[must_use]
pub fn shadow_price(problem: &Problem, sensitivity: &Sensitivity) -> f64 {
    let relaxed = |price: f64| -> Choices {
        (0..problem.slots().len())
            .map(|slot| {
                let total = |choice: usize| {
                    price.mul_add(problem.choice_cost(slot, choice) as f64, sensitivity.get(slot, choice))
                };
                (0..problem.slots()[slot].choices.len())
                    .min_by(|&a, &b| total(a).total_cmp(&total(b)))
                    .unwrap_or(0)
            })
            .collect()
    };
    let (mut low, mut high) = (0.0, 1.0);
    // The search range in cost per unit spans every plausible scale: nats per byte of a phone model to a
    // server model, and nats per thousandth of a bit.
    for _ in 0..200 {
        let middle = 0.5 * (low + high);
        if problem.fits(&relaxed(middle)) {
            high = middle;
        } else {
            low = middle;
        }
    }
    high
}

/// How far a knapsack's allocation can be from the best one, as far as the sensitivities are true.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Certificate {
    /// Cost that the sensitivities predict for the allocation, in nats where they are measured.
    pub predicted: f64,
    /// No allocation within the budget has a lower predicted cost.
    pub lower_bound: f64,
}

impl Certificate {
    /// The bound of the Lagrangian relaxation, `max_λ Σ_i min_c (s_i(c) + λ b_i(c)) - λ B` for λ >= 0: the budget `B`
    /// is left away and its use has a price instead, so that any λ gives a lower bound. The λ taken is
    /// [`shadow_price`].
    #[must_use]
    pub fn new(problem: &Problem, sensitivity: &Sensitivity, choices: &[usize]) -> Self {
        let dual = |price: f64| -> f64 {
            let least = (0..problem.slots().len()).map(|slot| {
                let total = |choice: usize| {
                    price.mul_add(problem.choice_cost(slot, choice) as f64, sensitivity.get(slot, choice))
                };
                (0..problem.slots()[slot].choices.len()).map(total).fold(f64::INFINITY, f64::min)
            });
            least.sum::<f64>() - price * problem.capacity() as f64
        };
        let predicted = sensitivity.predict(choices);
        // At a price of zero it is the sum of the best choices, a bound, too.
        let bound = dual(shadow_price(problem, sensitivity)).max(dual(0.0));
        // Rounding may put the bound above the optimum by a few ulps.
        Self { predicted, lower_bound: bound.min(predicted) }
    }
}

const fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}
