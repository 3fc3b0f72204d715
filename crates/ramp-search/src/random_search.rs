//! Random allocations, the best one kept.
//!
//! # Source
//! Li and Talwalkar, "Random Search and Reproducibility for Neural Architecture Search", arXiv 1902.07638: the
//! baseline that a search must beat at equal cost.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{
    allocator::{Allocator, Found, SearchContext},
    error::Result,
    progress::ProgressFn,
    projection::project,
    rounds::Rounds,
};

/// Actions drawn evenly from (0, 1) for every layer, moved together until they fit the budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RandomSearch {
    /// Allocations to score; with a limit of tokens, as many as fit it.
    pub evaluations: usize,
    /// Seed.
    pub seed: u64,
}

impl RandomSearch {
    /// As many allocations as a SAC search of the paper has episodes.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { evaluations: 200, seed }
    }

    fn search(self, context: &mut SearchContext<'_>, progress: &mut ProgressFn<'_>) -> Result<()> {
        let problem = context.evaluator.problem();
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        let mut rounds = Rounds::new(self.evaluations);
        while rounds.go_on(context) {
            let actions: Vec<f64> = problem.slots().iter().map(|_| rng.random()).collect();
            context.evaluator.score(&project(problem, &actions))?;
            rounds.report(context, progress)?;
        }
        Ok(())
    }
}

impl Allocator for RandomSearch {
    fn name(&self) -> &'static str {
        "random"
    }

    fn allocate(&mut self, context: &mut SearchContext<'_>, progress: &mut ProgressFn<'_>) -> Result<Found> {
        let ended = self.search(context, progress);
        context.settle(self.name(), ended)
    }
}
