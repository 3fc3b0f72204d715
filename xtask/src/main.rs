//! Tasks of this repository: `cargo xtask <command>`. One file per command.

// It is a command, and nothing else uses it.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod bench;
mod ci;
mod interop;
mod lm_eval;
mod miri;
mod process;
mod tidy;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::workspace::Workspace;

#[derive(Parser)]
#[command(about, version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run every check that a change must pass, in the order of the list, with the time of each.
    Ci(ci::Args),
    /// Check the invariants of ARCHITECTURE.md that a machine can check.
    Tidy,
    /// Build real llama.cpp and check that it runs the files that `ramp` writes.
    Interop(interop::Args),
    /// Run the codecs' tests under Miri (needs a nightly toolchain with it).
    Miri,
    /// Ask models the zero-shot tasks beside lm-evaluation-harness and write a record.
    LmEval(lm_eval::Args),
    /// Measure a speed next to another program's.
    #[command(subcommand)]
    Bench(bench::Bench),
}

fn main() -> ExitCode {
    let args = Args::parse();
    let workspace = Workspace::new();
    let result = match args.command {
        Command::Ci(args) => ci::run(&workspace, &args),
        Command::Tidy => tidy::run(&workspace),
        Command::Interop(args) => interop::run(&workspace, &args),
        Command::Miri => miri::run(&workspace),
        Command::LmEval(args) => lm_eval::run(&workspace, &args),
        Command::Bench(args) => bench::run(&workspace, &args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Not `{error:?}`: a backtrace says nothing about a check that failed.
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
