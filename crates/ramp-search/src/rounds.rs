//! When a search that could go on forever stops.

use crate::{
    allocator::SearchContext,
    error::Result,
    progress::{ProgressFn, Stage, report},
};

/// Rounds in a row that score nothing new before a search gives up.
const MAX_IDLE: usize = 64;

/// Counts the rounds of a search: its own number of them, or until a limit of tokens ends it.
#[derive(Debug)]
pub(crate) struct Rounds {
    own: usize,
    done: usize,
    idle: usize,
    evaluations: usize,
}

impl Rounds {
    pub(crate) const fn new(own: usize) -> Self {
        Self { own, done: 0, idle: 0, evaluations: 0 }
    }

    /// Whether there is another round. The first ones of a search whose last rounds had nothing new to score are
    /// repeated in vain: there is none.
    pub(crate) fn go_on(&mut self, context: &SearchContext<'_>) -> bool {
        let evaluations = context.evaluator.evaluations();
        self.idle = if evaluations == self.evaluations { self.idle + 1 } else { 0 };
        self.evaluations = evaluations;
        let ended = context.evaluator.limit().is_none() && self.done >= self.own;
        self.done += 1;
        !ended && self.idle < MAX_IDLE
    }

    /// Reports the round that was done: of its own number, or in evaluations on all windows that the limit has room for.
    pub(crate) fn report(&self, context: &SearchContext<'_>, progress: &mut ProgressFn<'_>) -> Result<()> {
        let (done, total) = match context.evaluator.limit() {
            Some(limit) => {
                let pass = context.evaluator.n_tokens().max(1);
                (context.evaluator.tokens_forwarded() / pass, limit / pass)
            }
            None => (self.done, self.own),
        };
        report(progress, Stage::Search, done, total, context.best_kld())
    }
}
