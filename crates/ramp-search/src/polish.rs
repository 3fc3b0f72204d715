//! Exchanges bytes between two layers as long as that lowers the measured divergence.
//!
//! # Source
//! The pairwise exchange that follows the greedy fill in ExLlamaV2's `conversion/optimize.py`, on the KL divergence of
//! the whole model instead of a product of per-layer accuracies. It begins at the measured knapsack and can only
//! improve on it: sensitivities are measured one layer at a time and do not know how layers interact.

use crate::{
    allocator::{Allocator, Found, SearchContext},
    error::Result,
    knapsack::{fill, knapsack},
    moves::step_up,
    problem::{Choices, Problem},
    progress::ProgressFn,
    rounds::Rounds,
    sensitivity::Sensitivity,
};

/// Greedy pairwise exchange, from the measured knapsack.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Polish {
    /// Exchanges to try; with a limit of tokens, as many as fit it. Fewer when none is left that promises anything.
    pub trials: usize,
    /// Share of the windows on which an exchange must be better before it is scored on all.
    pub race: f64,
    /// Exchanges are tried until their predicted loss is above this share of the incumbent's divergence.
    pub max_predicted_loss: f64,
}

impl Default for Polish {
    fn default() -> Self {
        Self { trials: 160, race: 0.5, max_predicted_loss: 0.1 }
    }
}

impl Polish {
    fn search(&self, context: &mut SearchContext<'_>, progress: &mut ProgressFn<'_>) -> Result<()> {
        let problem = context.evaluator.problem();
        let sensitivity = context.sensitivity(progress)?;
        let mut incumbent = knapsack(problem, &sensitivity);
        let mut kld = context.evaluator.score(&incumbent)?.kld;
        context.evaluator.pin(Some(&incumbent))?;
        let windows = (self.race * context.evaluator.n_windows() as f64).ceil() as usize;
        let mut rounds = Rounds::new(self.trials);
        'incumbents: loop {
            let begun = context.evaluator.score_on(&incumbent, windows)?.kld;
            for (loss, candidate) in exchanges(problem, &sensitivity, &incumbent) {
                if loss > self.max_predicted_loss * kld || !rounds.go_on(context) {
                    break 'incumbents;
                }
                rounds.report(context, progress)?;
                if context.evaluator.score_on(&candidate, windows)?.kld >= begun {
                    continue;
                }
                let score = context.evaluator.score(&candidate)?;
                if score.kld < kld {
                    (incumbent, kld) = (candidate, score.kld);
                    context.evaluator.pin(Some(&incumbent))?;
                    continue 'incumbents;
                }
            }
            break;
        }
        Ok(())
    }
}

/// Allocations that differ from the incumbent by a step down of one slot, a step up of another, and what the budget
/// then still gives or no longer does; with the loss that the sensitivities predict, least first.
fn exchanges(problem: &Problem, sensitivity: &Sensitivity, incumbent: &[usize]) -> Vec<(f64, Choices)> {
    let n = incumbent.len();
    let predicted = sensitivity.predict(incumbent);
    let mut found: Vec<(f64, Choices)> = Vec::new();
    for up in (0..n).filter(|&slot| step_up(problem, slot, incumbent[slot]).is_some()) {
        for down in (0..n).filter(|&slot| slot != up && incumbent[slot] > 0) {
            let mut candidate = incumbent.to_vec();
            candidate[up] += 1;
            // A small matrix may have to go down further, to pay for a step of a large one.
            while candidate[down] > 0 && (candidate[down] == incumbent[down] || !problem.fits(&candidate)) {
                candidate[down] -= 1;
            }
            if !problem.fits(&candidate) {
                continue;
            }
            fill(problem, &mut candidate, |slot, choice| -sensitivity.get(slot, choice));
            if candidate != incumbent {
                found.push((sensitivity.predict(&candidate) - predicted, candidate));
            }
        }
    }
    found.sort_by(|(a, x), (b, y)| a.total_cmp(b).then_with(|| x.cmp(y)));
    found.dedup_by(|a, b| a.1 == b.1);
    found
}

impl Allocator for Polish {
    fn name(&self) -> &'static str {
        "polish"
    }

    fn allocate(&mut self, context: &mut SearchContext<'_>, progress: &mut ProgressFn<'_>) -> Result<Found> {
        let ended = self.search(context, progress);
        context.evaluator.pin(None)?;
        context.settle(self.name(), ended)
    }
}
