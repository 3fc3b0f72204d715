#![doc = include_str!("../README.md")]

mod error;
#[cfg(feature = "figures")]
pub mod figures;
pub mod pipeline;

pub use error::{Error, Result};
pub use ramp_embed as embed;
pub use ramp_eval as eval;
pub use ramp_gguf as gguf;
pub use ramp_model as model;
pub use ramp_quant as quant;
pub use ramp_sac as sac;
pub use ramp_search as search;
