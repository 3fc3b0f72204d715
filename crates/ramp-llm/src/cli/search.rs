//! `ramp search`.

use std::path::PathBuf;

use clap::{
    ValueEnum,
    builder::{PossibleValue, RangedU64ValueParser},
};
#[cfg(feature = "figures")]
use std::io::Write as _;

#[cfg(feature = "figures")]
use ramp::figures::{ParetoPoint, pareto};
use ramp::{
    gguf::GgmlType,
    pipeline::{
        BudgetSummary, SearchAllocator, SearchOptions, SearchReport, SearchRun, SearchTexts, fold_of_mode,
        search,
    },
    quant::{Budget, GptqConfig, Rounding},
    search::{ActionSet, FeatureSource, Mode, SearchCodec},
};

use super::{
    args::{DevicesArgs, FixedArgs, PrecisionArgs, ReportArgs, RewardArgs, RoundingArg, at_least},
    failure::{Failure, Result},
    output,
    progress::Progress,
    size::{self, grouped, human},
    table::{
        Align::{Left, Right},
        Table, interval,
    },
};

/// A number without a unit is bits per weight up to here, and bytes above.
const MOST_BITS: f64 = 32.0;

/// Arguments of `ramp search`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Hugging Face folder, or a GGUF file that is not quantized.
    model: PathBuf,
    /// The searches, separated by commas.
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        value_enum,
        default_values_t = [AllocatorArg(SearchAllocator::Uniform), AllocatorArg(SearchAllocator::Knapsack)]
    )]
    allocators: Vec<AllocatorArg>,
    /// The budgets, separated by commas: bits per weight such as 4.5, or sizes of the file such as 6.1MB.
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "4.5", value_parser = parse_budget)]
    budgets: Vec<Budget>,
    /// Runs of every search that depends on a seed: seeds 0 to N - 1.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = RangedU64ValueParser::<u64>::new().range(1..=1000))]
    seeds: u64,
    /// Tokens that each run may forward, the unquantized model's pass included; searches without an end of their own
    /// use them all [default: each search ends by itself].
    #[arg(long, value_name = "TOKENS", value_parser = at_least(1))]
    tokens: Option<usize>,
    /// Episodes of the agents [default: 64 for sac, 250 for sac-paper, 200 for the others].
    #[arg(long, value_name = "N", value_parser = at_least(1))]
    episodes: Option<usize>,
    /// Text to calibrate on, and to split for what has no text of its own [default: a small text that comes with RAMP].
    #[arg(long, value_name = "FILE")]
    text: Option<PathBuf>,
    /// Text that allocations are scored on while searching.
    #[arg(long, value_name = "FILE")]
    search_text: Option<PathBuf>,
    /// Text that chooses among the allocations that were found.
    #[arg(long, value_name = "FILE")]
    selection_text: Option<PathBuf>,
    /// The test text: nothing is chosen by it.
    #[arg(long, value_name = "FILE")]
    report_text: Option<PathBuf>,
    /// A log of finished runs: begun if it does not exist, gone on with if it does.
    #[arg(long, value_name = "LOG.jsonl")]
    log: Option<PathBuf>,
    /// The tensor types to choose from [default: Q3_K,IQ4_XS,Q4_K,Q5_K,Q6_K].
    #[arg(long, value_name = "TYPES", value_delimiter = ',')]
    types: Option<Vec<GgmlType>>,
    #[command(flatten)]
    fixed: FixedArgs,
    /// How codes are chosen: each weight to its nearest, or with error feedback (GPTQ).
    #[arg(long, value_enum, default_value = "gptq")]
    rounding: RoundingArg,
    /// Do not fold activation scales.
    #[arg(long)]
    no_fold: bool,
    /// Which weights are evaluated while searching: those of the file, or the paper's affine groups of 128.
    #[arg(long, value_enum, default_value_t = CodecArg::Export)]
    search_codec: CodecArg,
    /// Which model the features of agents describe: the folded one, which is quantized, or the one that was read.
    #[arg(long, value_enum, default_value_t = FeaturesArg::Folded)]
    features: FeaturesArg,
    /// Length of the windows that the texts are cut into, in tokens.
    #[arg(long, value_name = "TOKENS", default_value_t = 512, value_parser = at_least(2))]
    ctx: usize,
    /// Tokens for activation statistics, at most.
    #[arg(long, value_name = "TOKENS", default_value_t = 131_072, value_parser = at_least(1))]
    calibration_tokens: usize,
    #[command(flatten)]
    reward: RewardArgs,
    /// Tokens that choose among what was found, at most.
    #[arg(long, value_name = "TOKENS", default_value_t = 8192, value_parser = at_least(1))]
    selection_tokens: usize,
    /// Tokens of the report, at most.
    #[arg(long, value_name = "TOKENS", default_value_t = 32_768, value_parser = at_least(1))]
    report_tokens: usize,
    #[command(flatten)]
    device: DevicesArgs,
    #[command(flatten)]
    precision: PrecisionArgs,
    #[command(flatten)]
    report: ReportArgs,
    /// Draw quality against size as SVG (Figures 5 and 7).
    #[cfg(feature = "figures")]
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
}

