//! The same format everywhere, as far as the budget goes.

use crate::{
    knapsack::fill,
    problem::{Choices, Problem},
};

/// The largest format that fits every slot, and the next one on a share of the slots that is spread evenly
/// over the depth, so that the whole budget is used: the density of bits is the same everywhere.
#[must_use]
pub fn uniform(problem: &Problem) -> Choices {
    let slots = problem.slots();
    let level =
        |level: usize| -> Choices { slots.iter().map(|slot| level.min(slot.choices.len() - 1)).collect() };
    let deepest = slots.iter().map(|slot| slot.choices.len()).max().unwrap_or(1);
    let base = (0..deepest).rev().find(|&l| problem.fits(&level(l))).unwrap_or(0);
    let raised = level(base + 1);
    let mut choices = level(base);

    // Raise the slots where the accumulated share passes a whole number, with the largest share that fits.
    let with_share = |share: f64| -> Choices {
        let mut choices = level(base);
        let mut accumulated = 0.5;
        for (slot, choice) in choices.iter_mut().enumerate() {
            accumulated += share;
            if accumulated >= 1.0 {
                accumulated -= 1.0;
                *choice = raised[slot];
            }
        }
        choices
    };
    for percent in (0..=100).rev() {
        let candidate = with_share(f64::from(percent) / 100.0);
        if problem.fits(&candidate) {
            choices = candidate;
            break;
        }
    }
    // What is left buys single steps, the lowest formats first.
    fill(problem, &mut choices, |slot, choice| {
        let cost = problem.choice_cost(slot, choice).max(1) as f64;
        -cost * 0.25f64.powi(i32::try_from(choice).unwrap_or(i32::MAX))
    });
    choices
}
