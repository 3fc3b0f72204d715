//! What training and transfer have in common: a model that is read, calibrated, folded and encoded in every format.

use std::path::Path;

use ramp_eval::Windows;
use ramp_gguf::Metadata;
use ramp_model::{CalibrationStats, CausalLm, ModelFiles};
use ramp_quant::{Budget, fold};
use ramp_search::{BankSource, Evaluator, Problem, Progress, Replica, Stage, WeightBank};

use super::{
    fleet::replicas,
    options::QuantizeOptions,
    resident::Place,
    run::{Step, StepFn, calibrate},
    text::TextSplit,
};
use crate::error::{Error, Result};

/// A model without its bank.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) name: String,
    /// As it was read, where it computes.
    base: CausalLm,
    /// Its weights as they were read, in f32.
    weights: CausalLm,
    /// Its weights as they are quantized, in f32.
    pub(super) model: CausalLm,
    pub(super) stats: CalibrationStats,
    pub(super) text: TextSplit,
    /// One for each budget.
    pub(super) problems: Vec<Problem>,
}

impl Prepared {
    /// Reads, calibrates and folds. `gram` gathers what error feedback needs.
    pub(super) fn new(
        path: &Path,
        budgets: &[Budget],
        settings: &QuantizeOptions,
        gram: bool,
        progress: &mut StepFn<'_>,
    ) -> Result<Self> {
        let files = ModelFiles::open(path)?;
        super::run::refuse_quantized(&files)?;
        let config = files.config().clone();
        let problems = budgets
            .iter()
            .map(|&budget| {
                let (actions, fixed) = (&settings.actions, settings.fixed);
                Ok(Problem::with_fixed(&config, &Metadata::new(), actions, fixed, budget)?)
            })
            .collect::<Result<Vec<_>>>()?;
        if problems.is_empty() {
            return Err(Error::Input { path: path.to_owned(), why: "no budget was given".into() });
        }
        let text = TextSplit::new(settings, &files.tokenizer()?, config.max_position_embeddings)?;
        let (weights, base) = Place::of(settings).load(&files)?;
        let (model, stats) = folded(&weights, &base, &text, settings, gram, progress)?;
        Ok(Self { name: files.name(), base, weights, model, stats, text, problems })
    }

    /// Calibrates again with what error feedback needs.
    pub(super) fn with_gram(self, settings: &QuantizeOptions, progress: &mut StepFn<'_>) -> Result<Self> {
        let (model, stats) = folded(&self.weights, &self.base, &self.text, settings, true, progress)?;
        Ok(Self { model, stats, ..self })
    }
}

/// What evaluates: the model where it computes, its bank, and copies of both on the other devices.
#[derive(Debug)]
pub(super) struct Banks {
    computing: CausalLm,
    bank: WeightBank,
    others: Vec<Replica>,
}

impl Prepared {
    /// Every matrix in every format, on every device.
    pub(super) fn banks(&self, settings: &QuantizeOptions, progress: &mut StepFn<'_>) -> Result<Banks> {
        let computing = Place::of(settings).computing(&self.model)?;
        let bank = WeightBank::build(
            BankSource::new(&self.model, &computing),
            &self.stats,
            &self.problems[0],
            settings.rounding,
            &mut |p: Progress| progress(step(p)),
        )?;
        // What was lost already is in the log: these reports have no warnings.
        let others = replicas(&settings.others, &computing, &bank, &self.problems[0], &mut Vec::new())?;
        Ok(Banks { computing, bank, others })
    }

    /// Scores on some windows.
    pub(super) fn evaluator<'a>(&'a self, banks: &'a Banks, windows: &Windows) -> Result<Evaluator<'a>> {
        let Banks { computing, bank, others } = banks;
        Ok(Evaluator::with_replicas(computing, &self.problems[0], bank, windows.clone(), others)?)
    }
}

fn folded(
    weights: &CausalLm,
    base: &CausalLm,
    text: &TextSplit,
    settings: &QuantizeOptions,
    gram: bool,
    progress: &mut StepFn<'_>,
) -> Result<(CausalLm, CalibrationStats)> {
    let mut model = weights.clone();
    let mut stats = calibrate(base, &text.calibration, gram, None, progress)?;
    if let Some(config) = &settings.fold {
        fold(&mut model, &mut stats, config)?;
    }
    Ok((model, stats))
}

/// A report of the search as one of the pipeline.
pub(super) const fn step(p: Progress) -> Step {
    let (name, unit) = match p.stage {
        Stage::Encode => ("encode", "matrices"),
        Stage::Sensitivity => ("sensitivity", "evaluations"),
        Stage::WarmStart => ("warm start", "gradient steps"),
        Stage::Search => ("search", "steps"),
        _ => ("search", "episodes"),
    };
    Step { name, done: p.done, total: p.total, unit, best_kld: p.best_kld }
}
