//! The continuous agent behind the traits of `burn::rl` (the crate `burn-rl`), for loops that are written against them.
//!
//! [`RlPolicy`] acts and [`RlLearner`] learns from batches of transitions, such as those of
//! `burn_rl::TransitionBuffer`. Environments are the user's own: whatever implements `burn_rl::Environment`.
//!
//! What those traits have no room for is not there: a batch is of single transitions, so that the target is one-step
//! ([`TargetKind::Td0`](crate::TargetKind::Td0)); `done` stands for both ends of an episode, so that who stores a
//! truncation must store `false` to keep its bootstrap; and no method can fail. Whole episodes, Monte-Carlo and n-step
//! targets, errors and a replay that can be saved are [`Agent`](crate::Agent)'s own.

mod learner;
mod policy;
mod rows;

pub use learner::RlLearner;
pub use policy::{ActorState, RlPolicy};
pub use rows::{GaussianRows, Rows};
