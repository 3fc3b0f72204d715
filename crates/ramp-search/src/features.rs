//! Features of a problem's layers, computed when an agent asks for them.

use std::cell::OnceCell;

use ramp_embed::{FeatureConfig, FeatureTable, WideTable};
use ramp_model::{CalibrationStats, CausalLm};
use ramp_quant::{LayerQuantizer, Rounding};

use crate::{allocator::Features, error::Result, problem::Problem, wide_walk::choice_of};

/// Computes features from a model and its statistics.
///
/// The errors of formats in the wide features are those of rounding to nearest, whatever the exporter does: they take no
/// Gram matrices and little time, and are the same on the models that a policy learns from and on those that it meets.
#[derive(Debug)]
pub struct ModelFeatures<'a> {
    model: &'a CausalLm,
    stats: &'a CalibrationStats,
    problem: &'a Problem,
    wide: OnceCell<WideTable>,
}

impl<'a> ModelFeatures<'a> {
    /// Features of the layers of `problem`: of the model as it is quantized (folded, if scales are), from the statistics of
    /// its layers' inputs.
    #[must_use]
    pub const fn new(model: &'a CausalLm, stats: &'a CalibrationStats, problem: &'a Problem) -> Self {
        Self { model, stats, problem, wide: OnceCell::new() }
    }
}

impl Features for ModelFeatures<'_> {
    fn table(&self, config: FeatureConfig) -> Result<FeatureTable> {
        let layers: Vec<_> = self.problem.slots().iter().map(|slot| slot.id).collect();
        Ok(FeatureTable::extract(self.model, self.stats, &layers, config)?)
    }

    /// Computed once: it encodes every matrix in every format.
    fn wide(&self) -> Result<WideTable> {
        if let Some(known) = self.wide.get() {
            return Ok(known.clone());
        }
        let layers: Vec<_> = self.problem.slots().iter().map(|slot| slot.id).collect();
        let formats: Vec<String> = self.problem.actions().types().iter().map(ToString::to_string).collect();
        let errors = self.errors()?;
        let table = WideTable::extract(self.model, self.stats, &layers, &formats, &errors)?;
        Ok(self.wide.get_or_init(|| table).clone())
    }
}

impl ModelFeatures<'_> {
    /// Relative output error of each slot and action. An action that a slot does not have gets that of its nearest choice.
    fn errors(&self) -> Result<Vec<Vec<f64>>> {
        let actions = self.problem.actions().types().len();
        let mut quantizer = LayerQuantizer::new(self.stats, Rounding::Nearest);
        let mut errors = Vec::with_capacity(self.problem.slots().len());
        for (index, slot) in self.problem.slots().iter().enumerate() {
            let shape = self.model.config().shape(slot.id);
            let original = self.model.weight_values(slot.id)?;
            let norm = quantizer.output_energy(slot.id, &original, shape)?;
            let mut by_choice = Vec::with_capacity(slot.choices.len());
            for choice in &slot.choices {
                let quantized = quantizer.quantize(slot.id, &original, shape, choice.format)?;
                by_choice.push(quantizer.relative_error_to(
                    norm,
                    slot.id,
                    &original,
                    &quantized.dequantized,
                    shape,
                )?);
            }
            let last = slot.choices.len() - 1;
            let known = |action: usize| choice_of(self.problem, index, action);
            errors.push(
                (0..actions)
                    .map(|action| {
                        let cheaper = (0..=action).rev().find_map(known);
                        by_choice[cheaper.or_else(|| (action..actions).find_map(known)).unwrap_or(last)]
                    })
                    .collect(),
            );
        }
        Ok(errors)
    }
}
