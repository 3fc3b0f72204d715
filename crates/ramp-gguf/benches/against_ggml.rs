//! The table of both sides, ours and ggml's: what `cargo xtask bench codec` prints, as a part of `cargo bench -p ramp-gguf`.
//!
//! It needs the workspace, cmake and libclang, because the measuring program is linked with llama.cpp.

// It is a command.
#![allow(clippy::print_stderr)]

use std::{path::Path, process::Command};

fn main() {
    // `cargo test --benches` runs it without this argument.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    if !workspace.join("xtask").is_dir() {
        eprintln!("skipped: the comparison with ggml needs RAMP's workspace, not the crate alone");
        return;
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo).args(["xtask", "bench", "codec"]).current_dir(workspace).status();
    match status {
        Ok(status) if status.success() => {}
        other => {
            eprintln!("cargo xtask bench codec failed: {other:?}");
            std::process::exit(1);
        }
    }
}
