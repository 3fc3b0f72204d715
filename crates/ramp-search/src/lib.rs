#![doc = include_str!("../README.md")]

mod allocator;
mod bank;
mod error;
mod evaluator;
mod forward;
mod history;
mod knapsack;
mod ledger;
mod mode;
mod policy;
mod problem;
mod progress;
mod projection;
mod relaxation;
pub mod reward;
mod rollout;
mod sac_allocator;
mod sensitivity;
#[cfg(test)]
mod tests;
mod uniform;

pub use allocator::{Allocator, CurvePoint, Features, Found, MeasuredKnapsack, SearchContext, Uniform};
pub use bank::WeightBank;
pub use error::{Error, Result};
pub use evaluator::{Evaluator, Score, TracePoint};
pub use history::{
    Component, EpisodeRecord, Learning, LogHeader, LoggedChoice, LoggedSlot, RoleBits, TrainingLog,
    Transitions, smoothed,
};
pub use knapsack::{fill, knapsack, shadow_price};
pub use ledger::Ledger;
pub use mode::{Behaviour, BudgetHandling, Credit, Mapping, Mode, SacSearchConfig, WarmStart};
pub use policy::{Policy, Provenance};
pub use problem::{ActionSet, Choice, Choices, Problem, Slot};
pub use progress::{Progress, ProgressFn, Stage};
pub use projection::{bin_centre, equal_bins, nearest, project};
pub use relaxation::Relaxation;
pub use rollout::{Trajectory, Walk};
pub use sac_allocator::Sac;
pub use sensitivity::{Measurements, Sensitivity};
pub use uniform::uniform;
