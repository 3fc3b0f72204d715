//! The `ramp` command from outside: what it prints, what it leaves behind, how it exits.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails by panicking")]

mod ablate;
mod compare;
mod errors;
mod fixture;
mod inspect;
mod interrupt;
mod measure;
mod policy;
mod quantize;
mod remote;
mod search;
