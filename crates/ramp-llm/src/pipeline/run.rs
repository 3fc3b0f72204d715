//! The steps of a run, in order.

use std::{path::Path, time::Instant};

use ramp_eval::{LanguageModel, Windows, compare};
use ramp_gguf::GgmlType;
use ramp_model::{
    Calibration, CalibrationStats, CausalLm, Gather, ModelConfig, ModelFiles, Save, gguf_metadata, write_gguf,
};
use ramp_quant::{LayerQuantizer, Rounding, fold};
use ramp_search::{
    ActionSet, Allocator, BankSource, Categorical, Evaluator, EvoPress, Found, MeasuredKnapsack,
    ModelFeatures, Policy, Polish, Problem, Progress, ProxyKnapsack, Sac, SacSearchConfig, SearchContext,
    Uniform, WalkSearchConfig, WeightBank, reward::RewardSplit,
};

use sha2::{Digest, Sha256};

use super::{
    fleet::{lost, replicas},
    learn::Learned,
    metadata::{Made, Making},
    options::{AllocatorKind, QuantizeOptions},
    prepare::step,
    report::{Candidate, LayerReport, Quality, Report},
    resident::Place,
    state::State,
    text::{REWARDED_ON_TEST, TextSplit},
};
use crate::error::{Error, Result};

/// How often a calibration pass is saved, the last time when it is complete. Gram matrices are large.
const SAVES: usize = 4;

/// One report of progress.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// What is being done.
    pub name: &'static str,
    /// Units done.
    pub done: usize,
    /// Units in all.
    pub total: usize,
    /// What the units are.
    pub unit: &'static str,
    /// Least KL divergence so far in nats, while a search runs.
    pub best_kld: Option<f64>,
}

/// Receives progress and may stop the run by returning `false`.
pub type StepFn<'a> = dyn FnMut(Step) -> bool + 'a;

