//! Allocations from the errors of the weights alone, without a forward pass.
//!
//! # Source
//! Relative squared errors, of the weights as in HIGGS (arXiv 2411.17525, with the same coefficient for every weight), or
//! of the outputs by the importance matrix, as llama.cpp's pull request 15550 allocates.

use crate::{
    allocator::{Allocator, Found, SearchContext},
    error::Result,
    knapsack::knapsack,
    progress::ProgressFn,
    sensitivity::{ProxyError, Sensitivity},
};

/// The knapsack on [`Sensitivity::proxy`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProxyKnapsack {
    /// Which error.
    pub error: ProxyError,
}

impl Allocator for ProxyKnapsack {
    fn name(&self) -> &'static str {
        match self.error {
            ProxyError::Weights => "proxy",
            ProxyError::Outputs => "proxy-imatrix",
        }
    }

    fn allocate(&mut self, context: &mut SearchContext<'_>, _progress: &mut ProgressFn<'_>) -> Result<Found> {
        let problem = context.evaluator.problem();
        let choices = knapsack(problem, &Sensitivity::proxy(problem, context.evaluator.bank(), self.error)?);
        context.found(choices, self.name())
    }
}