/// `--search-codec`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum CodecArg {
    /// The weights of the file.
    Export,
    /// Affine groups of 128 in each format's nominal bits. What is found is measured as a file.
    Affine128,
}

/// `--features`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FeaturesArg {
    /// After folding.
    Folded,
    /// Before folding.
    Original,
}

/// One of `--allocators`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct AllocatorArg(SearchAllocator);

impl ValueEnum for AllocatorArg {
    fn value_variants<'a>() -> &'a [Self] {
        const ALL: [AllocatorArg; SearchAllocator::ALL.len()] = {
            let mut all = [AllocatorArg(SearchAllocator::Uniform); SearchAllocator::ALL.len()];
            let mut at = 0;
            while at < all.len() {
                all[at] = AllocatorArg(SearchAllocator::ALL[at]);
                at += 1;
            }
            all
        };
        &ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let help = match self.0 {
            SearchAllocator::Uniform => "the same density of bits everywhere",
            SearchAllocator::Mix => "the largest mix of llama-quantize that fits, and some of the next",
            SearchAllocator::RoleDepth => "a rule of thumb from roles and depth",
            SearchAllocator::HawqBits => "bits from the logarithm of Hessian traces (Eq. 5)",
            SearchAllocator::Hawq => "Hessian traces times errors (HAWQ-V2), and a knapsack",
            SearchAllocator::Proxy => "errors of the weights, and a knapsack",
            SearchAllocator::ProxyImatrix => "errors of the outputs by the importance matrix, and a knapsack",
            SearchAllocator::Knapsack => "measured sensitivities, and a knapsack",
            SearchAllocator::Polish => "the measured knapsack, then exchanges between two layers",
            SearchAllocator::Surrogate => "ridge regression on whole allocations, and knapsacks",
            SearchAllocator::Evopress => "evolution with one parent and races (EvoPress)",
            SearchAllocator::Cem => "the cross-entropy method",
            SearchAllocator::Random => "random allocations, the best one kept",
            SearchAllocator::Sac => "Soft Actor-Critic, mended",
            SearchAllocator::SacWide => "the same over the wide features",
            SearchAllocator::SacPaper => "Soft Actor-Critic to the paper's letter",
            SearchAllocator::Discrete => "categorical Soft Actor-Critic on measured sensitivities",
            SearchAllocator::Ppo => "proximal policy optimisation, categorical",
        };
        Some(PossibleValue::new(self.0.name()).help(help))
    }
}

fn parse_budget(text: &str) -> Result<Budget, String> {
    match text.trim().parse::<f64>() {
        Ok(bits) if bits > 0.0 && bits <= MOST_BITS => Ok(Budget::BitsPerWeight(bits)),
        Ok(number) if !number.is_finite() || number <= 0.0 => {
            Err(format!("`{text}` is neither bits per weight above zero nor a size"))
        }
        _ => size::parse(text).map(Budget::Bytes),
    }
}

