//! `cargo xtask bench sac`: gradient updates per second, ours and PyTorch's.
//!
//! Both programs have the networks, the batch and the replay of Tables 25 to 27 and update whenever they are told. They
//! are told in turns, so that a busy machine slows both, and the best round of each counts.

use std::{path::PathBuf, process::Command};

use anyhow::{Result, ensure};
use serde::Deserialize;

use super::side::Side;
use crate::{process, workspace::Workspace};

const PYTHON: &str = include_str!("sac.py");

/// Options of `cargo xtask bench sac`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A Python with torch; without it, only our side is measured.
    #[arg(long)]
    python: Option<PathBuf>,
    /// Threads of each side, one measurement for each number.
    #[arg(long, default_values_t = [1, 2])]
    threads: Vec<usize>,
    /// Updates of a round.
    #[arg(long, default_value_t = 50)]
    updates: usize,
    /// Rounds of each side, after one that does not count.
    #[arg(long, default_value_t = 10)]
    rounds: usize,
}

#[derive(Debug, Deserialize)]
struct Round {
    seconds: f64,
    loss: f64,
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    process::run(&mut workspace.cargo(&["build", "--workspace", "--example", "update_speed"]))?;
    let program = workspace.metadata()?.target_directory.join("debug/examples/update_speed");
    for &threads in &args.threads {
        let mut command = Command::new(&program);
        command.arg(args.updates.to_string()).env("RAYON_NUM_THREADS", threads.to_string());
        let (mut ours, _) = Side::start(&mut command)?;
        let mut theirs = match &args.python {
            Some(python) => {
                let mut command = Command::new(python);
                command.args(["-c", PYTHON]).args([args.updates.to_string(), threads.to_string()]);
                let (side, version) = Side::start(&mut command)?;
                println!("   {version}");
                Some(side)
            }
            None => None,
        };
        let mut best = [f64::INFINITY; 2];
        for round in 0..=args.rounds {
            let sides = [Some(&mut ours), theirs.as_mut()];
            for (side, best) in sides.into_iter().zip(&mut best) {
                let Some(side) = side else { continue };
                let Round { seconds, loss } = side.round()?;
                ensure!(loss.is_finite(), "a loss became {loss}");
                if round > 0 {
                    *best = best.min(seconds);
                }
            }
        }
        let [mine, other] = best.map(|seconds| args.updates as f64 / seconds);
        let setting = format!("best of {} rounds of {}, {threads} threads", args.rounds, args.updates);
        if theirs.is_some() {
            let ratio = mine / other;
            println!(
                "   ramp {mine:.1} updates/s, PyTorch {other:.1} updates/s, ratio {ratio:.2} ({setting})"
            );
        } else {
            println!("   ramp {mine:.1} updates/s ({setting})");
        }
    }
    Ok(())
}
