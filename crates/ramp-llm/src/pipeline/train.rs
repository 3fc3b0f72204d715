//! One policy from several models and budgets.

use std::path::PathBuf;

use ramp_quant::Budget;
use ramp_search::{Checkpoint, ModelFeatures, Progress, SearchContext, Student, TrainModel, TrainOutcome};
use serde::Serialize;

use super::{
    options::QuantizeOptions,
    prepare::{Prepared, step},
    run::{StepFn, needs_gram},
};
use crate::error::Result;

/// Options of a training.
#[derive(Clone, Debug)]
pub struct PolicyTraining {
    /// The models to learn from.
    pub models: Vec<PathBuf>,
    /// The budgets to learn for, of one unit.
    pub budgets: Vec<Budget>,
    /// Where the policy is written.
    pub output: PathBuf,
    /// What learns.
    pub student: Student,
    /// Where to write the logs, as a JSON list with one for each model and budget.
    pub log: Option<PathBuf>,
    /// Episodes between two checkpoints, which are kept beside the output with `.partial` behind its name.
    pub save_every: usize,
    /// Begin anew, whatever was kept.
    pub restart: bool,
    /// Text, formats, rounding, folding, tokens and devices; its model, output and budget are not looked at.
    pub settings: QuantizeOptions,
}

/// What a training came to.
#[derive(Clone, Debug, Serialize)]
pub struct TrainReport {
    /// The policy file.
    pub output: PathBuf,
    /// `continuous`, `categorical` or `regressor`.
    pub kind: &'static str,
    /// Episodes of an earlier run.
    pub resumed: usize,
    /// What the policy's own allocations reach on the models that it learnt from.
    pub outcomes: Vec<TrainOutcome>,
}

/// Trains a policy on all models and budgets and writes it. All models and every format of all their matrices are in memory
/// together.
///
/// # Errors
/// When a model, the text or a budget is not usable, a checkpoint is of another run, or `progress` stops the run; the same
/// call then goes on from the checkpoint.
pub fn train_policy(options: &PolicyTraining, progress: &mut StepFn<'_>) -> Result<TrainReport> {
    let settings = &options.settings;
    let mut partial = options.output.as_os_str().to_owned();
    partial.push(".partial");
    let checkpoint = Checkpoint { path: partial.into(), every: options.save_every };
    if options.restart {
        checkpoint.remove()?;
    }
    let mut prepared = Vec::new();
    for path in &options.models {
        let model = Prepared::new(path, &options.budgets, settings, needs_gram(settings.rounding), progress)?;
        let banks = model.banks(settings, progress)?;
        prepared.push((model, banks));
    }
    let features: Vec<ModelFeatures<'_>> = prepared
        .iter()
        .map(|(model, _)| ModelFeatures::new(&model.model, &model.stats, &model.problems[0]))
        .collect();
    let mut models = Vec::new();
    for ((model, banks), features) in prepared.iter().zip(&features) {
        let evaluator = model.evaluator(banks, &model.text.search)?;
        models.push(TrainModel {
            name: model.name.clone(),
            context: SearchContext::new(evaluator, features),
            problems: model.problems.clone(),
        });
    }
    let train = ramp_search::TrainOptions {
        student: options.student.clone(),
        device: settings.agent_device.clone(),
        checkpoint: Some(checkpoint.clone()),
        log: options.log.clone(),
    };
    let trained = ramp_search::train(&mut models, &train, &mut |p: Progress| progress(step(p)))?;
    trained.policy.save(&options.output)?;
    checkpoint.remove()?;
    Ok(TrainReport {
        output: options.output.clone(),
        kind: trained.policy.kind().name(),
        resumed: trained.resumed,
        outcomes: trained.outcomes,
    })
}