impl Args {
    fn options(self) -> Result<SearchOptions> {
        let allocators: Vec<SearchAllocator> = self.allocators.iter().map(|arg| arg.0).collect();
        for (at, allocator) in allocators.iter().enumerate() {
            if allocators[..at].contains(allocator) {
                return Err(Failure::User(format!("--allocators names {} twice", allocator.name())));
            }
        }
        for (at, budget) in self.budgets.iter().enumerate() {
            if self.budgets[..at].contains(budget) {
                return Err(Failure::User(format!("--budgets names {budget} twice")));
            }
        }
        let actions = match self.types {
            Some(types) => {
                ActionSet::new(types).map_err(|error| Failure::User(format!("--types: {error}")))?
            }
            None => ActionSet::default(),
        };
        let fold = if self.no_fold { None } else { fold_of_mode(Mode::Sound, &actions) };
        let rounding = match self.rounding {
            RoundingArg::Nearest => Rounding::Nearest,
            RoundingArg::Gptq => Rounding::Gptq(GptqConfig::default()),
        };
        let texts = SearchTexts {
            text: self.text,
            search: self.search_text,
            selection: self.selection_text,
            report: self.report_text,
            reward_text: self.reward.text(),
            ctx: self.ctx,
            calibration_tokens: self.calibration_tokens,
            selection_tokens: self.selection_tokens,
            report_tokens: self.report_tokens,
        };
        let (device, others) = self.device.open()?;
        let defaults = SearchOptions::new(self.model, allocators, self.budgets, device);
        Ok(SearchOptions {
            seeds: self.seeds,
            tokens: self.tokens,
            episodes: self.episodes,
            texts,
            log: self.log,
            fixed: self.fixed.types(),
            actions,
            fold,
            rounding,
            search_codec: match self.search_codec {
                CodecArg::Export => SearchCodec::Export,
                CodecArg::Affine128 => SearchCodec::Affine128,
            },
            features: match self.features {
                FeaturesArg::Folded => FeatureSource::Folded,
                FeaturesArg::Original => FeatureSource::Original,
            },
            precision: self.precision.precision,
            others,
            ..defaults
        })
    }
}

/// Runs the command.
///
/// # Errors
/// When the arguments, the model, a text or the log cannot be used, or on Ctrl-C.
pub(crate) fn run(args: Args) -> Result {
    args.report.check()?;
    args.log.iter().try_for_each(|log| output::check_writable(log))?;
    let render = args.report.clone();
    #[cfg(feature = "figures")]
    let plot = args.plot.clone();
    #[cfg(feature = "figures")]
    plot.iter().try_for_each(|plot| output::check_writable(plot))?;
    let options = args.options()?;
    let mut progress = Progress::start("load");
    let result = search(&options, &mut |step| progress.step(step));
    drop(progress);
    let report = match result {
        Err(error) if error.is_interrupted() => {
            return Err(Failure::Interrupted(match &options.log {
                Some(log) => format!("interrupted; what was finished is in {}", log.display()),
                None => "interrupted; nothing was kept without --log".into(),
            }));
        }
        Err(error) => {
            return Err(match (Failure::from(error), &options.log) {
                (Failure::Device(why), Some(log)) => Failure::Device(format!(
                    "{why}; what was finished is in {}, and the same command goes on",
                    log.display()
                )),
                (failure, _) => failure,
            });
        }
        Ok(report) => report,
    };
    #[cfg(feature = "figures")]
    if let Some(plot) = &plot {
        let svg = pareto(&points(&report), &report.model.display().to_string(), "KL divergence (nats)")?;
        ramp::gguf::write_atomically(plot, |file| file.write_all(svg.as_bytes()))?;
    }
    let text = render.render(&report, &table(&report))?;
    output::print(&(text + &notes(&report, render.markdown)))
}

/// What the report's windows say of every search at every budget.
#[cfg(feature = "figures")]
fn points(report: &SearchReport) -> Vec<ParetoPoint> {
    let searches = report.budgets.iter().flat_map(|budget| &budget.searches);
    searches
        .map(|search| ParetoPoint {
            series: search.allocator.name().to_owned(),
            bytes: search.file_bytes.mean,
            loss: search.report_kld.mean,
            interval: search.report_kld.half_width.unwrap_or(0.0),
        })
        .collect()
}

