//! Every matrix in every format, dequantized and resident on the device.

use burn::tensor::Tensor;
use ramp_model::{CalibrationStats, CausalLm};
use ramp_quant::{LayerQuantizer, Rounding};

use crate::{
    error::{Error, Result},
    problem::{Choices, Problem},
    progress::{ProgressFn, Stage, report},
};

/// Dequantized weights of every choice of every slot.
///
/// The weights are decoded from the very bytes that the exporter writes (invariant 6), so that a search
/// evaluates the file that a user gets. Applying an allocation swaps handles and copies nothing.
#[derive(Debug)]
pub struct WeightBank {
    /// By slot, then by choice; `None` where nobody asked for it.
    slots: Vec<Vec<Option<Entry>>>,
}

#[derive(Debug)]
struct Entry {
    weight: Tensor<2>,
    relative_error: f64,
}

impl WeightBank {
    /// Encodes and decodes every choice of the problem, with the statistics of `stats`.
    ///
    /// # Errors
    /// When a codec refuses a weight, the device fails, or `progress` stops the run.
    pub fn build(
        model: &CausalLm,
        stats: &CalibrationStats,
        problem: &Problem,
        rounding: Rounding,
        progress: &mut ProgressFn<'_>,
    ) -> Result<Self> {
        Self::build_where(model, stats, problem, rounding, |_, _| true, progress)
    }

    /// As [`WeightBank::build`], for some allocations only: without a search nothing else is looked at.
    ///
    /// # Errors
    /// As [`WeightBank::build`].
    pub fn build_for(
        model: &CausalLm,
        stats: &CalibrationStats,
        problem: &Problem,
        rounding: Rounding,
        allocations: &[Choices],
        progress: &mut ProgressFn<'_>,
    ) -> Result<Self> {
        let wanted = |slot: usize, choice: usize| allocations.iter().any(|choices| choices[slot] == choice);
        Self::build_where(model, stats, problem, rounding, wanted, progress)
    }

    fn build_where(
        model: &CausalLm,
        stats: &CalibrationStats,
        problem: &Problem,
        rounding: Rounding,
        wanted: impl Fn(usize, usize) -> bool,
        progress: &mut ProgressFn<'_>,
    ) -> Result<Self> {
        let total = problem.slots().len();
        let mut quantizer = LayerQuantizer::new(stats, rounding);
        let mut slots = Vec::with_capacity(total);
        for (index, slot) in problem.slots().iter().enumerate() {
            let shape = model.config().shape(slot.id);
            let original = model.weight_data(slot.id)?;
            let entries = (0..slot.choices.len())
                .map(|choice| {
                    if !wanted(index, choice) {
                        return Ok(None);
                    }
                    let format = slot.choices[choice].format;
                    let quantized = quantizer.quantize(slot.id, &original, shape, format)?;
                    let relative_error =
                        quantizer.relative_error(slot.id, &original, &quantized.dequantized, shape)?;
                    let weight = model.place(slot.id, quantized.dequantized, shape);
                    Ok(Some(Entry { weight, relative_error }))
                })
                .collect::<Result<_>>()?;
            slots.push(entries);
            report(progress, Stage::Encode, index + 1, total, None)?;
        }
        Ok(Self { slots })
    }

    /// The dequantized weight of a choice, `[out, in]`.
    ///
    /// # Errors
    /// When the bank was built without it.
    pub fn weight(&self, slot: usize, choice: usize) -> Result<Tensor<2>> {
        Ok(self.entry(slot, choice)?.weight.clone())
    }

    /// Squared error of a choice relative to the matrix, as [`LayerQuantizer::relative_error`] measures it. A
    /// sensitivity that costs no forward pass.
    ///
    /// # Errors
    /// When the bank was built without it.
    pub fn relative_error(&self, slot: usize, choice: usize) -> Result<f64> {
        Ok(self.entry(slot, choice)?.relative_error)
    }

    fn entry(&self, slot: usize, choice: usize) -> Result<&Entry> {
        let entry = self.slots.get(slot).and_then(|choices| choices.get(choice)?.as_ref());
        entry.ok_or(Error::NotInBank { slot, choice })
    }

    /// Puts an allocation into a model.
    ///
    /// # Errors
    /// When the model is not the one that the bank was built from.
    pub fn apply(&self, problem: &Problem, choices: &[usize], model: &mut CausalLm) -> Result<()> {
        for (slot, &choice) in choices.iter().enumerate() {
            model.set_weight(problem.slots()[slot].id, self.weight(slot, choice)?)?;
        }
        Ok(())
    }
}
