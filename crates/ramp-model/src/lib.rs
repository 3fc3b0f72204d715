#![doc = include_str!("../README.md")]

mod architecture;
mod attention;
mod checkpoint;
mod config;
mod error;
mod files;
mod gguf_export;
mod gguf_import;
mod gram;
mod hf_config;
mod host;
mod layer;
mod model;
mod norm;
mod parameter;
mod rope;
mod source;
mod stats_file;
mod taps;
mod tokenizer;

pub use architecture::Architecture;
pub use checkpoint::{Checkpoint, CheckpointWeights};
pub use config::{ModelConfig, RopeScaling};
pub use error::{Error, Result};
pub use files::ModelFiles;
pub use gguf_export::{TensorTypes, gguf_metadata, gguf_tensors, write_gguf};
pub use gram::Gram;
pub use layer::{LayerId, ParseLayerIdError, Role};
pub use model::{CausalLm, log_sum_exp};
pub use parameter::{NormId, Parameter};
pub use source::{HostTensor, WeightSource};
pub use stats_file::StatsHeader;
pub use taps::{CalibrationStats, ChannelStats, Gather, NoTap, Tap};
pub use tokenizer::Tokenizer;
