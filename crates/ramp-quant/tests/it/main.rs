//! Tests of the public interface.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails by panicking")]

#[cfg(feature = "cuda")]
mod devices;
mod fixture;
mod model;
mod reference;
mod refused;
