//! Random steps between allocations that fit. Whatever comes in, what comes out is within the budget and leaves no step
//! up unpaid that would fit.

use rand::{Rng, seq::SliceRandom};

use crate::problem::{Choices, Problem};

/// Raises random slots, one step at a time, until none can be raised within the budget.
pub(crate) fn fill_at_random(problem: &Problem, choices: &mut [usize], rng: &mut impl Rng) {
    let mut left = problem.capacity().saturating_sub(problem.cost(choices));
    let mut open: Vec<usize> = (0..choices.len()).collect();
    while !open.is_empty() {
        let at = rng.random_range(0..open.len());
        let slot = open[at];
        match step_up(problem, slot, choices[slot]).filter(|&step| step <= left) {
            Some(step) => {
                choices[slot] += 1;
                left -= step;
            }
            // What does not fit now never will: the rest only shrinks.
            None => drop(open.swap_remove(at)),
        }
    }
}

/// Lowers random slots, one step at a time, until the allocation fits; those in `keep` only when no other can be.
pub(crate) fn lower_at_random(problem: &Problem, choices: &mut [usize], keep: &[usize], rng: &mut impl Rng) {
    let mut order: Vec<usize> = (0..choices.len()).filter(|slot| !keep.contains(slot)).collect();
    let mut over = problem.cost(choices).saturating_sub(problem.capacity());
    while over > 0 {
        order.retain(|&slot| choices[slot] > 0);
        if order.is_empty() {
            order = keep.iter().copied().filter(|&slot| choices[slot] > 0).collect();
            if order.is_empty() {
                // The floor fits: `Problem` was not made otherwise.
                return;
            }
        }
        let slot = order[rng.random_range(0..order.len())];
        choices[slot] -= 1;
        over = over.saturating_sub(step_up(problem, slot, choices[slot]).unwrap_or(0));
    }
}

/// Draws a choice for each slot, in random order, from its own distribution over those choices that leave room for the
/// cheapest ones of all slots still to come, then fills at random.
pub(crate) fn draw_masked(problem: &Problem, probabilities: &[Vec<f64>], rng: &mut impl Rng) -> Choices {
    let mut choices = problem.floor();
    let mut order: Vec<usize> = (0..choices.len()).collect();
    order.shuffle(rng);
    let mut left = problem.capacity() - problem.cost(&choices);
    for slot in order {
        let extra = |choice: usize| problem.choice_cost(slot, choice) - problem.choice_cost(slot, 0);
        let allowed = |choice: &usize| extra(*choice) <= left;
        let weight = |choice: usize| probabilities[slot][choice];
        let n = problem.slots()[slot].choices.len();
        let total: f64 = (0..n).filter(allowed).map(weight).sum();
        let mut drawn = rng.random::<f64>() * total;
        let mut chosen = 0;
        for choice in (0..n).filter(allowed) {
            if weight(choice) > 0.0 {
                chosen = choice;
                drawn -= weight(choice);
                if drawn < 0.0 {
                    break;
                }
            }
        }
        choices[slot] = chosen;
        left -= extra(chosen);
    }
    fill_at_random(problem, &mut choices, rng);
    choices
}

/// What the next choice of a slot costs more; `None` at the top.
pub(crate) fn step_up(problem: &Problem, slot: usize, choice: usize) -> Option<u64> {
    (choice + 1 < problem.slots()[slot].choices.len())
        .then(|| problem.choice_cost(slot, choice + 1) - problem.choice_cost(slot, choice))
}
