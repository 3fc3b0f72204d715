//! `cargo xtask miri`: the codecs' plain paths under Miri, which watches every access to memory.
//!
//! Needs a nightly toolchain with the component `miri`. Tree borrows and permissive provenance, because rayon's queues
//! use integers as pointers; vector instructions are not run, because Miri reports a CPU without them.

use std::process::Command;

use anyhow::Result;

use crate::{process, workspace::Workspace};

const TESTS: [&str; 3] = ["codec::grid", "codec::tests::every_path", "codec::tests::shapes"];
const FLAGS: &str =
    "-Zmiri-disable-isolation -Zmiri-tree-borrows -Zmiri-permissive-provenance -Zmiri-ignore-leaks";

pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let mut command = Command::new("rustup");
    command.args(["run", "nightly", "cargo", "miri", "test", "-p", "ramp-gguf", "--lib"]);
    command.args(["--target-dir", "target/miri", "--"]).args(TESTS).current_dir(workspace.root());
    process::run(command.env_remove("CARGO").env("MIRIFLAGS", FLAGS).env("RAYON_NUM_THREADS", "1"))
}
