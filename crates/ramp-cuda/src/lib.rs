//! What RAMP runs on NVIDIA GPUs beside Burn.
//!
//! Burn tunes a matrix product for every class of shapes by compiling and timing dozens of kernels, which takes minutes
//! before the first token. Here products go to cuBLAS, and the few steps around them are kernels of our own, so that
//! nothing is tuned: see the module `ops`. They are CUDA C, compiled by NVRTC when a device is first used, in about a second.
//! CubeCL, in which Burn's kernels are written, always compiles for fast arithmetic; ours round every operation as the
//! CPU does, so that quantized bytes can be compared with the CPU's.
//!
//! All work is queued on a stream of its own. It waits for what Burn queued before, and Burn's later work waits for it.
//!
//! Without the feature `cuda` the crate is empty.
#![cfg(feature = "cuda")]
// Each block says why it is sound; ARCHITECTURE.md, invariant 8.
#![allow(unsafe_code)]

mod blas;
mod engine;
mod error;
mod kernels;
pub mod ops;
mod staging;
mod tensor;

pub use engine::{is_available, memory};
pub use error::Error;
