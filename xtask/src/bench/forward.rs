//! `cargo xtask bench forward`: how fast a model scores text, beside PyTorch and llama.cpp.
//!
//! The programs load their model once and score the same windows whenever they are told. They are told in turns, so that
//! a busy machine slows all of them, and the best round of each counts. They must also agree on the result.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::side::Side;
use crate::{process, workspace::Workspace};

const PYTHON: &str = include_str!("forward.py");
/// All compute in f32, or with weights in f16, in another order.
const MAX_NLL_DIFFERENCE: f64 = 1e-3;

/// Options of `cargo xtask bench forward`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Models to measure, folders of the zoo or paths; llama2-xs and llama2-s by default.
    models: Vec<String>,
    /// A Python with torch and transformers; without it, only our side is measured.
    #[arg(long)]
    python: Option<PathBuf>,
    /// A `llama-check`, as `cargo xtask interop` builds it; without it, llama.cpp is not measured.
    #[arg(long)]
    llama_check: Option<PathBuf>,
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
    let shared = workspace.shared(args.shared.as_deref());
    let text = Workspace::test_text(&shared)?;
    process::run(&mut workspace.cargo(&["build", "--workspace", "--example", "score_windows"]))?;
    let target = workspace.metadata()?.target_directory;
    let program = target.join("debug/examples/score_windows");
    let folder = target.join("bench");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;

    let names = match args.models.as_slice() {
        [] => vec!["llama2-xs".to_owned(), "llama2-s".to_owned()],
        names => names.to_vec(),
    };
    for name in names {
        let model = Workspace::model(&shared, &name);
        measure(&model, &text, &program, &folder, args).with_context(|| format!("model {name}"))?;
    }
    Ok(())
}

fn measure(model: &Path, text: &Path, program: &Path, folder: &Path, args: &Args) -> Result<()> {
    process::heading(&format!("-- {}", model.display()));
    let (tokens, threads) = (folder.join("tokens.json"), args.threads.to_string());
    let mut sides = Vec::new();
    for (name, prompt) in [("ramp, scoring", &[][..]), ("ramp, prompt", &["--prompt"])] {
        let mut command = Command::new(program);
        command.args([model, text]).args([args.ctx.to_string(), args.windows.to_string()]).arg(&tokens);
        sides.push(Contestant::start(name, command.args(prompt).env("RAYON_NUM_THREADS", &threads))?);
    }
    if let Some(python) = &args.python {
        let mut command = Command::new(python);
        command.args(["-c", PYTHON]).args([model, &tokens]).arg(&threads);
        sides.push(Contestant::start("PyTorch, scoring", &mut command)?);
    }
    if let Some(llama_check) = &args.llama_check {
        let file = folder.join("f16.gguf");
        process::stdout(Command::new(llama_check).arg("convert").args([model, &file]))?;
        for (name, prompt) in [("llama.cpp F16, prompt", &["--prompt"][..]), ("llama.cpp F16, scoring", &[])]
        {
            let mut command = Command::new(llama_check);
            command.arg("score").args([&file, &tokens]).args(prompt).args(["--threads", &threads]);
            sides.push(Contestant::start(name, &mut command)?);
        }
    }
    for round in 0..=args.rounds {
        let mut ours = None;
        for side in &mut sides {
            let Round { seconds, mean_nll } = side.side.round()?;
            if round > 0 {
                side.best = side.best.min(seconds);
            }
            // A prompt is run without scoring it.
            let (Some(mean_nll), name) = (mean_nll, side.name) else { continue };
            let expected = *ours.get_or_insert(mean_nll);
            // Not `>`: a NaN must fail.
            let equal = (mean_nll - expected).abs() <= MAX_NLL_DIFFERENCE;
            ensure!(equal, "mean NLL is {expected} here and {mean_nll} in {name}");
        }
    }
    let scored = (args.ctx * args.windows) as f64;
    println!(
        "   best of {} rounds, {} threads, tokens/s; ratios of ramp's scoring:",
        args.rounds, args.threads
    );
    for side in &sides {
        let ratio = side.best / sides[0].best;
        println!("   {:24} {:8.0}  {ratio:.2}", side.name, scored / side.best);
    }
    Ok(())
}

/// A program that scores when it is told.
struct Contestant {
    name: &'static str,
    /// Seconds of its best round.
    best: f64,
    side: Side,
}

impl Contestant {
    /// Starts it, waits until it is ready, and prints what it says then.
    fn start(name: &'static str, command: &mut Command) -> Result<Self> {
        let (side, says) = Side::start(command)?;
        if !says.is_empty() {
            println!("   {says}");
        }
        Ok(Self { name, best: f64::INFINITY, side })
    }
}

#[derive(Debug, Deserialize)]
struct Round {
    seconds: f64,
    /// `None` where nothing is scored.
    mean_nll: Option<f64>,
}
