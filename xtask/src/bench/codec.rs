//! `cargo xtask bench codec`: the speed of ramp-gguf's codecs beside ggml's, in one process on the same data.
//!
//! In the dev profile, which is optimised, and with the llama.cpp that `cargo xtask interop` builds: another profile
//! would build llama.cpp and Burn again. llama.cpp itself is always built for release.

use std::process::Command;

use anyhow::Result;

use crate::{interop, process, workspace::Workspace};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Arguments of the measuring program: types, `--rows`, `--turns`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let program = interop::build_codec_bench(workspace)?;
    process::run(Command::new(program).args(&args.args))
}
