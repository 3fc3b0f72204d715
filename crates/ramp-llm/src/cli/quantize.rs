//! `ramp quantize`.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use ramp::{
    pipeline::{self, AllocatorKind, QuantizeOptions, Step, fold_of_mode},
    quant::{Budget, FoldConfig, LearnConfig},
    search::{ActionSet, Mode},
};

use super::{
    args::{BudgetArgs, DevicesArgs, PrecisionArgs, SearchArgs, at_least},
    failure::{Failure, Result},
    output,
    progress::Progress,
    summary,
};

/// Between Q4_K, which most people take, and Q5_K.
pub(crate) const DEFAULT_BUDGET: Budget = Budget::BitsPerWeight(4.5);
/// The pipeline's step that puts the file in its place; later ones only look at it.
const LAST_STEP_BEFORE_FILE: &str = "write";

/// Arguments of `ramp quantize`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Hugging Face folder, or a GGUF file that is not quantized.
    model: PathBuf,
    /// The GGUF file to write.
    #[arg(short, long, value_name = "OUT.gguf")]
    output: PathBuf,
    /// Text to calibrate, search and report on [default: a small text that comes with RAMP].
    #[arg(long, value_name = "FILE")]
    text: Option<PathBuf>,
    #[command(flatten)]
    budget: BudgetArgs,
    #[command(flatten)]
    search: SearchArgs,
    /// Seed of everything random: same seed and inputs, same bytes.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Name the pre-tokenizer in the file, such as llama-bpe, where the model's own is not recognised.
    #[arg(long, value_name = "NAME")]
    pre: Option<String>,
    /// How activation scales are folded into weights and norms [default: sound, or paper with --mode paper].
    #[arg(long, value_enum)]
    fold: Option<FoldArg>,
    /// Do not fold: --fold off.
    #[arg(long, conflicts_with = "fold")]
    no_fold: bool,
    /// After the search, learn the codes of the file for the output of the model's blocks, in so many steps for each block
    /// [default: not; 200 steps where no number is given].
    #[arg(long, value_name = "STEPS", num_args = 0..=1, default_missing_value = "200", value_parser = at_least(1))]
    learn_rounding: Option<usize>,
    #[command(flatten)]
    device: DevicesArgs,
    #[command(flatten)]
    precision: PrecisionArgs,
    /// Save the trained policy.
    #[arg(long, value_name = "FILE", conflicts_with = "policy")]
    save_policy: Option<PathBuf>,
    /// Use a saved policy: no search is made.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["allocator", "episodes", "types"])]
    policy: Option<PathBuf>,
    /// Write the history of the search as JSON: rewards, losses and the allocation of every episode.
    #[arg(long, value_name = "FILE", conflicts_with = "policy")]
    log: Option<PathBuf>,
    /// Keep what the run gathers in this folder: the sums of the calibration, and every score of the search. The same command
    /// goes on from there after a lost device or an interruption, on other devices of the same kind, too.
    #[arg(long, value_name = "FOLDER")]
    state: Option<PathBuf>,
    /// Write the whole report as JSON.
    #[arg(long, value_name = "REPORT")]
    json: Option<PathBuf>,
}

/// `--fold`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FoldArg {
    /// Algorithm 2: the inputs of q, k, v and of gate, up into the norms, square root of the largest magnitude.
    Paper,
    /// The inputs of o and down through v and up, with the exponents that are best for the smallest type.
    Sound,
    /// Not at all.
    Off,
}

impl FoldArg {
    fn config(self, actions: &ActionSet) -> Option<FoldConfig> {
        match self {
            Self::Paper => fold_of_mode(Mode::Paper, actions),
            Self::Sound => fold_of_mode(Mode::Sound, actions),
            Self::Off => None,
        }
    }
}

