//! A trained policy on models that it was not trained on, with its controls.

use std::{path::PathBuf, time::Instant};

use ramp_quant::Budget;
use ramp_search::{
    LookupTable, ModelFeatures, Policy, Progress, SearchContext, Transfer, TransferOptions, knapsack,
    transfer,
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
    /// The budgets, in a unit that means the same for all: bits per weight or mean bits.
    pub budgets: Vec<Budget>,
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

/// The policies on one target, under every budget.
#[derive(Clone, Debug, Serialize)]
pub struct TargetReport {
    /// The model.
    pub model: String,
    /// Policies and controls, for each budget.
    pub budgets: Vec<Transfer>,
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
    let lookups = lookup_tables(options, settings, progress)?;
    let mut targets = Vec::new();
    for path in &options.targets {
        let clock = Instant::now();
        let mut target = Prepared::new(path, &options.budgets, settings, false, progress)?;
        policy.allocate(
            &target.problems[0],
            &ModelFeatures::new(&target.model, &target.stats, &target.problems[0]),
        )?;
        let zero_shot_seconds = clock.elapsed().as_secs_f64();

        if needs_gram(settings.rounding) {
            target = target.with_gram(settings, progress)?;
        }
        let banks = target.banks(settings, progress)?;
        let first = &target.problems[0];
        let features = ModelFeatures::new(&target.model, &target.stats, first);
        let evaluator = target.evaluator(&banks, &target.text.search)?;
        let judge = target.evaluator(&banks, &target.text.report)?;
        let mut known = None;
        let mut budgets = Vec::new();
        for (problem, lookup) in target.problems.iter().zip(&lookups) {
            let mut context = SearchContext::new(evaluator.for_problem(problem)?, &features);
            if let Some((sensitivity, spent)) = known.take() {
                context = context.with_sensitivity(sensitivity, spent);
            }
            let mut judge = judge.for_problem(problem)?;
            let controls = &options.controls;
            let mut tick = |p: Progress| progress(step(p));
            let name = &target.name;
            budgets.push(transfer(&named, name, lookup, &mut context, &mut judge, controls, &mut tick)?);
            known = context.measurement().cloned();
        }
        let scored_tokens = target.text.report.n_tokens();
        targets.push(TargetReport { model: target.name.clone(), budgets, zero_shot_seconds, scored_tokens });
    }
    let kinds = policies.iter().map(|(_, policy)| policy.kind().name()).collect();
    Ok(TransferReport { policies: options.policies.clone(), kinds, targets })
}

/// The source's own measured allocation, averaged, for each budget.
fn lookup_tables(
    options: &PolicyTransfer,
    settings: &QuantizeOptions,
    progress: &mut StepFn<'_>,
) -> Result<Vec<LookupTable>> {
    let gram = needs_gram(settings.rounding);
    let source = Prepared::new(&options.source, &options.budgets, settings, gram, progress)?;
    let banks = source.banks(settings, progress)?;
    let first = &source.problems[0];
    let features = ModelFeatures::new(&source.model, &source.stats, first);
    let evaluator = source.evaluator(&banks, &source.text.search)?;
    let sensitivity =
        SearchContext::new(evaluator, &features).sensitivity(&mut |p: Progress| progress(step(p)))?;
    let table = |problem| LookupTable::new(problem, &knapsack(problem, &sensitivity));
    Ok(source.problems.iter().map(table).collect())
}
