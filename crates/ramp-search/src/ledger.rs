//! What a search has spent, so that searches can be compared at equal cost.

use serde::{Deserialize, Serialize};

/// What was spent up to some moment. A copy is a snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ledger {
    /// Tokens forwarded, the unquantized model's pass included. A pass through some of the blocks counts as the
    /// share of them that ran; the head counts as one block.
    pub tokens: usize,
    /// Evaluations for which the model ran.
    pub evaluations: usize,
    /// Evaluations that were known already and cost nothing.
    pub memo_hits: usize,
    /// Evaluations in which the model gave NaN or infinity ([`Score::FLOOR`](crate::Score::FLOOR)).
    pub non_finite: usize,
    /// Wall-clock seconds that the model ran.
    pub seconds: f64,
}

impl Ledger {
    /// What was spent since an earlier snapshot.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            tokens: self.tokens - earlier.tokens,
            evaluations: self.evaluations - earlier.evaluations,
            memo_hits: self.memo_hits - earlier.memo_hits,
            non_finite: self.non_finite - earlier.non_finite,
            seconds: self.seconds - earlier.seconds,
        }
    }

    /// Adds what was spent elsewhere.
    pub(crate) fn add(&mut self, other: &Self) {
        self.tokens += other.tokens;
        self.evaluations += other.evaluations;
        self.memo_hits += other.memo_hits;
        self.non_finite += other.non_finite;
        self.seconds += other.seconds;
    }
}
