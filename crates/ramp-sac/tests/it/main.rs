//! Behaviour of the whole agent; one binary, so that Burn is linked once.

// Helpers outside of #[test] functions unwrap as well.
#![allow(clippy::unwrap_used)]

mod behaviour;
mod bit_mdp;
mod bit_mdp_learning;
mod burn_rl;
mod checkpoint;
mod determinism;
mod pendulum;
mod pendulum_learning;
mod probes;
