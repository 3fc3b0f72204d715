#![doc = include_str!("../README.md")]

mod allocator;
mod bank;
mod categorical_allocators;
mod cem;
mod episodes;
mod error;
mod evaluator;
mod evo_press;
mod features;
mod forward;
mod hawq;
mod history;
mod journal;
mod knapsack;
mod learner;
mod ledger;
mod mix;
mod mode;
mod moves;
mod policy;
mod polish;
mod problem;
mod progress;
mod projection;
mod proxy;
mod random_search;
mod regressor;
mod relaxation;
mod residence;
pub mod reward;
mod role_depth;
mod rollout;
mod rounds;
mod sac_allocator;
mod sensitivity;
mod shaping;
mod surrogate;
#[cfg(test)]
mod test_bench;
#[cfg(test)]
mod tests;
mod train;
mod transfer;
mod uniform;
mod walk_config;
mod wide_walk;

pub use allocator::{
    Allocator, CurvePoint, Features, Found, MeasuredKnapsack, SearchContext, Uniform, allocate_within,
};
pub use bank::{BankSource, WeightBank};
pub use categorical_allocators::Categorical;
pub use cem::Cem;
pub use error::{Error, Result};
pub use evaluator::{Evaluator, Score, TracePoint};
pub use evo_press::{EvoPress, SelectionStage};
pub use features::ModelFeatures;
pub use forward::{LostDevice, Replica, panic_is_caught};
pub use hawq::{HawqTrace, TraceRule};
pub use history::{
    Component, EpisodeRecord, Learning, LogHeader, LoggedChoice, LoggedSlot, RoleBits, TrainingLog,
    Transitions, smoothed,
};
pub use knapsack::{Certificate, fill, knapsack, shadow_price};
pub use ledger::Ledger;
pub use mix::LlamaCppMix;
pub use mode::{
    Behaviour, BudgetHandling, ContextUpdate, Credit, FeatureSource, FirstContext, Mapping, Mode,
    Normalisation, SacSearchConfig, SearchCodec, StoredAction, WarmStart, WarmUp,
};
pub use policy::{Policy, PolicyFeatures, PolicyKind, Provenance};
pub use polish::Polish;
pub use problem::{ActionSet, Choice, Choices, Ends, Fixed, Problem, Slot};
pub use progress::{Progress, ProgressFn, Stage};
pub use projection::{bin_centre, equal_bins, nearest, project};
pub use proxy::ProxyKnapsack;
pub use random_search::RandomSearch;
pub use regressor::{MeasuredModel, Regressor, rank_correlation};
pub use relaxation::Relaxation;
pub use residence::Residence;
pub use role_depth::RoleDepth;
pub use rollout::{Trajectory, Walk};
pub use sac_allocator::Sac;
pub use sensitivity::{Measurements, ProxyError, Sensitivity};
pub use surrogate::AdditiveSurrogate;
pub use train::{Checkpoint, Student, TrainModel, TrainOptions, TrainOutcome, Trained, train};
pub use transfer::{LookupTable, Transfer, TransferGroup, TransferOptions, TransferRow, transfer};
pub use uniform::uniform;
pub use walk_config::{AgentConfig, WalkSearchConfig};
pub use wide_walk::{WideStep, WideWalk};
