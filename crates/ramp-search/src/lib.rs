#![doc = include_str!("../README.md")]

mod allocator;
mod bank;
mod categorical_allocators;
mod episodes;
mod error;
mod evaluator;
mod features;
mod history;
mod knapsack;
mod learner;
mod mode;
mod policy;
mod problem;
mod progress;
mod projection;
mod regressor;
mod relaxation;
pub mod reward;
mod rollout;
mod sac_allocator;
mod sensitivity;
mod shaping;
#[cfg(test)]
mod test_bench;
#[cfg(test)]
mod tests;
mod train;
mod transfer;
mod uniform;
mod walk_config;
mod wide_walk;

pub use allocator::{Allocator, CurvePoint, Features, Found, MeasuredKnapsack, SearchContext, Uniform};
pub use bank::WeightBank;
pub use categorical_allocators::Categorical;
pub use error::{Error, Result};
pub use evaluator::{Evaluator, Score};
pub use features::ModelFeatures;
pub use history::{
    Component, EpisodeRecord, Learning, LogHeader, LoggedChoice, LoggedSlot, RoleBits, TrainingLog,
    Transitions, smoothed,
};
pub use knapsack::{fill, knapsack, shadow_price};
pub use mode::{
    Behaviour, BudgetHandling, ContextUpdate, Credit, FirstContext, Mapping, Mode, Normalisation,
    SacSearchConfig, StoredAction, WarmStart, WarmUp,
};
pub use policy::{Policy, PolicyFeatures, PolicyKind, Provenance};
pub use problem::{ActionSet, Choice, Choices, Problem, Slot};
pub use progress::{Progress, ProgressFn, Stage};
pub use projection::{bin_centre, equal_bins, nearest, project};
pub use regressor::{MeasuredModel, Regressor, rank_correlation};
pub use relaxation::Relaxation;
pub use rollout::{Trajectory, Walk};
pub use sac_allocator::Sac;
pub use sensitivity::{Measurements, Sensitivity};
pub use train::{Checkpoint, Student, TrainModel, TrainOptions, TrainOutcome, Trained, train};
pub use transfer::{LookupTable, Transfer, TransferOptions, TransferRow, transfer};
pub use uniform::uniform;
pub use walk_config::{AgentConfig, WalkSearchConfig};
pub use wide_walk::{WideStep, WideWalk};
