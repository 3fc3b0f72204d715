//! A trained policy on models that it was not trained on, with its controls.

use std::{path::PathBuf, time::Instant};

use ramp_quant::Budget;
use ramp_search::{
    Allocator, Evaluator, LookupTable, MeasuredKnapsack, ModelFeatures, Policy, Progress, SearchContext,
    Transfer, TransferOptions, transfer,
};
use serde::Serialize;

use super::{
    options::QuantizeOptions,
    prepare::{Prepared, step},
    run::{StepFn, needs_gram},
};
use crate::error::Result;

/// Options of a transfer.
#[derive(Clone, Debug)]
pub struct PolicyTransfer {
    /// The policy files, of the same formats.
    pub policies: Vec<PathBuf>,
    /// The model that they were trained on, whose measured allocation the lookup table averages.
    pub source: PathBuf,
    /// The models that they are tried on.
    pub targets: Vec<PathBuf>,
    /// The budget, in a unit that means the same for all: bits per weight or mean bits.
    pub budget: Budget,
    /// Controls.
    pub controls: TransferOptions,
    /// Text, rounding, folding, tokens and devices; its model, output, budget and formats are not looked at.
    pub settings: QuantizeOptions,
}

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct TransferReport {
    /// The policy files.
    pub policies: Vec<PathBuf>,
    /// Their kinds.
    pub kinds: Vec<&'static str>,
    /// One for each target.
    pub targets: Vec<TargetReport>,
}

/// The policies on one target.
#[derive(Clone, Debug, Serialize)]
pub struct TargetReport {
    /// Policies and controls.
    #[serde(flatten)]
    pub transfer: Transfer,
    /// Seconds from the folder to the first policy's allocation: reading, calibration, folding, features, the policy.
    pub zero_shot_seconds: f64,
    /// Tokens that allocations are scored on, none of which calibrated or measured anything.
    pub scored_tokens: usize,
}

/// Measures policies on each target.
///
/// # Errors
/// When the policy, a model, the text or the budget is not usable, or `progress` stops the run.
pub fn transfer_policy(options: &PolicyTransfer, progress: &mut StepFn<'_>) -> Result<TransferReport> {
    let policies: Vec<(String, Policy)> = options
        .policies
        .iter()
        .map(|path| {
            let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
            Ok((name, Policy::load(path)?))
        })
        .collect::<Result<_>>()?;
    let Some((_, policy)) = policies.first() else {
        return Err(ramp_search::Error::Option {
            name: "policies",
            value: "none".into(),
            expected: "at least one",
        }
        .into());
    };
    let named: Vec<(String, &Policy)> =
        policies.iter().map(|(name, policy)| (name.clone(), policy)).collect();
    let settings = QuantizeOptions { actions: policy.actions().clone(), ..options.settings.clone() };
    let settings = &settings;
    let budgets = [options.budget];
    let lookup = {
        let source =
            Prepared::new(&options.source, &budgets, settings, needs_gram(settings.rounding), progress)?;
        let bank = source.bank(settings, progress)?;
        let problem = &source.problems[0];
        let features = ModelFeatures::new(&source.model, &source.stats, problem);
        let evaluator = Evaluator::new(&source.model, problem, &bank, source.text.search.clone())?;
        let mut context = SearchContext::new(evaluator, &features);
        let found = MeasuredKnapsack.allocate(&mut context, &mut |p: Progress| progress(step(p)))?;
        LookupTable::new(problem, &found.choices)
    };
    let mut targets = Vec::new();
    for path in &options.targets {
        let clock = Instant::now();
        let mut target = Prepared::new(path, &budgets, settings, false, progress)?;
        policy.allocate(
            &target.problems[0],
            &ModelFeatures::new(&target.model, &target.stats, &target.problems[0]),
        )?;
        let zero_shot_seconds = clock.elapsed().as_secs_f64();

        if needs_gram(settings.rounding) {
            target = Prepared::new(path, &budgets, settings, true, progress)?;
        }
        let bank = target.bank(settings, progress)?;
        let problem = &target.problems[0];
        let features = ModelFeatures::new(&target.model, &target.stats, problem);
        let evaluator = Evaluator::new(&target.model, problem, &bank, target.text.search.clone())?;
        let mut context = SearchContext::new(evaluator, &features);
        let mut judge = Evaluator::new(&target.model, problem, &bank, target.text.report.clone())?;
        let measured = transfer(
            &named,
            &target.name,
            &lookup,
            &mut context,
            &mut judge,
            &options.controls,
            &mut |p: Progress| progress(step(p)),
        )?;
        let scored_tokens = target.text.report.n_tokens();
        targets.push(TargetReport { transfer: measured, zero_shot_seconds, scored_tokens });
    }
    let kinds = policies.iter().map(|(_, policy)| policy.kind().name()).collect();
    Ok(TransferReport { policies: options.policies.clone(), kinds, targets })
}
