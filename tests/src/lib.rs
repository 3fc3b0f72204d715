//! Tests across the crates of the workspace, and the proof in real llama.cpp.
//!
//! - `tests/`: integration tests; those behind the feature `llama-cpp` run in `cargo xtask interop`.
//! - `llama`: a small safe interface to llama.cpp, built from source (feature `llama-cpp`).
//! - [`export`]: a Hugging Face folder as a GGUF file, type by type.
//! - [`scores`]: perplexity and divergence from logits, as llama.cpp's tools compute them.
//! - `llama-check`: the command that `cargo xtask interop` runs on the files that `ramp` wrote.

mod export;
#[cfg(feature = "llama-cpp")]
pub mod llama;
pub mod scores;

pub use export::export;