impl Args {
    /// What can be told before anything is read.
    fn check(&self) -> Result {
        let learns = AllocatorKind::from(self.search.allocator).learns();
        for (given, option) in [(&self.save_policy, "--save-policy"), (&self.log, "--log")] {
            if given.is_some() && !learns {
                let why =
                    format!("{option} needs --allocator sac, discrete or ppo: no other learns a policy");
                return Err(Failure::User(why));
            }
        }
        let outputs = [Some(&self.output), self.save_policy.as_ref(), self.log.as_ref(), self.json.as_ref()];
        let outputs: Vec<&PathBuf> = outputs.into_iter().flatten().collect();
        for (at, path) in outputs.iter().enumerate() {
            if outputs[..at].iter().any(|other| place(other) == place(path)) {
                return Err(Failure::file(path, "is named by two outputs"));
            }
            // Overwriting an older GGUF is usual; overwriting the weights that are being read is not.
            if path.exists()
                && self.model.is_dir()
                && place(path).parent() == self.model.canonicalize().ok().as_deref()
                && path.extension().is_none_or(|extension| extension != "gguf")
            {
                return Err(Failure::file(path, "is a file of the model"));
            }
        }
        let inputs = [Some(&self.model), self.text.as_ref(), self.policy.as_ref()];
        for path in inputs.into_iter().flatten() {
            if let Some(output) = outputs.iter().find(|output| same_file(output, path)) {
                return Err(Failure::file(output, "is an input, too"));
            }
        }
        Ok(())
    }
}

/// A path that may not exist yet, by its existing folder.
fn place(path: &Path) -> PathBuf {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match (folder.canonicalize(), path.file_name()) {
        (Ok(folder), Some(name)) => folder.join(name),
        _ => path.to_owned(),
    }
}

/// Whether two paths lead to one existing file.
pub(super) fn same_file(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// Runs the command.
///
/// # Errors
/// When the arguments, the model, the text or the outputs cannot be used, or on Ctrl-C.
pub(crate) fn run(args: Args) -> Result {
    args.check()?;
    let outputs = [Some(&args.output), args.save_policy.as_ref(), args.log.as_ref(), args.json.as_ref()];
    outputs.into_iter().flatten().try_for_each(|path| output::check_writable(path))?;
    let (device, others) = args.device.open()?;
    let budget = args.budget.given().unwrap_or(DEFAULT_BUDGET);
    let defaults = QuantizeOptions::new(args.model, args.output, budget, device);
    let actions = args.search.actions()?;
    let fold = match args.fold {
        _ if args.no_fold => None,
        Some(fold) => fold.config(&actions),
        None => fold_of_mode(args.search.mode.into(), &actions),
    };
    let options = QuantizeOptions {
        text: args.text,
        allocator: args.search.allocator.into(),
        mode: args.search.mode.into(),
        episodes: args.search.episodes,
        seed: args.seed,
        precision: args.precision.precision,
        fold,
        rounding: args.search.rounding(),
        learn: args.learn_rounding.map(|steps| LearnConfig { steps, ..LearnConfig::default() }),
        pre: args.pre,
        actions,
        fixed: args.search.fixed.types(),
        policy: args.policy,
        save_policy: args.save_policy,
        log: args.log,
        state: args.state,
        ctx: args.search.ctx,
        calibration_tokens: args.search.calibration_tokens,
        reward_text: args.search.reward.text(),
        report_tokens: args.search.report_tokens,
        others,
        ..defaults
    };

    let mut file_is_written = false;
    let mut progress = Progress::start("load");
    let result = pipeline::quantize(&options, &mut |step: Step| {
        let go_on = progress.step(step);
        // The step's own last report comes before the file gets its name.
        file_is_written |= step.name != LAST_STEP_BEFORE_FILE && step.name.starts_with("evaluate");
        go_on
    });
    drop(progress);
    let report = match result {
        Err(error) if error.is_interrupted() => {
            let path = options.output.display();
            return Err(Failure::Interrupted(if file_is_written {
                format!("interrupted; {path} is complete but was not evaluated")
            } else {
                match &options.state {
                    Some(folder) => format!(
                        "interrupted; no output was written; the same command goes on from {}",
                        folder.display()
                    ),
                    None => "interrupted; no output was written".into(),
                }
            }));
        }
        other => other?,
    };
    if let Some(path) = &args.json {
        output::write_json(path, &report)?;
    }
    output::print(&summary::render(&report))
}
