//! `cargo xtask bench codec`: the speed of ramp-gguf's codecs beside ggml's, in one process on the same data.
//!
//! Built for release, as users build it: the dev profile checks every addition and every copy. The package has no
//! Burn, so that only llama.cpp and the codecs are built.

use anyhow::Result;

use crate::{interop, process, workspace::Workspace};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Arguments of the measuring program: types, `--rows`, `--turns`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let mut command = workspace.cargo(&["run", "--release", "-p", "ramp-ggml", "--bin", "codec-bench"]);
    command.args(["--features", "llama-cpp"]).envs(interop::build_env()).arg("--").args(&args.args);
    process::run(&mut command)
}
