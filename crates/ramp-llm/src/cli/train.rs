//! `ramp train`.

use std::path::PathBuf;

use clap::ValueEnum;
use ramp::{
    pipeline::{PolicyTraining, TrainReport, train_policy},
    quant::Budget,
    search::{Normalisation, Student, WalkSearchConfig},
};

use super::{
    args::{DevicesArgs, StudyArgs, at_least, parse_bits},
    failure::{Failure, Result},
    output,
    progress::Progress,
    quantize::same_file,
    table::{
        Align::{Left, Right},
        Table,
    },
};

/// Arguments of `ramp train`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Hugging Face folders or unquantized GGUF files to learn from. All are in memory together.
    #[arg(required = true)]
    models: Vec<PathBuf>,
    /// The policy to write, for quantize --policy and transfer.
    #[arg(short, long, value_name = "POLICY.safetensors")]
    output: PathBuf,
    /// What learns.
    #[arg(long, value_enum, default_value_t = AgentArg::Regressor)]
    agent: AgentArg,
    /// Budgets to learn for, in bits per weight.
    #[arg(long, value_name = "BITS", value_delimiter = ',', default_values_t = [4.0], value_parser = parse_bits)]
    budgets: Vec<f64>,
    /// Episodes over all models and budgets, which take turns [default: 200].
    #[arg(long, value_name = "N", value_parser = at_least(1))]
    episodes: Option<usize>,
    #[command(flatten)]
    study: StudyArgs,
    /// Write the history of the training as JSON: a list with one log for each model and budget.
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Keep what is learnt every N episodes beside the output, with `.partial` behind its name. The same command goes on
    /// from there; the file is removed at the end.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = at_least(1))]
    save_every: usize,
    /// Begin anew, whatever was kept.
    #[arg(long)]
    restart: bool,
    #[command(flatten)]
    device: DevicesArgs,
    /// Write what the policy reaches on the models that it learnt from as JSON.
    #[arg(long, value_name = "REPORT")]
    json: Option<PathBuf>,
}

/// `--agent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum AgentArg {
    /// Soft Actor-Critic with an action in (0, 1).
    Sac,
    /// Soft Actor-Critic that chooses among the formats.
    Discrete,
    /// Proximal Policy Optimisation.
    Ppo,
    /// A regression of measured sensitivities: no episodes.
    Regressor,
}

/// Runs the command.
///
/// # Errors
/// When the arguments, a model, the text or the outputs cannot be used, or on Ctrl-C.
pub(crate) fn run(args: &Args) -> Result {
    let outputs: Vec<&PathBuf> =
        [Some(&args.output), args.log.as_ref(), args.json.as_ref()].into_iter().flatten().collect();
    for (at, path) in outputs.iter().enumerate() {
        output::check_writable(path)?;
        if outputs[..at].contains(path) {
            return Err(Failure::file(path, "is named by two outputs"));
        }
        if args.models.iter().chain(args.study.text()).any(|input| same_file(path, input)) {
            return Err(Failure::file(path, "is an input, too"));
        }
    }
    let agent = |config: WalkSearchConfig| {
        let episodes = args.episodes.unwrap_or(config.episodes);
        Student::Agent(WalkSearchConfig { episodes, ..config })
    };
    let seed = args.study.seed;
    let student = match args.agent {
        AgentArg::Sac => agent(WalkSearchConfig::continuous(seed)),
        AgentArg::Discrete => agent(WalkSearchConfig::discrete(seed)),
        AgentArg::Ppo => agent(WalkSearchConfig::ppo(seed)),
        AgentArg::Regressor if args.episodes.is_some() || args.log.is_some() => {
            return Err(Failure::User(
                "--agent regressor has no episodes: leave --episodes and --log out".into(),
            ));
        }
        AgentArg::Regressor => Student::Regressor { norm: Normalisation::PerModel },
    };
    let settings = args.study.settings(args.device.open()?)?;
    let options = PolicyTraining {
        models: args.models.clone(),
        budgets: args.budgets.iter().map(|&bits| Budget::BitsPerWeight(bits)).collect(),
        output: args.output.clone(),
        student,
        log: args.log.clone(),
        save_every: args.save_every,
        restart: args.restart,
        settings,
    };
    let mut progress = Progress::start("load");
    let report = train_policy(&options, &mut |step| progress.step(step));
    drop(progress);
    let report = report.map_err(|error| match Failure::from(error) {
        Failure::Interrupted(_) => Failure::Interrupted(
            "interrupted; the same command goes on from the last checkpoint, if there is one".into(),
        ),
        Failure::Device(why) => Failure::Device(format!(
            "{why}; the same command goes on from the last checkpoint, if there is one"
        )),
        other => other,
    })?;
    if let Some(path) = &args.json {
        output::write_json(path, &report)?;
    }
    output::print(&text(&report))
}

fn text(report: &TrainReport) -> String {
    let mut table = Table::new([
        ("model", Left),
        ("budget", Left),
        ("policy KL", Right),
        ("best KL seen", Right),
        ("uniform KL", Right),
    ]);
    for outcome in &report.outcomes {
        table.row([
            outcome.model.clone(),
            outcome.budget.clone(),
            format!("{:.5}", outcome.policy_kld),
            format!("{:.5}", outcome.best_kld),
            format!("{:.5}", outcome.uniform_kld),
        ]);
    }
    let mut text = format!("{}: {} policy\n{table}", report.output.display(), report.kind);
    if report.resumed > 0 {
        text += &format!("{} of the episodes are from an earlier run\n", report.resumed);
    }
    text
}
