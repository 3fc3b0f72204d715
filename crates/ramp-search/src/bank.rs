//! Every matrix in every format, dequantized and resident on the device.

use burn::tensor::Tensor;
use ramp_model::{CalibrationStats, CausalLm, LayerId};
use ramp_quant::{Format, LayerQuantizer, Rounding};

use crate::{
    error::{Error, Result},
    mode::SearchCodec,
    problem::{Choices, Problem},
    progress::{ProgressFn, Stage, report},
};

/// Dequantized weights of every choice of every slot.
///
/// The weights are decoded from the very bytes that the exporter writes (invariant 6), so that a search
/// evaluates the file that a user gets. Applying an allocation swaps handles and copies nothing.
#[derive(Debug)]
pub struct WeightBank {
    slots: Vec<Entries>,
}

/// What is kept of one slot.
#[derive(Debug)]
struct Entries {
    /// By choice; `None` where nobody asked for it.
    choices: Vec<Option<Entry>>,
    weight_energy: f64,
    input_energy: f64,
    output_energy: f64,
}

#[derive(Debug)]
struct Entry {
    /// `None` in tests of allocators that run no model.
    weight: Option<Tensor<2>>,
    relative_error: f64,
    squared_error: f64,
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
        Self::build_where(model, stats, problem, rounding, SearchCodec::Export, |_, _| true, progress)
    }

    /// As [`WeightBank::build`], of another codec: with [`SearchCodec::Affine128`] what is evaluated is no file's weights.
    ///
    /// # Errors
    /// As [`WeightBank::build`]; when rows are shorter than a group.
    pub fn build_in(
        codec: SearchCodec,
        model: &CausalLm,
        stats: &CalibrationStats,
        problem: &Problem,
        rounding: Rounding,
        progress: &mut ProgressFn<'_>,
    ) -> Result<Self> {
        Self::build_where(model, stats, problem, rounding, codec, |_, _| true, progress)
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
        Self::build_where(model, stats, problem, rounding, SearchCodec::Export, wanted, progress)
    }

    fn build_where(
        model: &CausalLm,
        stats: &CalibrationStats,
        problem: &Problem,
        rounding: Rounding,
        codec: SearchCodec,
        wanted: impl Fn(usize, usize) -> bool,
        progress: &mut ProgressFn<'_>,
    ) -> Result<Self> {
        let total = problem.slots().len();
        let mut quantizer = LayerQuantizer::new(stats, rounding);
        let mut slots = Vec::with_capacity(total);
        for (index, slot) in problem.slots().iter().enumerate() {
            let shape = model.config().shape(slot.id);
            let original = model.weight_data(slot.id)?;
            let (input_energy, output_energy) = energies(stats, slot.id, &original, shape);
            let choices = (0..slot.choices.len())
                .map(|choice| {
                    if !wanted(index, choice) {
                        return Ok(None);
                    }
                    let format = in_codec(slot.choices[choice].format, codec);
                    let quantized = quantizer.quantize(slot.id, &original, shape, format)?;
                    let relative_error =
                        quantizer.relative_error(slot.id, &original, &quantized.dequantized, shape)?;
                    let squared_error = squared_distance(&original, &quantized.dequantized);
                    let weight = Some(model.place(slot.id, quantized.dequantized, shape));
                    Ok(Some(Entry { weight, relative_error, squared_error }))
                })
                .collect::<Result<_>>()?;
            let weight_energy = original.iter().map(|w| f64::from(*w).powi(2)).sum();
            slots.push(Entries { choices, weight_energy, input_energy, output_energy });
            report(progress, Stage::Encode, index + 1, total, None)?;
        }
        Ok(Self { slots })
    }

    /// The dequantized weight of a choice, `[out, in]`.
    ///
    /// # Errors
    /// When the bank was built without it.
    pub fn weight(&self, slot: usize, choice: usize) -> Result<Tensor<2>> {
        self.entry(slot, choice)?.weight.clone().ok_or(Error::NotInBank { slot, choice })
    }

    /// Squared error of a choice relative to the matrix, as [`LayerQuantizer::relative_error`] measures it. A
    /// sensitivity that costs no forward pass.
    ///
    /// # Errors
    /// When the bank was built without it.
    pub fn relative_error(&self, slot: usize, choice: usize) -> Result<f64> {
        Ok(self.entry(slot, choice)?.relative_error)
    }

    /// `|W - Q(W)|²` of a choice, every weight counting alike.
    ///
    /// # Errors
    /// When the bank was built without it.
    pub fn squared_error(&self, slot: usize, choice: usize) -> Result<f64> {
        Ok(self.entry(slot, choice)?.squared_error)
    }

    /// `|W|²`.
    ///
    /// # Panics
    /// When there is no such slot.
    #[must_use]
    pub fn weight_energy(&self, slot: usize) -> f64 {
        self.slots[slot].weight_energy
    }

    /// Mean of `|x|²` over the calibration tokens, where `x` is the slot's input: the trace of the Gram matrix over the
    /// number of tokens. 1 for the embedding, whose inputs are one-hot.
    ///
    /// # Panics
    /// When there is no such slot.
    #[must_use]
    pub fn input_energy(&self, slot: usize) -> f64 {
        self.slots[slot].input_energy
    }

    /// `Σ_ij W_ij² E[x_j²]`: the mean of `|W x|²` over the calibration tokens, as if the channels of `x` were
    /// uncorrelated. For the embedding, the mean of `|W_j|²` over its rows.
    ///
    /// # Panics
    /// When there is no such slot.
    #[must_use]
    pub fn output_energy(&self, slot: usize) -> f64 {
        self.slots[slot].output_energy
    }

    fn entry(&self, slot: usize, choice: usize) -> Result<&Entry> {
        let entry = self.slots.get(slot).and_then(|entries| entries.choices.get(choice)?.as_ref());
        entry.ok_or(Error::NotInBank { slot, choice })
    }

    /// A bank of errors alone, relative and squared alike, for allocators on a made-up model.
    #[cfg(test)]
    pub(crate) fn of_errors(errors: &[Vec<f64>]) -> Self {
        let entry = |&error: &f64| Some(Entry { weight: None, relative_error: error, squared_error: error });
        let slots = errors.iter().map(|row| Entries {
            choices: row.iter().map(entry).collect(),
            weight_energy: 1.0,
            input_energy: 1.0,
            output_energy: 1.0,
        });
        Self { slots: slots.collect() }
    }

    /// Puts other weights in the place of a choice.
    #[cfg(test)]
    pub(crate) fn replace(&mut self, slot: usize, choice: usize, weight: Tensor<2>) {
        if let Some(entry) = &mut self.slots[slot].choices[choice] {
            entry.weight = Some(weight);
        }
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

/// The paper's affine groups in a format's nominal bits; a format of floats has none and stays.
fn in_codec(format: Format, codec: SearchCodec) -> Format {
    let bits = format.nominal_bits();
    match codec {
        SearchCodec::Affine128 if bits <= 8.0 => Format::Affine { bits: bits as u8, group: 128 },
        _ => format,
    }
}

/// Energies of a slot's input and output, see [`WeightBank::input_energy`] and [`WeightBank::output_energy`].
fn energies(
    stats: &CalibrationStats,
    id: LayerId,
    weight: &[f32],
    [rows, columns]: [usize; 2],
) -> (f64, f64) {
    let squares = |w: &f32| f64::from(*w) * f64::from(*w);
    match stats.get(id) {
        Some(inputs) => {
            let tokens = inputs.count.max(1) as f64;
            let mean_sq: Vec<f64> = inputs.sum_sq.iter().map(|sum| sum / tokens).collect();
            let row = |row: &[f32]| -> f64 { row.iter().zip(&mean_sq).map(|(w, x)| squares(w) * x).sum() };
            (mean_sq.iter().sum(), weight.chunks_exact(columns.max(1)).map(row).sum())
        }
        None => (1.0, weight.iter().map(squares).sum::<f64>() / rows.max(1) as f64),
    }
}

fn squared_distance(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum()
}
