//! Many searches on one model, at equal bytes and, if asked, equal tokens.
//!
//! Calibration, folding, every matrix in every format, the unquantized model's distributions and the sensitivities are
//! made once for all budgets and searches.

mod log;
mod options;
mod report;

use std::{collections::HashMap, time::Instant};

use ramp_eval::{Windows, compare};
use ramp_model::{CausalLm, ModelConfig, ModelFiles, gguf_metadata};
use ramp_quant::fold;
use ramp_search::{
    BankSource, Certificate, Choices, Error as SearchError, Evaluator, FeatureSource, Ledger, ModelFeatures,
    Problem, SearchCodec, SearchContext, Sensitivity, WeightBank, allocate_within, reward::RewardSplit,
};
use sha2::{Digest, Sha256};

use self::log::Log;
pub use self::{
    log::Header,
    options::{SearchAllocator, SearchOptions, SearchTexts},
    report::{BudgetSummary, FoundRun, SearchReport, SearchRun, SearchSummary, Selected},
};
use super::{
    fleet::{lost, replicas},
    metadata::Making,
    prepare::step,
    report::Quality,
    resident::Place,
    run::{Clock, Step, StepFn, calibrate, hex, needs_gram, refuse_quantized},
    text::{REWARDED_ON_TEST, SearchSplit},
};
use crate::error::Result;

/// Runs every search under every budget with every seed, unless the log has it.
///
/// # Errors
/// When the model, a text, a budget or the log is not usable; when a step fails; or when `progress` stops the run. What
/// was finished is in the log then.
pub fn search(options: &SearchOptions, progress: &mut StepFn<'_>) -> Result<SearchReport> {
    let mut clock = Clock::default();
    let files = ModelFiles::open(&options.model)?;
    refuse_quantized(&files)?;
    let config = files.config().clone();
    // The size of the metadata does not depend on these.
    let making = Making {
        mode: ramp_search::Mode::Sound,
        allocator: "search",
        seed: 0,
        folded: options.fold.is_some(),
        rounding: options.rounding,
        learned: false,
        command: String::new(),
        policy_sha256: None,
        dataset: String::new(),
    };
    let metadata = making.metadata(gguf_metadata(&files)?, &config, None)?;
    let (actions, fixed) = (&options.actions, options.fixed);
    let ends = Problem::ends(&config, &metadata, actions, fixed)?;
    let problems: Vec<Problem> = options
        .budgets
        .iter()
        .map(|&budget| Problem::with_fixed(&config, &metadata, actions, fixed, budget))
        .collect::<ramp_search::Result<_>>()?;
    let Some(first) = problems.first() else { return Err(SearchError::Budget("nothing".into()).into()) };
    let split = SearchSplit::new(&options.texts, &files.tokenizer()?, config.max_position_embeddings)?;

    let place = Place { device: &options.device, precision: options.precision, host: &options.agent_device };
    let (mut model, base) = place.load(&files)?;
    let parts = [&split.calibration, &split.search, &split.selection, &split.report];
    let header = Header::new(options, actions, model_hash(&model)?, parts.map(windows_hash));
    let mut log = Log::open(options.log.as_deref(), header.clone())?;
    let resumed = log.runs.len();
    clock.lap("load");

    let mut stats = calibrate(&base, &split.calibration, needs_gram(options.rounding), None, progress)?;
    let unfolded = (options.features == FeatureSource::Original).then(|| (model.clone(), stats.clone()));
    if let Some(fold_config) = &options.fold {
        fold(&mut model, &mut stats, fold_config)?;
    }
    clock.lap("calibrate");
    let computing = place.computing(&model)?;
    let mut build = |codec| {
        let (source, mut tick) = (BankSource::new(&model, &computing), |p| progress(step(p)));
        WeightBank::build_in(codec, source, &stats, first, options.rounding, &mut tick)
    };
    let bank = build(options.search_codec)?;
    // What is found is measured with the weights that a file would have.
    let exported = match options.search_codec {
        SearchCodec::Export => None,
        SearchCodec::Affine128 => Some(build(SearchCodec::Export)?),
    };
    let exported = exported.as_ref().unwrap_or(&bank);
    clock.lap("encode");

    let mut warnings = split.warnings.clone();
    let others = replicas(&options.others, &computing, &bank, first, &mut warnings)?;
    let mut runner = Runner {
        options,
        config: &config,
        model_name: files.name(),
        evaluator: Evaluator::with_replicas(&computing, first, &bank, split.search.clone(), &others)?,
        held_out: HeldOut {
            base: &base,
            model: &computing,
            bank: exported,
            split: &split,
            known: HashMap::new(),
        },
        sensitivity: None,
    };
    for problem in &problems {
        let (model, stats) = unfolded.as_ref().map_or((&model, &stats), |(model, stats)| (model, stats));
        let features = ModelFeatures::new(model, stats, problem);
        for &allocator in &options.allocators {
            let seeds = if allocator.is_random() { options.seeds } else { 1 };
            for seed in 0..seeds {
                if !log.has(allocator, problem.budget(), seed) {
                    log.push(runner.run(allocator, seed, problem, &features, progress)?)?;
                }
            }
        }
    }
    clock.lap("search");
    let base_perplexity = runner.held_out.base_perplexity(progress)?;
    clock.lap("evaluate");

    warnings.extend(lost(&runner.evaluator));
    let reward_on_test_text = options.texts.reward_text.split == RewardSplit::Test;
    if reward_on_test_text {
        warnings.push(REWARDED_ON_TEST.into());
    }
    if options.search_codec != SearchCodec::Export {
        warnings.push(
            "the search evaluated other weights than a file has: its own scores are not the file's".into(),
        );
    }
    let summary = |&budget| BudgetSummary::new(budget, &options.allocators, &log.runs);
    Ok(SearchReport {
        version: env!("CARGO_PKG_VERSION"),
        model: options.model.clone(),
        reward_on_test_text,
        reward_text: options.texts.reward_text,
        base_perplexity,
        ends,
        budgets: options.budgets.iter().map(summary).collect(),
        header,
        resumed,
        runs: log.runs,
        warnings,
        seconds: clock.laps,
    })
}