fn table(report: &SearchReport) -> Table {
    let mut table = Table::new([
        ("budget", Left),
        ("allocator", Left),
        ("runs", Right),
        ("bytes", Right),
        ("bits per weight", Right),
        ("KL search", Right),
        ("KL selection", Right),
        ("KL report", Right),
        ("perplexity", Right),
        ("tokens", Right),
        ("seconds", Right),
    ]);
    for BudgetSummary { budget, searches, .. } in &report.budgets {
        for search in searches {
            table.row([
                budget.to_string(),
                search.allocator.name().to_owned(),
                search.runs.to_string(),
                grouped(search.file_bytes.mean.round() as u64),
                format!("{:.4}", search.bits_per_weight.mean),
                interval(search.search_kld, 5),
                interval(search.selection_kld, 5),
                interval(search.report_kld, 5),
                interval(search.report_perplexity, 3),
                grouped(search.tokens.mean.round() as u64),
                format!("{:.1}", search.seconds.mean),
            ]);
        }
    }
    table
}

/// What the table's numbers are.
fn notes(report: &SearchReport, markdown: bool) -> String {
    let mut notes = String::new();
    if markdown {
        notes.push('\n');
    }
    for BudgetSummary { budget, selected, .. } in &report.budgets {
        if let Some(best) = selected {
            notes += &format!(
                "{budget}: selection takes {} (seed {}), KL {:.5} and perplexity {:.3} on the report's windows.\n",
                best.allocator.name(),
                best.seed,
                best.report_kld,
                best.report_perplexity,
            );
        }
    }
    for BudgetSummary { budget, searches, .. } in &report.budgets {
        for search in searches {
            if let Some(policy) = search.policy_kld {
                notes += &format!(
                    "{budget}, {}: the policy's own allocation has KL {} on the search windows.\n",
                    search.allocator.name(),
                    interval(policy, 5),
                );
            }
        }
    }
    let ((low, high), (least, most)) = (report.ends.bits_per_weight, report.ends.bytes);
    notes += &format!(
        "KL divergence in nats to the unquantized model, whose perplexity is {:.3}; ± is half of a 95 % interval over \
         seeds.\nPossible budgets: {low:.4} to {high:.4} bits per weight, {} to {}.\n",
        report.base_perplexity,
        human(least),
        human(most),
    );
    let unfinished: Vec<String> =
        report.runs.iter().filter(|run| run.found.is_none()).map(describe).collect();
    if !unfinished.is_empty() {
        notes +=
            &format!("The limit of tokens left no room for one allocation: {}.\n", unfinished.join(", "));
    }
    let non_finite: usize =
        report.budgets.iter().flat_map(|budget| &budget.searches).map(|search| search.non_finite).sum();
    if non_finite > 0 {
        notes += &format!("{non_finite} allocations gave NaN or infinity and got the floor of the score.\n");
    }
    if report.resumed > 0 {
        notes += &format!("{} runs were in the log.\n", report.resumed);
    }
    for warning in &report.warnings {
        notes += &format!("warning: {warning}\n");
    }
    notes
}

fn describe(run: &SearchRun) -> String {
    format!("{} at {} (seed {})", run.allocator.name(), run.budget, run.seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_are_bits_or_sizes() {
        assert_eq!(parse_budget("4.5"), Ok(Budget::BitsPerWeight(4.5)));
        assert_eq!(parse_budget("6.1MB"), Ok(Budget::Bytes(6_100_000)));
        assert_eq!(parse_budget("6125440"), Ok(Budget::Bytes(6_125_440)));
        assert_eq!(parse_budget("1 B"), Ok(Budget::Bytes(1)));
        for bad in ["", "0", "-4", "nan", "inf", "four", "4.5bits"] {
            let error = parse_budget(bad).unwrap_err();
            assert!(error.contains(&format!("`{bad}`")), "{error}");
        }
    }
}