/// Quantizes a model: calibrate, fold, search, encode, write, reopen, evaluate.
///
/// # Errors
/// When the model, the text, the budget or the output is not usable; when a step fails; or when `progress`
/// stops the run. No file is left behind then, unless the run had reached its last step, the evaluation: the file is
/// complete by then and stays.
pub fn quantize(options: &QuantizeOptions, progress: &mut StepFn<'_>) -> Result<Report> {
    let mut clock = Clock::default();
    let files = ModelFiles::open(&options.model)?.with_pre(options.pre.clone());
    refuse_quantized(&files)?;
    check_output(&options.output)?;
    let state = options.state.as_deref().map(State::open).transpose()?;
    let config = files.config().clone();
    let policy = options.policy.as_deref().map(Policy::load).transpose()?;
    let making = Making {
        mode: options.mode,
        allocator: if options.policy.is_some() { "policy" } else { options.allocator.name() },
        seed: options.seed,
        folded: options.fold.is_some(),
        rounding: options.rounding,
        learned: options.learn.is_some(),
        command: options.command(),
        policy_sha256: options.policy.as_deref().map(sha256).transpose()?,
        dataset: options.dataset(),
    };
    // Reading a vocabulary takes time: once is enough.
    let model_metadata = gguf_metadata(&files)?;
    let metadata = making.metadata(model_metadata.clone(), &config, None)?;
    let actions = policy.as_ref().map_or(&options.actions, Policy::actions);
    let problem = Problem::with_fixed(&config, &metadata, actions, options.fixed, options.budget)?;
    let tokenizer = files.tokenizer()?;
    let text = TextSplit::new(options, &tokenizer, config.max_position_embeddings)?;
    let mut warnings = warnings(&config, &problem, actions, options);

    let place = Place::of(options);
    let (mut model, base) = place.load(&files)?;
    clock.lap("load");

    let gram = needs_gram(options.rounding);
    let mut stats = calibrate(&base, &text.calibration, gram, state.as_ref(), progress)?;
    clock.lap("calibrate");
    if let Some(fold_config) = &options.fold {
        fold(&mut model, &mut stats, fold_config)?;
    }
    clock.lap("fold");

    let mut search_progress = |p: Progress| progress(step(p));
    let features = ModelFeatures::new(&model, &stats, &problem);
    let allocated = match &policy {
        Some(policy) => Some(policy.allocate(&problem, &features)?),
        None => None,
    };
    let searches = policy.is_none() && options.allocator != AllocatorKind::Uniform;
    let computing = place.computing(&model)?;
    let source = BankSource::new(&model, &computing);
    let bank = if searches {
        WeightBank::build(source, &stats, &problem, options.rounding, &mut search_progress)?
    } else {
        let wanted: Vec<_> = allocated.iter().cloned().chain([ramp_search::uniform(&problem)]).collect();
        WeightBank::build_for(source, &stats, &problem, options.rounding, &wanted, &mut search_progress)?
    };
    warnings.extend(staged(&bank));
    clock.lap("encode");
    // A single score is not worth a copy of everything.
    let others: &[_] = if searches { &options.others } else { &[] };
    let others = replicas(others, &computing, &bank, &problem, &mut warnings)?;
    let mut evaluator = Evaluator::with_replicas(&computing, &problem, &bank, text.search.clone(), &others)?;
    if let Some(state) = &state {
        evaluator.keep_scores(&state.scores(), &text.search)?;
    }
    let mut context = SearchContext::new(evaluator, &features);

    let mut candidates = Vec::new();
    let mut candidate = |name: &str, found: &Found| {
        candidates.push(Candidate {
            allocator: name.to_owned(),
            file_bytes: problem.file_bytes(&found.choices),
            bits_per_weight: problem.bits_per_weight(&found.choices),
            score: found.score,
        });
    };
    let uniform = Uniform.allocate(&mut context, &mut search_progress)?;
    candidate("uniform", &uniform);
    let mut log = None;
    let (allocator, found) = match (allocated, options.allocator) {
        (Some(choices), _) => {
            let score = context.evaluator.score(&choices)?;
            let source = policy.as_ref().map_or("", |policy| &policy.provenance().model);
            let origin = format!("policy trained on {source}");
            ("policy", Found { choices, score, origin, curve: Vec::new(), policy: None, own: None })
        }
        (None, AllocatorKind::Uniform) => ("uniform", uniform.clone()),
        (None, AllocatorKind::Knapsack) => {
            ("knapsack", MeasuredKnapsack.allocate(&mut context, &mut search_progress)?)
        }
        (None, AllocatorKind::Sac) => {
            let mut config = SacSearchConfig::new(options.mode, options.seed);
            config.episodes = options.episodes.unwrap_or(config.episodes);
            config.warmup_episodes = config.warmup_episodes.min(config.episodes / 2);
            let needs_measurements = config.credit == ramp_search::Credit::Lagrangian;
            let mut sac = Sac::new(config, options.agent_device.clone(), files.name());
            if needs_measurements {
                let knapsack = MeasuredKnapsack.allocate(&mut context, &mut search_progress)?;
                candidate("knapsack", &knapsack);
            }
            let found = sac.allocate(&mut context, &mut search_progress)?;
            log = sac.take_log();
            ("sac", found)
        }
        (None, kind @ (AllocatorKind::Discrete | AllocatorKind::Ppo)) => {
            let mut config = match kind {
                AllocatorKind::Discrete => WalkSearchConfig::discrete(options.seed),
                _ => WalkSearchConfig::ppo(options.seed),
            };
            config.episodes = options.episodes.unwrap_or(config.episodes);
            let knapsack = MeasuredKnapsack.allocate(&mut context, &mut search_progress)?;
            candidate("knapsack", &knapsack);
            let mut search = Categorical::new(config, options.agent_device.clone(), files.name());
            let found = search.allocate(&mut context, &mut search_progress)?;
            log = search.take_log();
            (kind.name(), found)
        }
        (None, AllocatorKind::Proxy) => {
            ("proxy", ProxyKnapsack::default().allocate(&mut context, &mut search_progress)?)
        }
        (None, AllocatorKind::Polish) => {
            let knapsack = MeasuredKnapsack.allocate(&mut context, &mut search_progress)?;
            candidate("knapsack", &knapsack);
            ("polish", Polish::default().allocate(&mut context, &mut search_progress)?)
        }
        (None, AllocatorKind::Evopress) => {
            ("evopress", EvoPress::new(options.seed).allocate(&mut context, &mut search_progress)?)
        }
    };
    if let Some((choices, score)) = &found.own {
        // What the policy gives is not what the search reports, which is the best of all.
        candidate("policy", &Found { choices: choices.clone(), score: *score, ..found.clone() });
    }
    if allocator != "uniform" {
        candidate(allocator, &found);
    }
    let tokens_forwarded = context.evaluator.tokens_forwarded() + text.calibration.n_tokens();
    warnings.extend(lost(&context.evaluator));
    clock.lap("search");

    // A file that fails its budget must not exist.
    if !problem.fits(&found.choices) {
        let why = "the search exceeded its budget".into();
        return Err(Error::Input { path: options.output.clone(), why });
    }
    let types = problem.allocation(&found.choices).tensor_types()?;
    let made =
        Made { types: &types, samples: text.calibration.len(), sequence_length: text.calibration.ctx() };
    let metadata = making.metadata(model_metadata, &config, Some(&made))?;
    let mut quantizer = LayerQuantizer::new(&stats, options.rounding);
    let mut learned = match &options.learn {
        Some(config) => {
            let windows = &text.calibration;
            Learned::new(&model, &computing, &types, &mut quantizer, windows, config, progress)?
        }
        None => Learned::default(),
    };
    clock.lap("learn");
    let file_bytes = write_gguf(
        &options.output,
        &model,
        &types,
        metadata,
        |id, ty| -> Result<Vec<u8>> {
            if let Some(bytes) = learned.bytes.remove(&id) {
                return Ok(bytes);
            }
            // The very bytes that were evaluated, where the bank keeps them.
            let slot = problem.slots().iter().position(|slot| slot.id == id);
            if let Some(bytes) = slot.map_or(Ok(None), |slot| bank.bytes(slot, found.choices[slot]))? {
                return Ok(bytes);
            }
            let weight = model.weight_values(id)?;
            Ok(quantizer.quantize(id, &weight, config.shape(id), ramp_quant::Format::Ggml(ty))?.bytes)
        },
        |done, total| progress(Step { name: "write", done, total, unit: "tensors", best_kld: None }),
    )?;
    if let (Some(path), Some(policy)) = (&options.save_policy, &found.policy) {
        policy.save(path)?;
    } else if options.save_policy.is_some() {
        warnings.push(format!("no policy was saved: the {allocator} allocator trains none"));
    }
    if let (Some(path), Some(log)) = (&options.log, &log) {
        log.save(path)?;
    } else if options.log.is_some() {
        warnings.push(format!("no log was written: the {allocator} allocator has no episodes"));
    }
    clock.lap("write");

    let written = ModelFiles::open(&options.output)?.load_as(&options.device, options.precision)?;
    let windows = text.report.len();
    let mut tick = |name: &'static str, done: usize| {
        progress(Step { name, done, total: windows, unit: "windows", best_kld: None })
    };
    let after = compare(&written, &base, &text.report, |done| tick("evaluate", done))?;
    let uniform_quality = {
        // From the file, not from the folder's model: llama.cpp ignores a sliding window in both alike.
        let mut model = written.clone();
        bank.apply(&problem, &uniform.choices, &mut model)?;
        compare(&model, &base, &text.report, |done| tick("evaluate uniform", done))?
    };
    clock.lap("evaluate");

    let allocation = problem.allocation(&found.choices);
    Ok(Report {
        version: env!("CARGO_PKG_VERSION"),
        model: options.model.clone(),
        output: options.output.clone(),
        budget: options.budget,
        file_bytes,
        bits_per_weight: problem.bits_per_weight(&found.choices),
        mean_bits: allocation.mean_bits(),
        allocator: allocator.to_owned(),
        origin: found.origin,
        seed: options.seed,
        folded: options.fold.is_some(),
        rounding: options.rounding,
        learned: learned.blocks,
        reward_text: options.reward_text,
        layers: layers(&config, &problem, &found.choices),
        candidates,
        base_perplexity: after.base.perplexity,
        base_perplexity_se: after.base.perplexity_se,
        after: Quality::from(after),
        uniform: Quality::from(uniform_quality),
        tokens_forwarded,
        curve: found.curve,
        warnings,
        seconds: clock.laps,
    })
}

