//! Evaluations from outside the crate.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a test may fail and must say what it skips"
)]

mod custom;
mod parity;
