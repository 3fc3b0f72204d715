//! `cargo xtask ci`: what a change must pass. `.ci/run` installs what is needed and calls it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::{interop, process, tidy, workspace::Workspace};

/// Options of `cargo xtask ci`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Steps to run; all by default.
    steps: Vec<String>,
    /// Print the steps and leave.
    #[arg(long)]
    list: bool,
}

struct Step {
    name: &'static str,
    about: &'static str,
    run: fn(&Workspace) -> Result<()>,
}

/// The steps, cheapest first.
///
/// Features of dependencies depend on what is built together, so every step but `cuda` builds the same set: the
/// whole workspace with dev-dependencies. Burn is then checked once and compiled once.
const STEPS: &[Step] = &[
    Step { name: "fmt", about: "the code is formatted", run: fmt },
    Step { name: "tidy", about: "the invariants of ARCHITECTURE.md hold", run: tidy::run },
    Step { name: "clippy", about: "no lint warns, llama.cpp's wrapper included", run: clippy },
    Step { name: "doc", about: "the documentation builds without warnings", run: doc },
    Step { name: "test", about: "the tests pass", run: test },
    Step { name: "interop", about: "llama.cpp runs the files that ramp writes", run: interop::check },
    Step { name: "cuda", about: "the CUDA feature compiles without a CUDA toolkit", run: cuda },
];

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    if args.list {
        STEPS.iter().for_each(|step| println!("{:8} {}", step.name, step.about));
        return Ok(());
    }
    let mut times: Vec<(&str, Duration)> = Vec::new();
    for step in select(&args.steps)? {
        process::heading(&format!("== {}: {}", step.name, step.about));
        let start = Instant::now();
        let result = (step.run)(workspace);
        let time = start.elapsed();
        let verdict = if result.is_ok() { "passed" } else { "FAILED" };
        process::heading(&format!("== {} {verdict} in {}", step.name, process::seconds(time)));
        result.with_context(|| format!("step `{}`", step.name))?;
        times.push((step.name, time));
    }
    let total = times.iter().map(|(_, time)| *time).sum();
    let list: Vec<String> =
        times.iter().map(|(name, time)| format!("{name} {}", process::seconds(*time))).collect();
    process::heading(&format!("== all passed in {}: {}", process::seconds(total), list.join(", ")));
    Ok(())
}

/// The named steps in the order of the list.
fn select(names: &[String]) -> Result<Vec<&'static Step>> {
    for name in names {
        let known: Vec<&str> = STEPS.iter().map(|step| step.name).collect();
        ensure!(known.contains(&name.as_str()), "no step `{name}` (known: {})", known.join(", "));
    }
    Ok(STEPS.iter().filter(|step| names.is_empty() || names.iter().any(|name| name == step.name)).collect())
}

fn fmt(workspace: &Workspace) -> Result<()> {
    process::run(&mut workspace.cargo(&["fmt", "--all", "--check"]))
}

fn clippy(workspace: &Workspace) -> Result<()> {
    let mut command = workspace.cargo(&["clippy", "--workspace", "--all-targets"]);
    // Here and in `interop` with the same environment, so that llama.cpp is built once.
    command.args(["--features", interop::FEATURE]).envs(interop::build_env());
    process::run(command.args(["--", "-D", "warnings"]))
}

fn doc(workspace: &Workspace) -> Result<()> {
    // `--examples` turns dev-dependencies on, and so the features that clippy has just checked Burn with. The
    // command is left out: its pages would take the library's place, both are called `ramp`.
    let args = ["doc", "--workspace", "--no-deps", "--lib", "--examples"];
    process::run(workspace.cargo(&args).env("RUSTDOCFLAGS", "-D warnings"))
}

fn test(workspace: &Workspace) -> Result<()> {
    process::run(&mut workspace.cargo(&["test", "--workspace"]))
}

fn cuda(workspace: &Workspace) -> Result<()> {
    // Without a toolkit, cudarc must be told the version whose interface it declares.
    let mut command = workspace.cargo(&["check", "-p", "ramp-llm", "--features", "cuda"]);
    process::run(command.env("CUDARC_CUDA_VERSION", "13000"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(chosen: &[&str]) -> Result<Vec<&'static str>> {
        let chosen: Vec<String> = chosen.iter().map(|&name| name.to_owned()).collect();
        Ok(select(&chosen)?.into_iter().map(|step| step.name).collect())
    }

    #[test]
    fn steps_run_in_the_order_of_the_list() {
        assert_eq!(names(&["test", "fmt"]).unwrap(), ["fmt", "test"]);
        assert_eq!(names(&[]).unwrap().len(), STEPS.len());
    }

    #[test]
    fn an_unknown_step_is_an_error_that_lists_the_known() {
        let error = names(&["fmt", "tset"]).unwrap_err().to_string();
        assert!(error.contains("`tset`") && error.contains("fmt, tidy"), "{error}");
    }
}
