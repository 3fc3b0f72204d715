#![doc = include_str!("../README.md")]

mod allocator;
mod bank;
mod cem;
mod error;
mod evaluator;
mod evo_press;
mod forward;
mod hawq;
mod knapsack;
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
mod relaxation;
pub mod reward;
mod role_depth;
mod rollout;
mod rounds;
mod sac_allocator;
mod sensitivity;
mod surrogate;
#[cfg(test)]
mod tests;
mod uniform;

pub use allocator::{
    Allocator, CurvePoint, Features, Found, MeasuredKnapsack, SearchContext, Uniform, allocate_within,
};
pub use bank::WeightBank;
pub use cem::Cem;
pub use error::{Error, Result};
pub use evaluator::{Evaluator, Score, TracePoint};
pub use evo_press::{EvoPress, SelectionStage};
pub use hawq::{HawqTrace, TraceRule};
pub use knapsack::{Certificate, fill, knapsack, shadow_price};
pub use ledger::Ledger;
pub use mix::LlamaCppMix;
pub use mode::{Behaviour, BudgetHandling, Credit, Mapping, Mode, SacSearchConfig, WarmStart};
pub use policy::{Policy, Provenance};
pub use polish::Polish;
pub use problem::{ActionSet, Choice, Choices, Ends, Fixed, Problem, Slot};
pub use progress::{Progress, ProgressFn, Stage};
pub use projection::{bin_centre, equal_bins, nearest, project};
pub use proxy::ProxyKnapsack;
pub use random_search::RandomSearch;
pub use relaxation::Relaxation;
pub use role_depth::RoleDepth;
pub use rollout::{Trajectory, Walk};
pub use sac_allocator::Sac;
pub use sensitivity::{Measurements, ProxyError, Sensitivity};
pub use surrogate::AdditiveSurrogate;
pub use uniform::uniform;
