//! `ramp transfer`.

use std::path::PathBuf;

use ramp::{
    pipeline::{PolicyTransfer, TransferReport, transfer_policy},
    quant::Budget,
    search::TransferOptions,
};

use super::{
    args::{DeviceArgs, ReportArgs, StudyArgs, at_least, parse_bits},
    failure::{Failure, Result},
    output,
    progress::Progress,
    size::grouped,
    table::{
        Align::{Left, Right},
        Table,
    },
};

/// Arguments of `ramp transfer`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The policy.
    policy: PathBuf,
    /// Models that it was not trained on: Hugging Face folders or unquantized GGUF files.
    #[arg(required = true)]
    models: Vec<PathBuf>,
    /// Another policy for the same formats, such as one of another seed. May be given several times.
    #[arg(long, value_name = "POLICY")]
    also: Vec<PathBuf>,
    /// The model that it was trained on, for the table of its bits by role and depth.
    #[arg(long, value_name = "MODEL")]
    source: PathBuf,
    /// The budget in bits per weight.
    #[arg(long, value_name = "BITS", default_value_t = 4.0, value_parser = parse_bits)]
    bpw: f64,
    /// Random allocations of the same budget.
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = at_least(2))]
    random: usize,
    /// Permutations of the policy's features within each role.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = at_least(1))]
    shuffles: usize,
    #[command(flatten)]
    study: StudyArgs,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    report: ReportArgs,
}

/// Runs the command.
///
/// # Errors
/// When the arguments, the policy, a model or the text cannot be used, or on Ctrl-C.
pub(crate) fn run(args: &Args) -> Result {
    args.report.check()?;
    if args.study.types.is_some() {
        return Err(Failure::User("--types does not go with a policy, which was trained for its own".into()));
    }
    let options = PolicyTransfer {
        policies: std::iter::once(&args.policy).chain(&args.also).cloned().collect(),
        source: args.source.clone(),
        targets: args.models.clone(),
        budget: Budget::BitsPerWeight(args.bpw),
        controls: TransferOptions { random: args.random, shuffles: args.shuffles, seed: args.study.seed },
        settings: args.study.settings(args.device.device.open()?)?,
    };
    let mut progress = Progress::start("load");
    let report = transfer_policy(&options, &mut |step| progress.step(step))?;
    drop(progress);
    let text = args.report.render(&report, &table(&report))?;
    output::print(&(text + &notes(&report, args.report.markdown)))
}

fn table(report: &TransferReport) -> Table {
    let mut table = Table::new([
        ("model", Left),
        ("allocation", Left),
        ("n", Right),
        ("KL divergence", Right),
        ("sd", Right),
        ("bytes", Right),
        ("transfer regret", Right),
    ]);
    for target in &report.targets {
        for row in &target.transfer.rows {
            table.row([
                target.transfer.model.clone(),
                row.name.clone(),
                row.count.to_string(),
                format!("{:.5}", row.kld),
                if row.count > 1 { format!("{:.5}", row.kld_sd) } else { String::new() },
                grouped(row.bytes as u64),
                format!("{:.3}", row.regret),
            ]);
        }
    }
    table
}

/// What the table's numbers are.
fn notes(report: &TransferReport, markdown: bool) -> String {
    let mut notes = if markdown { "\n".to_owned() } else { String::new() };
    notes +=
        "Transfer regret: 0 is the knapsack over sensitivities measured on the model itself, 1 is uniform.\n";
    for target in &report.targets {
        let transfer = &target.transfer;
        notes += &format!(
            "{}: the first policy allocated in {:.1} s from the folder on; scored on {} tokens.\n",
            transfer.model,
            target.zero_shot_seconds,
            grouped(target.scored_tokens as u64),
        );
        for (at, kind) in report.kinds.iter().enumerate() {
            let (name, source) = (&transfer.rows[at].name, &transfer.sources[at]);
            let better = 100.0 * transfer.random_better[at];
            notes += &format!(
                "{name}: {kind} policy of {source}, {better:.0} % of the random allocations are better"
            );
            notes += &match transfer.rank_correlations[at] {
                Some(rank) => {
                    format!(", ranks sensitivities as they are measured by {rank:.3} (Spearman).\n")
                }
                None => ".\n".to_owned(),
            };
        }
    }
    notes
}
