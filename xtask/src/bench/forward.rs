//! `cargo xtask bench forward`: how fast a model scores text, ours and PyTorch's.
//!
//! Both programs load their model once and score the same windows whenever they are told. They are told in turns, so
//! that a busy machine slows both, and the best round of each counts. They must also agree on the result.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::side::Side;
use crate::{process, workspace::Workspace};

const PYTHON: &str = include_str!("forward.py");
/// Both compute in f32, in another order.
const MAX_NLL_DIFFERENCE: f64 = 1e-3;

/// Options of `cargo xtask bench forward`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Models to measure, folders of the zoo or paths; llama2-xs and llama2-s by default.
    models: Vec<String>,
    /// A Python with torch and transformers; without it, only our side is measured.
    #[arg(long)]
    python: Option<PathBuf>,
    /// Folder with `zoo/` and `data/wikitext2/`; RAMP_SHARED or `../shared` by default.
    #[arg(long)]
    shared: Option<PathBuf>,
    /// Threads of each side.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Tokens of a window.
    #[arg(long, default_value_t = 1024)]
    ctx: usize,
    /// Windows of a round.
    #[arg(long, default_value_t = 8)]
    windows: usize,
    /// Rounds of each side, after one that does not count.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let named = args.shared.clone().or_else(|| env::var_os("RAMP_SHARED").map(PathBuf::from));
    let shared = named.unwrap_or_else(|| workspace.root().join("../shared"));
    let text = shared.join("data/wikitext2/wiki.test.raw");
    ensure!(text.is_file(), "there is no {} (give the folder with --shared)", text.display());
    process::run(&mut workspace.cargo(&["build", "-p", "ramp-eval", "--example", "score_windows"]))?;
    let target = workspace.metadata()?.target_directory;
    let program = target.join("debug/examples/score_windows");
    let folder = target.join("bench");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;

    let names = match args.models.as_slice() {
        [] => vec!["llama2-xs".to_owned(), "llama2-s".to_owned()],
        names => names.to_vec(),
    };
    for name in names {
        let zoo = shared.join("zoo").join(&name);
        let model = if zoo.is_dir() { zoo } else { PathBuf::from(&name) };
        measure(&model, &text, &program, &folder.join("tokens.json"), args)
            .with_context(|| format!("model {name}"))?;
    }
    Ok(())
}

fn measure(model: &Path, text: &Path, program: &Path, tokens: &Path, args: &Args) -> Result<()> {
    process::heading(&format!("-- {}", model.display()));
    let mut command = Command::new(program);
    command.args([model, text]).args([args.ctx.to_string(), args.windows.to_string()]).arg(tokens);
    let (mut ours, _) = Side::start(command.env("RAYON_NUM_THREADS", args.threads.to_string()))?;
    let mut theirs = match &args.python {
        Some(python) => {
            let mut command = Command::new(python);
            command.args(["-c", PYTHON]).args([model, tokens]).arg(args.threads.to_string());
            let (side, versions) = Side::start(&mut command)?;
            println!("   {versions}");
            Some(side)
        }
        None => None,
    };
    let mut best = [f64::INFINITY; 2];
    for round in 0..=args.rounds {
        let mine: Round = ours.round()?;
        let other = theirs.as_mut().map(Side::round::<Round>).transpose()?;
        if let Some(other) = &other {
            let difference = (mine.mean_nll - other.mean_nll).abs();
            // Not `>`: a NaN must fail.
            let equal = difference <= MAX_NLL_DIFFERENCE;
            ensure!(equal, "mean NLL is {} here and {} in PyTorch", mine.mean_nll, other.mean_nll);
        }
        if round > 0 {
            best[0] = best[0].min(mine.seconds);
            best[1] = best[1].min(other.map_or(f64::INFINITY, |other| other.seconds));
        }
    }
    let scored = (args.ctx * args.windows) as f64;
    let [mine, other] = best.map(|seconds| scored / seconds);
    let setting = format!("best of {} rounds, {} threads", args.rounds, args.threads);
    if theirs.is_some() {
        println!(
            "   ramp {mine:.0} tokens/s, PyTorch {other:.0} tokens/s, ratio {:.2} ({setting})",
            mine / other
        );
    } else {
        println!("   ramp {mine:.0} tokens/s ({setting})");
    }
    Ok(())
}

#[derive(Debug, Deserialize)]
struct Round {
    seconds: f64,
    mean_nll: f64,
}
