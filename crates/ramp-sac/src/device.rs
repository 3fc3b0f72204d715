//! Networks on any of Burn's devices, with its automatic gradients.

pub(crate) mod adam;
mod clip;
pub(crate) mod mlp;
pub(crate) mod polyak;
