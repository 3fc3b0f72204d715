//! `cargo xtask bench search`: what an episode of a search costs beside the bare forward pass.
//!
//! One program times both in turns, so that a busy machine slows both, and the best round of each counts.

use std::{path::PathBuf, process::Command};

use anyhow::{Result, ensure};
use serde::Deserialize;

use super::side::Side;
use crate::{process, workspace::Workspace};

/// Options of `cargo xtask bench search`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The model, a folder of the zoo or a path.
    #[arg(default_value = "llama2-xs")]
    model: String,
    /// Folder with `zoo/` and `data/wikitext2/`; RAMP_SHARED or `../shared` by default.
    #[arg(long)]
    shared: Option<PathBuf>,
    /// Threads.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Tokens of a window.
    #[arg(long, default_value_t = 1024)]
    ctx: usize,
    /// Windows of an episode.
    #[arg(long, default_value_t = 8)]
    windows: usize,
    /// Rounds, after one that does not count.
    #[arg(long, default_value_t = 10)]
    rounds: usize,
}

/// Seconds of each part of a round.
#[derive(Debug, Deserialize)]
struct Round {
    forward: f64,
    perplexity: f64,
    episode: f64,
    kld: f64,
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let shared = workspace.shared(args.shared.as_deref());
    let text = Workspace::test_text(&shared)?;
    let model = Workspace::model(&shared, &args.model);
    process::run(&mut workspace.cargo(&["build", "--workspace", "--example", "episode_speed"]))?;
    let program = workspace.metadata()?.target_directory.join("debug/examples/episode_speed");
    let mut command = Command::new(&program);
    command.args([&model, &text]).args([args.ctx.to_string(), args.windows.to_string()]);
    command.env("RAYON_NUM_THREADS", args.threads.to_string());
    let (mut side, _) = Side::start(&mut command)?;
    let mut best = [f64::INFINITY; 3];
    for round in 0..=args.rounds {
        let Round { forward, perplexity, episode, kld } = side.round()?;
        ensure!(kld.is_finite() && kld > 0.0, "an episode diverges by {kld}");
        if round > 0 {
            for (best, seconds) in best.iter_mut().zip([forward, perplexity, episode]) {
                *best = best.min(seconds);
            }
        }
    }
    let tokens = (args.ctx * args.windows) as f64;
    println!(
        "   {}, {} windows of {}, best of {} rounds, {} threads:",
        model.display(),
        args.windows,
        args.ctx,
        args.rounds,
        args.threads
    );
    for (name, seconds) in ["bare forward pass", "perplexity", "episode"].into_iter().zip(best) {
        let ratio = seconds / best[0];
        println!("   {name:20} {seconds:7.3} s {:8.0} tokens/s  {ratio:.3}", tokens / seconds);
    }
    Ok(())
}
