//! `cargo xtask bench affine`: affine fake quantization beside a copy of the same memory.

use anyhow::Result;

use crate::{process, workspace::Workspace};

pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    process::run(&mut workspace.cargo(&["run", "-p", "ramp-quant", "--example", "affine_bandwidth"]))
}
