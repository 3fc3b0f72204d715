//! Real llama.cpp behind a small safe interface: load, tokenize, logits, perplexity, quantize.
//!
//! Only what the interop check needs, on the CPU. Every line that llama.cpp logs while it loads a model is
//! kept, because a file that loads with a complaint is not a good file.

// The one place outside ramp-gguf: the crate calls a C library. It is not published.
#![allow(unsafe_code)]

mod context;
mod log;
mod model;
mod quantize;

pub use context::{Context, Divergence, Perplexity, divergence, perplexity};
pub use log::{LogLevel, LogLine};
pub use model::Model;
pub use quantize::{FileType, ImatrixEntry, quantize};
