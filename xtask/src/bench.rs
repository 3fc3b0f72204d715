//! `cargo xtask bench`: speeds that are compared with another program, both sides in one run.

mod affine;
mod codec;
mod forward;
mod pendulum;
mod sac;
mod search;
mod side;

use anyhow::Result;

use crate::workspace::Workspace;

/// What to measure.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Bench {
    /// Affine fake quantization of a large matrix beside a copy of it, in turns in one process.
    Affine,
    /// ramp-gguf's codecs beside ggml's, in one process on the same data.
    Codec(codec::Args),
    /// Tokens per second of scoring windows of text on the CPU, in turns with PyTorch and llama.cpp.
    Forward(forward::Args),
    /// Learning curves of ramp-sac on Pendulum-v1, with the returns that they must reach.
    Pendulum(pendulum::Args),
    /// Gradient updates per second of ramp-sac on the CPU, in turns with PyTorch.
    Sac(sac::Args),
    /// An episode of a search beside the bare forward pass, in turns in one process.
    Search(search::Args),
}

pub(crate) fn run(workspace: &Workspace, bench: &Bench) -> Result<()> {
    match bench {
        Bench::Affine => affine::run(workspace),
        Bench::Codec(args) => codec::run(workspace, args),
        Bench::Forward(args) => forward::run(workspace, args),
        Bench::Pendulum(args) => pendulum::run(workspace, args),
        Bench::Sac(args) => sac::run(workspace, args),
        Bench::Search(args) => search::run(workspace, args),
    }
}