/// Whether a way of rounding needs the Gram matrices.
pub(super) const fn needs_gram(rounding: Rounding) -> bool {
    matches!(rounding, Rounding::Gptq(_))
}

/// The statistics of every matrix's input over some windows. With `state` they are kept there, and an earlier run's are gone
/// on with.
pub(super) fn calibrate(
    base: &CausalLm,
    windows: &Windows,
    gram: bool,
    state: Option<&State>,
    progress: &mut StepFn<'_>,
) -> Result<CalibrationStats> {
    // Windows are reduced one by one, but a GPU wants more tokens in a pass than one has.
    let batch = base.pace().tokens / windows.ctx().max(1);
    let what = Gather { gram, batch: if base.is_on_host() { 1 } else { batch.max(1) } };
    let total = windows.n_tokens();
    let tokens = windows.tokens();
    let mut pass = Calibration::new(base, &tokens, what);
    let path = state.map(State::calibration);
    if let Some(path) = &path {
        pass.resume(path)?;
    }
    let every = windows.len().div_ceil(SAVES);
    let save = path.as_deref().map(|path| Save { path, every });
    pass.run(save, |done| progress(Step { name: "calibrate", done, total, unit: "tokens", best_kld: None }))?;
    Ok(pass.finish())
}

/// Quantizing what is quantized already only loses.
pub(super) fn refuse_quantized(files: &ModelFiles) -> Result<()> {
    let Some(gguf) = files.gguf() else { return Ok(()) };
    let plain = [GgmlType::F32, GgmlType::F16, GgmlType::BF16];
    match gguf.tensors().iter().find(|tensor| !plain.contains(&tensor.ty)) {
        Some(tensor) => Err(Error::Input {
            path: files.path().to_owned(),
            why: format!("tensor `{}` is quantized already ({})", tensor.name, tensor.ty),
        }),
        None => Ok(()),
    }
}

