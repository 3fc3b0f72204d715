//! ggml's codecs behind a small safe interface (feature `llama-cpp`), and the program that measures ours beside them.
//!
//! A package of its own, without Burn: it is built for release, which the other tests are not.

// As in `ramp-tests`: the crate calls a C library. It is not published.
#![allow(unsafe_code)]

#[cfg(feature = "llama-cpp")]
mod codec;

#[cfg(feature = "llama-cpp")]
pub use codec::{ggml_decode, ggml_encode, ggml_is_valid};
