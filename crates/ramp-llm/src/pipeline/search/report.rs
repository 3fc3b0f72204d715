//! What the searches found, run by run and in all.

use std::path::PathBuf;

use ramp_eval::MeanInterval;
use ramp_quant::{Allocation, Budget};
use ramp_search::{Certificate, CurvePoint, Ends, Ledger, Score, TracePoint, reward::RewardText};
use serde::{Deserialize, Serialize};

use super::{super::report::Quality, log::Header, options::SearchAllocator};

/// One run of one search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SearchRun {
    /// The search.
    pub allocator: SearchAllocator,
    /// The budget.
    pub budget: Budget,
    /// The seed.
    pub seed: u64,
    /// What it found; `None` when the limit of tokens left no room for one allocation.
    pub found: Option<FoundRun>,
    /// Wall-clock seconds, those of shared sensitivities included where the search used them, but not encoding, the
    /// unquantized model's pass and the held-out windows.
    pub seconds: f64,
}

/// What a run found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FoundRun {
    /// Where the allocation comes from.
    pub origin: String,
    /// Size of its file in bytes.
    pub file_bytes: u64,
    /// Bits per weight over all matrices.
    pub bits_per_weight: f64,
    /// On the windows of the search.
    pub search: Score,
    /// On the windows that choose among the runs.
    pub selection: Quality,
    /// On the windows that nothing was chosen by.
    pub report: Quality,
    /// What the trained policy's own allocation reaches on the windows of the search, for agents.
    #[serde(default)]
    pub policy: Option<Score>,
    /// What the search spent, sensitivities included where it used them.
    pub ledger: Ledger,
    /// The least divergence over the tokens spent.
    pub trace: Vec<TracePoint>,
    /// Training of agents.
    pub curve: Vec<CurvePoint>,
    /// For searches that solve a knapsack on measured sensitivities: how far the sum of sensitivities is from the least
    /// one possible.
    pub certificate: Option<Certificate>,
    /// The allocation.
    pub allocation: Allocation,
}

/// The runs of one search under one budget.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SearchSummary {
    /// The search.
    pub allocator: SearchAllocator,
    /// Runs that found something.
    pub runs: usize,
    /// Size of the files in bytes.
    pub file_bytes: MeanInterval,
    /// Bits per weight over all matrices.
    pub bits_per_weight: MeanInterval,
    /// KL divergence in nats on the windows of the search.
    pub search_kld: MeanInterval,
    /// That of the trained policies' own allocations, for agents.
    pub policy_kld: Option<MeanInterval>,
    /// On the windows that choose.
    pub selection_kld: MeanInterval,
    /// On the report's windows.
    pub report_kld: MeanInterval,
    /// Perplexity on the report's windows.
    pub report_perplexity: MeanInterval,
    /// Tokens forwarded.
    pub tokens: MeanInterval,
    /// Wall-clock seconds.
    pub seconds: MeanInterval,
    /// Allocations with which the model gave NaN or infinity, in all runs.
    pub non_finite: usize,
}

/// All searches under one budget.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BudgetSummary {
    /// The budget.
    pub budget: Budget,
    /// Every search that found something, in the order asked for.
    pub searches: Vec<SearchSummary>,
    /// The run with the least divergence on the windows that choose: its divergence on the report's windows is that of
    /// the best allocation without knowing the test text.
    pub selected: Option<Selected>,
}

/// The run that selection chooses.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Selected {
    /// The search.
    pub allocator: SearchAllocator,
    /// Its seed.
    pub seed: u64,
    /// KL divergence on the windows that choose.
    pub selection_kld: f64,
    /// Its KL divergence on the report's windows.
    pub report_kld: f64,
    /// Its perplexity there.
    pub report_perplexity: f64,
}

/// The whole comparison.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SearchReport {
    /// Version of RAMP.
    pub version: &'static str,
    /// The model.
    pub model: PathBuf,
    /// What the runs were made with.
    pub header: Header,
    /// Whether the search was rewarded on the test windows, which makes its report no test.
    pub reward_on_test_text: bool,
    /// What it was rewarded on.
    pub reward_text: RewardText,
    /// Perplexity of the unquantized model on the windows of the report.
    pub base_perplexity: f64,
    /// The range of possible budgets.
    pub ends: Ends,
    /// By budget.
    pub budgets: Vec<BudgetSummary>,
    /// Runs that were read from the log.
    pub resumed: usize,
    /// Every run.
    pub runs: Vec<SearchRun>,
    /// Things to know.
    pub warnings: Vec<String>,
    /// Wall-clock seconds, step by step, of this session alone.
    pub seconds: Vec<(String, f64)>,
}

impl BudgetSummary {
    /// Summarises the runs under a budget.
    pub(super) fn new(budget: Budget, allocators: &[SearchAllocator], runs: &[SearchRun]) -> Self {
        let of_budget = || runs.iter().filter(|run| run.budget == budget);
        let searches = allocators.iter().filter_map(|&allocator| {
            let own: Vec<(&SearchRun, &FoundRun)> = of_budget()
                .filter(|run| run.allocator == allocator)
                .filter_map(|run| Some((run, run.found.as_ref()?)))
                .collect();
            let interval = |value: &dyn Fn(&FoundRun) -> f64| {
                MeanInterval::new(&own.iter().map(|(_, found)| value(found)).collect::<Vec<_>>())
            };
            Some(SearchSummary {
                allocator,
                runs: own.len(),
                file_bytes: interval(&|found| found.file_bytes as f64)?,
                bits_per_weight: interval(&|found| found.bits_per_weight)?,
                search_kld: interval(&|found| found.search.kld)?,
                policy_kld: {
                    let scores = own.iter().filter_map(|(_, found)| found.policy);
                    MeanInterval::new(&scores.map(|score| score.kld).collect::<Vec<_>>())
                },
                selection_kld: interval(&|found| found.selection.kld)?,
                report_kld: interval(&|found| found.report.kld)?,
                report_perplexity: interval(&|found| found.report.perplexity)?,
                tokens: interval(&|found| found.ledger.tokens as f64)?,
                seconds: MeanInterval::new(&own.iter().map(|(run, _)| run.seconds).collect::<Vec<_>>())?,
                non_finite: own.iter().map(|(_, found)| found.ledger.non_finite).sum(),
            })
        });
        let candidates = of_budget().filter(|run| allocators.contains(&run.allocator)).filter_map(|run| {
            let found = run.found.as_ref()?;
            Some(Selected {
                allocator: run.allocator,
                seed: run.seed,
                selection_kld: found.selection.kld,
                report_kld: found.report.kld,
                report_perplexity: found.report.perplexity,
            })
        });
        let selected = candidates.min_by(|a, b| a.selection_kld.total_cmp(&b.selection_kld));
        Self { budget, searches: searches.collect(), selected }
    }
}