/// The hash of a file, as hexadecimal digits.
fn sha256(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).map_err(|source| Error::Io { path: path.to_owned(), source })?;
    Ok(hex(&Sha256::digest(&bytes)))
}

/// Hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An unwritable output is found before the search, not after it.
fn check_output(path: &Path) -> Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if path.is_dir() {
        return Err(Error::Input { path: path.to_owned(), why: "is a folder, expected a file".into() });
    }
    tempfile::tempfile_in(dir).map(drop).map_err(|source| Error::Io { path: path.to_owned(), source })
}

fn warnings(
    config: &ModelConfig,
    problem: &Problem,
    actions: &ActionSet,
    options: &QuantizeOptions,
) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(window) = config.sliding_window {
        warnings.push(format!(
            "the model has a sliding window of {window} tokens, which llama.cpp ignores: beyond it the file \
             runs with full attention"
        ));
    }
    if options.text.is_none() {
        warnings.push("calibrated on RAMP's built-in text; pass a text like those the model will see".into());
    }
    if options.reward_text.split == RewardSplit::Test {
        warnings.push(REWARDED_ON_TEST.into());
    }
    let fallbacks = problem.fallbacks(actions);
    if let Some((id, wanted, got)) = fallbacks.first() {
        let n = fallbacks.len();
        warnings
            .push(format!("{id}: rows do not fit the blocks of {wanted}, {got} is used ({n} such cases)"));
    }
    warnings
}

/// What a run is slower for: a bank that the device does not hold as a whole.
fn staged(bank: &WeightBank) -> Option<String> {
    const GIB: f64 = (1_u64 << 30) as f64;
    let residence = bank.residence();
    (residence.staged > 0).then(|| {
        format!(
            "the device's memory holds a part of the weight bank; {:.2} GiB of it are in host memory and are moved for \
             each evaluation",
            residence.staged as f64 / GIB
        )
    })
}

fn layers(config: &ModelConfig, problem: &Problem, choices: &[usize]) -> Vec<LayerReport> {
    let slots = problem.slots().iter().zip(choices);
    slots
        .map(|(slot, &choice)| LayerReport {
            name: slot.id,
            shape: config.shape(slot.id),
            format: slot.choices[choice].format,
            bytes: slot.choices[choice].bytes,
        })
        .collect()
}

/// Wall-clock time of each step.
pub(super) struct Clock {
    last: Instant,
    pub(super) laps: Vec<(String, f64)>,
}

impl Default for Clock {
    fn default() -> Self {
        Self { last: Instant::now(), laps: Vec::new() }
    }
}

impl Clock {
    pub(super) fn lap(&mut self, name: &str) {
        let now = Instant::now();
        self.laps.push((name.to_owned(), now.duration_since(self.last).as_secs_f64()));
        self.last = now;
    }
}