/// What all runs have in common.
struct Runner<'a> {
    options: &'a SearchOptions,
    config: &'a ModelConfig,
    model_name: String,
    evaluator: Evaluator<'a>,
    held_out: HeldOut<'a>,
    /// Measured by the first search that asked for it, with what that cost.
    sensitivity: Option<(Sensitivity, Ledger)>,
}

impl<'a> Runner<'a> {
    fn run(
        &mut self,
        allocator: SearchAllocator,
        seed: u64,
        problem: &'a Problem,
        features: &ModelFeatures<'_>,
        progress: &mut StepFn<'_>,
    ) -> Result<SearchRun> {
        let mut context = SearchContext::new(self.evaluator.for_problem(problem)?, features);
        if let Some((known, spent)) = &self.sensitivity {
            context = context.with_sensitivity(known.clone(), *spent);
        }
        let start = Instant::now();
        let options = self.options;
        let mut search =
            allocator.make(seed, options.episodes, self.config, &self.model_name, &options.agent_device);
        let mut tick = |p| progress(step(p));
        let ended = allocate_within(search.as_mut(), self.options.tokens, &mut context, &mut tick);
        let mut seconds = start.elapsed().as_secs_f64();
        if let (Some((_, spent)), Some(_)) = (&self.sensitivity, context.measured()) {
            seconds += spent.seconds;
        }
        let found = match ended {
            Ok(found) => {
                let (selection, report) = self.held_out.quality(problem, &found.choices, progress)?;
                Some(FoundRun {
                    file_bytes: problem.file_bytes(&found.choices),
                    bits_per_weight: problem.bits_per_weight(&found.choices),
                    search: found.score,
                    selection,
                    report,
                    ledger: *context.evaluator.ledger(),
                    trace: context.evaluator.trace().to_vec(),
                    certificate: context.measured().map(|s| Certificate::new(problem, s, &found.choices)),
                    allocation: problem.allocation(&found.choices),
                    policy: found.own.map(|(_, score)| score),
                    origin: found.origin,
                    curve: found.curve,
                })
            }
            Err(SearchError::TokenLimit { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        if self.sensitivity.is_none() {
            self.sensitivity = context.measurement().cloned();
        }
        Ok(SearchRun { allocator, budget: problem.budget(), seed, found, seconds })
    }
}

/// Scores allocations on the windows that no search sees, each one once.
struct HeldOut<'a> {
    base: &'a CausalLm,
    model: &'a CausalLm,
    bank: &'a WeightBank,
    split: &'a SearchSplit,
    known: HashMap<Choices, (Quality, Quality, f64)>,
}

impl HeldOut<'_> {
    fn quality(
        &mut self,
        problem: &Problem,
        choices: &Choices,
        progress: &mut StepFn<'_>,
    ) -> Result<(Quality, Quality)> {
        if let Some(&(selection, report, _)) = self.known.get(choices) {
            return Ok((selection, report));
        }
        let mut model = self.model.clone();
        self.bank.apply(problem, choices, &mut model)?;
        let mut measure = |windows: &Windows| {
            let total = windows.len();
            let mut tick =
                |done| progress(Step { name: "evaluate", done, total, unit: "windows", best_kld: None });
            compare(&model, self.base, windows, &mut tick)
        };
        let selection = measure(&self.split.selection)?;
        let report = measure(&self.split.report)?;
        let base = report.base.perplexity;
        let (selection, report) = (Quality::from(selection), Quality::from(report));
        self.known.insert(choices.clone(), (selection, report, base));
        Ok((selection, report))
    }

    fn base_perplexity(&self, progress: &mut StepFn<'_>) -> Result<f64> {
        if let Some((_, _, base)) = self.known.values().next() {
            return Ok(*base);
        }
        // All runs came from the log.
        let windows = &self.split.report;
        let total = windows.len();
        let mut tick =
            |done| progress(Step { name: "evaluate", done, total, unit: "windows", best_kld: None });
        Ok(ramp_eval::perplexity(self.base, windows, &mut tick)?.perplexity)
    }
}

fn model_hash(model: &CausalLm) -> Result<String> {
    let mut hash = Sha256::new();
    // Its fields have a fixed order.
    hash.update(format!("{:?}", model.config()));
    for parameter in model.config().parameters() {
        hash.update(parameter.gguf_name());
        for value in model.parameter_data(parameter)? {
            hash.update(value.to_le_bytes());
        }
    }
    Ok(hex(&hash.finalize()))
}

fn windows_hash(windows: &Windows) -> String {
    let mut hash = Sha256::new();
    for window in windows.tokens() {
        hash.update((window.len() as u64).to_le_bytes());
        window.iter().for_each(|token| hash.update(token.to_le_bytes()));
    }
    hex(&hash.finalize())
}
