//! From a policy's continuous actions to an allocation that uses the budget and never exceeds it.

use crate::problem::{Choices, Problem};

/// The choice that an action in (0, 1) stands for: `n` bins of equal width.
#[must_use]
pub fn equal_bins(action: f64, n: usize) -> usize {
    ((action.clamp(0.0, 1.0) * n as f64) as usize).min(n - 1)
}

/// The choice nearest to an action scaled to the range of indices, as printed in Sec. 3.3.1: the first and the
/// last bin are half as wide as the others.
#[must_use]
pub fn nearest(action: f64, n: usize) -> usize {
    (action.clamp(0.0, 1.0) * (n - 1) as f64).round() as usize
}

/// The middle of a choice's bin, [`equal_bins`]' inverse.
#[must_use]
pub fn bin_centre(choice: usize, n: usize) -> f64 {
    (choice as f64 + 0.5) / n as f64
}

/// Moves all actions by one offset, the largest with which the allocation fits, then raises single slots in the
/// order of how close they are to their next bin.
///
/// The order of the policy's preferences is kept, and any budget can be met with the same actions (HAQ projects
/// onto its budget, too, but lowers layers in turn).
#[must_use]
pub fn project(problem: &Problem, actions: &[f64]) -> Choices {
    let slots = problem.slots();
    let moved = |offset: f64| -> Choices {
        slots.iter().zip(actions).map(|(slot, a)| equal_bins(a + offset, slot.choices.len())).collect()
    };
    // At -1 every slot is at its floor, which fits; at 1 every slot is at its ceiling.
    let (mut fits, mut exceeds) = (-1.0, 1.0);
    for _ in 0..48 {
        let middle = 0.5 * (fits + exceeds);
        if problem.fits(&moved(middle)) {
            fits = middle;
        } else {
            exceeds = middle;
        }
    }
    let mut choices = moved(fits);

    let distance = |slot: usize, choice: usize| {
        let n = slots[slot].choices.len() as f64;
        (choice + 1) as f64 / n - (actions[slot] + fits)
    };
    loop {
        let next = (0..slots.len())
            .filter(|&slot| choices[slot] + 1 < slots[slot].choices.len())
            .filter(|&slot| {
                let step =
                    problem.choice_cost(slot, choices[slot] + 1) - problem.choice_cost(slot, choices[slot]);
                problem.cost(&choices) + step <= problem.capacity()
            })
            .min_by(|&a, &b| distance(a, choices[a]).total_cmp(&distance(b, choices[b])).then(a.cmp(&b)));
        match next {
            Some(slot) => choices[slot] += 1,
            None => return choices,
        }
    }
}
