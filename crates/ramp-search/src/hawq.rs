//! Hessian traces, from the calibration pass and without a forward pass of a quantized model.
//!
//! # Source
//! Eq. 5 of the paper, `b_i = round(b_avg + α log tr(H_i))`, after Dong et al., HAWQ, arXiv 1905.03696; and HAWQ-V2,
//! arXiv 1911.03852: `Ω_i = tr(H_i) / n_i |Q(W_i) - W_i|²`, the least in all within the budget. `H_i` is the Hessian of the
//! layer's squared output error, the Gram matrix of its input.

use serde::{Deserialize, Serialize};

use crate::{
    allocator::{Allocator, Found, SearchContext},
    bank::WeightBank,
    error::Result,
    knapsack::{fill, knapsack},
    problem::{Choices, Problem},
    progress::ProgressFn,
    sensitivity::Sensitivity,
};

/// What a trace decides.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TraceRule {
    /// The bits themselves, as the paper prints it: `b_i = round(b_avg + α log tr(H_i))`. `b_avg` is moved until the
    /// budget is met.
    Bits {
        /// Choices for each nat of a trace.
        alpha: f64,
    },
    /// The price of an error, as in HAWQ-V2: `tr(H_i) / n_i |Q(W_i) - W_i|²`, with a knapsack.
    Perturbation,
}

/// HAWQ's heuristic on the traces of the calibration pass.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HawqTrace {
    /// What a trace decides.
    pub rule: TraceRule,
}

impl Default for HawqTrace {
    fn default() -> Self {
        Self { rule: TraceRule::Perturbation }
    }
}

impl HawqTrace {
    /// The allocation.
    ///
    /// # Errors
    /// When the bank was built without a choice.
    pub fn choices(&self, problem: &Problem, bank: &WeightBank) -> Result<Choices> {
        let slots = problem.slots().iter().enumerate();
        match self.rule {
            TraceRule::Bits { alpha } => {
                let log_trace = |slot| alpha * bank.input_energy(slot).max(f64::MIN_POSITIVE).ln();
                let log_traces: Vec<f64> = (0..problem.slots().len()).map(log_trace).collect();
                Ok(at_mean(problem, &log_traces))
            }
            TraceRule::Perturbation => {
                let cost = slots.map(|(slot, options)| {
                    let n = options.columns as f64;
                    let trace = bank.input_energy(slot) / n;
                    let error = |choice| Ok(trace * bank.squared_error(slot, choice)?);
                    (0..options.choices.len()).map(error).collect()
                });
                Ok(knapsack(problem, &Sensitivity::from_costs(cost.collect::<Result<_>>()?)))
            }
        }
    }
}

/// `round(b_avg + x_i)`, as an index into the slot's choices, with the largest `b_avg` that fits; then slots are raised in
/// the order of how little they were rounded down.
fn at_mean(problem: &Problem, x: &[f64]) -> Choices {
    let slots = problem.slots();
    let rounded = |mean: f64| -> Choices {
        let level = |(slot, x): (&crate::Slot, &f64)| {
            (mean + x).round().clamp(0.0, (slot.choices.len() - 1) as f64) as usize
        };
        slots.iter().zip(x).map(level).collect()
    };
    let deepest = slots.iter().map(|slot| slot.choices.len()).max().unwrap_or(1) as f64;
    let bound = x.iter().fold(0.0, |bound: f64, x| bound.max(x.abs())) + deepest + 1.0;
    // At -bound every slot is at its floor, which fits.
    let (mut fits, mut exceeds) = (-bound, bound);
    for _ in 0..64 {
        let middle = 0.5 * (fits + exceeds);
        if problem.fits(&rounded(middle)) { fits = middle } else { exceeds = middle }
    }
    let mut choices = rounded(fits);
    // A value whose slope between two choices falls with the distance: the nearest step is worth most for its bytes.
    fill(problem, &mut choices, |slot, choice| {
        let step = |choice: usize| {
            let bytes = problem.choice_cost(slot, choice + 1) - problem.choice_cost(slot, choice);
            let distance = (choice + 1) as f64 - (fits + x[slot]);
            bytes.max(1) as f64 * (-distance).exp()
        };
        (0..choice).map(step).sum()
    });
    choices
}

impl Allocator for HawqTrace {
    fn name(&self) -> &'static str {
        match self.rule {
            TraceRule::Bits { .. } => "hawq-bits",
            TraceRule::Perturbation => "hawq",
        }
    }

    fn allocate(&mut self, context: &mut SearchContext<'_>, _progress: &mut ProgressFn<'_>) -> Result<Found> {
        let choices = self.choices(context.evaluator.problem(), context.evaluator.bank())?;
        context.found(choices, self.name())
    }
}
