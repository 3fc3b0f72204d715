//! `ramp transfer`.

use std::path::PathBuf;

use ramp::{
    pipeline::{PolicyTransfer, TransferReport, transfer_policy},
    quant::Budget,
    search::TransferOptions,
};

use super::{
    args::{DevicesArgs, ReportArgs, StudyArgs, at_least, parse_bits},
    failure::{Failure, Result},
    output,
    progress::Progress,
    size::grouped,
    table::{
        Align::{Left, Right},
        Table, interval,
    },
};

/// Rows between the policies and the policies with shuffled features: uniform, lookup table, two knapsacks.
const CONTROLS: usize = 4;

/// Arguments of `ramp transfer`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The policy.
    policy: PathBuf,
    /// Models that it was not trained on: Hugging Face folders or unquantized GGUF files.
    #[arg(required = true)]
    models: Vec<PathBuf>,
    /// More policies for the same formats. Those that differ in their seed alone are reported together, with an interval.
    #[arg(long, value_name = "POLICY", num_args = 1..)]
    also: Vec<PathBuf>,
    /// The model that it was trained on, for the table of its bits by role and depth.
    #[arg(long, value_name = "MODEL")]
    source: PathBuf,
    /// The budgets in bits per weight, separated by commas.
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_values_t = [4.0], value_parser = parse_bits)]
    bpw: Vec<f64>,
    /// Random allocations of the same budget.
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = at_least(2))]
    random: usize,
    /// Permutations of the policy's features within each role.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = at_least(1))]
    shuffles: usize,
    #[command(flatten)]
    study: StudyArgs,
    #[command(flatten)]
    device: DevicesArgs,
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
        budgets: args.bpw.iter().map(|&bits| Budget::BitsPerWeight(bits)).collect(),
        controls: TransferOptions { random: args.random, shuffles: args.shuffles, seed: args.study.seed },
        settings: args.study.settings(args.device.open()?)?,
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
        ("budget", Left),
        ("allocation", Left),
        ("n", Right),
        ("KL divergence", Right),
        ("sd", Right),
        ("bytes", Right),
        ("transfer regret", Right),
    ]);
    for target in &report.targets {
        for transfer in &target.budgets {
            let mut row = |name: String, n: usize, kld: String, sd: String, bytes: f64, regret: String| {
                let (model, budget) = (target.model.clone(), transfer.budget.clone());
                let bytes = grouped(bytes.round() as u64);
                table.row([model, budget, name, n.to_string(), kld, sd, bytes, regret]);
            };
            for group in &transfer.groups {
                let (kld, regret) = (interval(group.kld, 5), interval(group.regret, 3));
                row(group.name.clone(), group.members.len(), kld, String::new(), group.bytes, regret);
            }
            let policies = report.policies.len();
            for (at, control) in transfer.rows.iter().enumerate().skip(policies) {
                // Of policies with shuffled features, only those that stand alone have a row of their own.
                let shuffled = (policies + CONTROLS..2 * policies + CONTROLS).contains(&at);
                let of = at.wrapping_sub(policies + CONTROLS);
                let alone = transfer.groups.iter().any(|group| group.members == [of]);
                if shuffled && !alone {
                    continue;
                }
                let sd = if control.count > 1 { format!("{:.5}", control.kld_sd) } else { String::new() };
                let (kld, regret) = (format!("{:.5}", control.kld), format!("{:.3}", control.regret));
                row(control.name.clone(), control.count, kld, sd, control.bytes, regret);
            }
            for group in transfer.groups.iter().filter(|group| group.members.len() > 1) {
                let Some(regret) = group.shuffled_regret else { continue };
                let name = format!("{}, features shuffled", group.name);
                row(name, regret.n, String::new(), String::new(), group.bytes, interval(regret, 3));
            }
        }
    }
    table
}

/// What the table's numbers are.
fn notes(report: &TransferReport, markdown: bool) -> String {
    let mut notes = if markdown { "\n".to_owned() } else { String::new() };
    notes +=
        "Transfer regret: 0 is the knapsack over sensitivities measured on the model itself, 1 is uniform.\n";
    if report
        .targets
        .iter()
        .flat_map(|target| &target.budgets)
        .any(|t| t.groups.len() < report.policies.len())
    {
        notes += "± is half of a 95 % interval over policies that differ in their seed.\n";
    }
    for target in &report.targets {
        notes += &format!(
            "{}: the first policy allocated in {:.1} s from the folder on; scored on {} tokens.\n",
            target.model,
            target.zero_shot_seconds,
            grouped(target.scored_tokens as u64),
        );
        for transfer in &target.budgets {
            for group in &transfer.groups {
                let first = group.members[0];
                let (kind, source) = (report.kinds[first], &transfer.sources[first]);
                let better = group.members.iter().map(|&at| 100.0 * transfer.random_better[at]).sum::<f64>()
                    / group.members.len() as f64;
                notes += &format!(
                    "{}, {}: {kind} of {source}, {better:.0} % of the random allocations are better",
                    group.name, transfer.budget
                );
                notes += &match transfer.rank_correlations[first] {
                    Some(rank) => {
                        format!(", ranks sensitivities as they are measured by {rank:.3} (Spearman).\n")
                    }
                    None => ".\n".to_owned(),
                };
            }
        }
    }
    notes
}
