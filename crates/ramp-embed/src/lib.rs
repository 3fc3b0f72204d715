#![doc = include_str!("../README.md")]

mod context;
mod error;
mod formulas;
mod mode;
mod scaler;
mod section32;
mod stability;
mod table;
mod weight_stats;
mod wide;

pub use context::Context;
pub use error::{Error, Result};
pub use mode::{DepthIndex, FeatureConfig, FeatureMode};
pub use scaler::Scaler;
pub use stability::{RoleStability, Stability, stability};
pub use table::{FeatureTable, Saturation};
pub use wide::{WideContext, WideScaler, WideTable};

/// Length of a state.
pub const N_FEATURES: usize = 11;

/// Number of slots that a layer has before any bits are chosen; the first ones of a state.
pub const N_STATIC: usize = 9;

/// Names of a state's slots, in the order of Appendix A (Table 24).
pub const FEATURE_NAMES: [&str; N_FEATURES] = [
    "depth",
    "log_in",
    "log_out",
    "weight_std",
    "weight_mean_abs",
    "layer_type",
    "position",
    "act_mean",
    "act_max",
    "prev_bits",
    "avg_bits",
];

/// Indices of the static slots.
pub(crate) mod slot {
    pub(crate) const DEPTH: usize = 0;
    pub(crate) const WEIGHT_STD: usize = 3;
    pub(crate) const WEIGHT_MEAN_ABS: usize = 4;
    pub(crate) const LAYER_TYPE: usize = 5;
    pub(crate) const POSITION: usize = 6;
    pub(crate) const ACT_MEAN: usize = 7;
    pub(crate) const ACT_MAX: usize = 8;
}
