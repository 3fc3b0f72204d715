//! Every matrix in every format, at hand on the device.

use burn::tensor::Tensor;
use ramp_model::{
    CalibrationStats, CausalLm, HostValues, LayerId, PackedMatrix, Packing, PackingErrors, Placement,
};
use ramp_quant::{Format, LayerQuantizer, Rounding, imatrix};
use rayon::prelude::*;

use crate::{
    error::{Error, Result},
    mode::SearchCodec,
    problem::{Choices, Problem, Slot},
    progress::{ProgressFn, Stage, report},
    residence::{Kept, Place, Residence, plan},
};

/// Weights of every choice of every slot.
///
/// They are those of the very bytes that the exporter writes (invariant 6), so that a search evaluates the file that a
/// user gets. Where they are decoded and on the device, applying an allocation swaps handles and copies nothing. A GPU
/// that decodes blocks itself holds them packed. What does not fit its memory stays packed in host memory:
/// [`WeightBank::residence`] tells.
#[derive(Debug)]
pub struct WeightBank {
    slots: Vec<Entries>,
    residence: Residence,
}

/// Where a bank's weights come from, and which model they go into: two copies of one model where it is computed with in
/// half floats, since what is quantized are the f32 weights.
#[derive(Clone, Debug)]
pub struct BankSource<'a> {
    weights: &'a CausalLm,
    placement: Placement,
}

impl<'a> BankSource<'a> {
    /// The f32 weights of `weights` for the model `resident`.
    #[must_use]
    pub fn new(weights: &'a CausalLm, resident: &CausalLm) -> Self {
        Self { weights, placement: resident.placement() }
    }
}

impl<'a> From<&'a CausalLm> for BankSource<'a> {
    fn from(model: &'a CausalLm) -> Self {
        Self::new(model, model)
    }
}

/// How choices become weights.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Encoding {
    pub(crate) rounding: Rounding,
    pub(crate) codec: SearchCodec,
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
    weight: Option<Kept>,
    relative_error: f64,
    squared_error: f64,
}

impl Entry {
    /// Of what the device encoded itself.
    fn packed(packed: PackedMatrix, errors: PackingErrors) -> Self {
        let PackingErrors { weighted, weighted_norm, plain } = errors;
        let relative_error = if weighted_norm > 0.0 { weighted / weighted_norm } else { 0.0 };
        Self::new(Kept::Packed(packed), relative_error, plain)
    }

    /// Errors to the digits that all devices agree in, whichever summed them.
    fn new(weight: Kept, relative_error: f64, squared_error: f64) -> Self {
        let [relative_error, squared_error] = [relative_error, squared_error].map(|x| f64::from(x as f32));
        Self { weight: Some(weight), relative_error, squared_error }
    }
}

impl WeightBank {
    /// Encodes and decodes every choice of the problem, with the statistics of `stats`.
    ///
    /// # Errors
    /// When a codec refuses a weight, the device fails or has not the memory for a single allocation, or `progress`
    /// stops the run.
    pub fn build<'a>(
        source: impl Into<BankSource<'a>>,
        stats: &CalibrationStats,
        problem: &Problem,
        rounding: Rounding,
        progress: &mut ProgressFn<'_>,
    ) -> Result<Self> {
        Self::build_in(SearchCodec::Export, source, stats, problem, rounding, progress)
    }

    /// As [`WeightBank::build`], of another codec: with [`SearchCodec::Affine128`] what is evaluated is no file's weights.
    ///
    /// # Errors
    /// As [`WeightBank::build`]; when rows are shorter than a group.
    pub fn build_in<'a>(
        codec: SearchCodec,
        source: impl Into<BankSource<'a>>,
        stats: &CalibrationStats,
        problem: &Problem,
        rounding: Rounding,
        progress: &mut ProgressFn<'_>,
    ) -> Result<Self> {
        let source = source.into();
        let memory = source.placement.memory();
        Self::build_where(source, stats, problem, Encoding { rounding, codec }, |_, _| true, memory, progress)
    }

    /// As [`WeightBank::build`], for some allocations only: without a search nothing else is looked at.
    ///
    /// # Errors
    /// As [`WeightBank::build`].
    pub fn build_for<'a>(
        source: impl Into<BankSource<'a>>,
        stats: &CalibrationStats,
        problem: &Problem,
        rounding: Rounding,
        allocations: &[Choices],
        progress: &mut ProgressFn<'_>,
    ) -> Result<Self> {
        let wanted = |slot: usize, choice: usize| allocations.iter().any(|choices| choices[slot] == choice);
        let source = source.into();
        let memory = source.placement.memory();
        let encoding = Encoding { rounding, codec: SearchCodec::Export };
        Self::build_where(source, stats, problem, encoding, wanted, memory, progress)
    }

    /// `memory` is what the device has free, and its total.
    pub(crate) fn build_where(
        BankSource { weights: model, placement }: BankSource<'_>,
        stats: &CalibrationStats,
        problem: &Problem,
        encoding: Encoding,
        wanted: impl Fn(usize, usize) -> bool,
        memory: Option<(u64, u64)>,
        progress: &mut ProgressFn<'_>,
    ) -> Result<Self> {
        let places = plan(problem, &wanted, &placement, memory)?;
        let total = problem.slots().len();
        let mut builder = Builder {
            model,
            placement,
            stats,
            encoding,
            quantizer: LayerQuantizer::new(stats, encoding.rounding),
            residence: Residence::default(),
        };
        let mut slots = Vec::with_capacity(total);
        // The device packs one matrix while the next one is on its way there.
        let mut begun: Option<Begun<'_>> = None;
        for next in problem.slots().iter().enumerate().map(Some).chain([None]) {
            let next = match next {
                Some((index, slot)) => {
                    Some(builder.begin(slot, &places[index], |choice| wanted(index, choice))?)
                }
                None => None,
            };
            if let Some(begun) = std::mem::replace(&mut begun, next) {
                slots.push(builder.finish(begun)?);
                report(progress, Stage::Encode, slots.len(), total, None)?;
            }
        }
        Ok(Self { slots, residence: builder.residence })
    }

    /// The same bank for the model of another device.
    pub(crate) fn copy(&self, problem: &Problem, placement: &Placement) -> Result<Self> {
        let kept = |slot: usize, choice: usize| self.slots[slot].choices[choice].is_some();
        let places = plan(problem, kept, placement, placement.memory())?;
        let mut residence = Residence::default();
        let mut slots = Vec::with_capacity(self.slots.len());
        for (index, (slot, entries)) in problem.slots().iter().zip(&self.slots).enumerate() {
            let mut choices = Vec::with_capacity(entries.choices.len());
            for (choice, entry) in entries.choices.iter().enumerate() {
                let Some(Entry { weight, relative_error, squared_error }) = entry else {
                    choices.push(None);
                    continue;
                };
                let option = &slot.choices[choice];
                let weight = match weight {
                    Some(weight) => {
                        let shape = [slot.weights as usize / slot.columns.max(1), slot.columns];
                        let wanted = places[index][choice];
                        let (weight, place) =
                            weight.copy(wanted, option.format, slot.id, shape, placement)?;
                        let decoded = slot.weights * placement.weight_bytes(slot.id) as u64;
                        residence.add(place, decoded, option.bytes);
                        Some(weight)
                    }
                    None => None,
                };
                let (relative_error, squared_error) = (*relative_error, *squared_error);
                choices.push(Some(Entry { weight, relative_error, squared_error }));
            }
            slots.push(Entries { choices, ..*entries });
        }
        Ok(Self { slots, residence })
    }

    /// Bytes that are decoded on the device, packed on the device, and packed in host memory.
    #[must_use]
    pub const fn residence(&self) -> Residence {
        self.residence
    }

    /// The dequantized weight of a choice, `[out, in]`.
    ///
    /// # Errors
    /// When the bank was built without it.
    pub fn weight(&self, slot: usize, choice: usize) -> Result<Tensor<2>> {
        self.entry(slot, choice)?.weight.as_ref().ok_or(Error::NotInBank { slot, choice })?.weight()
    }

    /// The bytes of a choice as a file has them, where they are kept; `None` where only its decoded weights are.
    ///
    /// # Errors
    /// When the bank was built without it, or the device fails.
    pub fn bytes(&self, slot: usize, choice: usize) -> Result<Option<Vec<u8>>> {
        self.entry(slot, choice)?.weight.as_ref().map_or(Ok(None), Kept::bytes)
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
        Self { slots: slots.collect(), residence: Residence::default() }
    }

    /// Puts other weights in the place of a choice.
    #[cfg(test)]
    pub(crate) fn replace(&mut self, slot: usize, choice: usize, weight: Tensor<2>) {
        if let Some(entry) = &mut self.slots[slot].choices[choice] {
            entry.weight = Some(Kept::Decoded(weight));
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

/// What encodes the matrices of a bank, one after the other.
struct Builder<'a> {
    model: &'a CausalLm,
    placement: Placement,
    stats: &'a CalibrationStats,
    encoding: Encoding,
    quantizer: LayerQuantizer<'a>,
    residence: Residence,
}

/// A matrix of which the device may be packing some choices.
struct Begun<'a> {
    slot: &'a Slot,
    places: &'a [Place],
    original: HostValues,
    /// By choice; `None` where nobody asked for it.
    choices: Vec<Option<Work>>,
}

/// What becomes of a choice.
enum Work {
    Host,
    Device(Packing),
}

impl Builder<'_> {
    fn begin<'a>(
        &self,
        slot: &'a Slot,
        places: &'a [Place],
        wanted: impl Fn(usize) -> bool,
    ) -> Result<Begun<'a>> {
        let shape = self.model.config().shape(slot.id);
        let original = self.model.weight_values(slot.id)?;
        let encoder = (self.encoding.rounding == Rounding::Nearest && places.contains(&Place::Packed))
            .then(|| {
                let importance = imatrix(self.stats, slot.id);
                self.placement.encoder(slot.id, &original, shape, importance.as_deref())
            })
            .flatten();
        let choices = slot.choices.iter().zip(places).enumerate().map(|(choice, (option, place))| {
            let packing = || match (&encoder, place, in_codec(option.format, self.encoding.codec)) {
                (Some(encoder), Place::Packed, Format::Ggml(ty)) => encoder.encode(ty),
                _ => None,
            };
            wanted(choice).then(|| packing().map_or(Work::Host, Work::Device))
        });
        let choices = choices.collect();
        Ok(Begun { slot, places, original, choices })
    }

    fn finish(&mut self, Begun { slot, places, original, choices }: Begun<'_>) -> Result<Entries> {
        let shape = self.model.config().shape(slot.id);
        let (input_energy, output_energy) = energies(self.stats, slot.id, &original, shape);
        let weight_energy = sum_of_parts(&original, |part| part.iter().map(|w| f64::from(*w).powi(2)).sum());
        let mut norm = None;
        let mut entries = Vec::with_capacity(choices.len());
        for ((work, option), &place) in choices.into_iter().zip(&slot.choices).zip(places) {
            let format = in_codec(option.format, self.encoding.codec);
            entries.push(match work {
                None => None,
                Some(work) => Some(match self.packed(work, format, shape)? {
                    Some(entry) => entry,
                    None => self.on_host(slot, place, &original, format, &mut norm)?,
                }),
            });
        }
        Ok(Entries { choices: entries, weight_energy, input_energy, output_energy })
    }

    /// What the device encoded; `None` where it did not.
    fn packed(&mut self, work: Work, format: Format, shape: [usize; 2]) -> Result<Option<Entry>> {
        let Work::Device(packing) = work else { return Ok(None) };
        let Some((packed, errors)) = packing.finish()? else { return Ok(None) };
        self.residence.add(Place::Packed, 0, format.bytes(shape)?);
        Ok(Some(Entry::packed(packed, errors)))
    }

    /// `norm` is the energy of the matrix' output, once it is known.
    fn on_host(
        &mut self,
        slot: &Slot,
        place: Place,
        original: &[f32],
        format: Format,
        norm: &mut Option<f64>,
    ) -> Result<Entry> {
        let (id, shape) = (slot.id, self.model.config().shape(slot.id));
        let quantized = self.quantizer.quantize(id, original, shape, format)?;
        let norm = match *norm {
            Some(norm) => norm,
            None => *norm.insert(self.quantizer.output_energy(id, original, shape)?),
        };
        let dequantized = &quantized.dequantized;
        let relative_error = self.quantizer.relative_error_to(norm, id, original, dequantized, shape)?;
        let squared_error = squared_distance(original, dequantized);
        let decoded = slot.weights * self.placement.weight_bytes(id) as u64;
        self.residence.add(place, decoded, quantized.bytes.len() as u64);
        let weight = Kept::new(place, quantized, format, id, shape, &self.placement);
        Ok(Entry::new(weight, relative_error, squared_error))
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
            let of_rows: Vec<f64> = weight.par_chunks_exact(columns.max(1)).map(row).collect();
            (mean_sq.iter().sum(), of_rows.iter().sum())
        }
        None => {
            let sum = sum_of_parts(weight, |part| part.iter().map(squares).sum());
            (1.0, sum / rows.max(1) as f64)
        }
    }
}

fn squared_distance(a: &[f32], b: &[f32]) -> f64 {
    let parts = a
        .par_chunks(PART)
        .zip(b.par_chunks(PART))
        .map(|(a, b)| -> f64 { a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum() });
    parts.collect::<Vec<_>>().iter().sum()
}

/// Weights that one thread sums.
const PART: usize = 1 << 14;

/// Sums of parts, added in their order, whichever thread made them.
fn sum_of_parts(weights: &[f32], sum: impl Fn(&[f32]) -> f64 + Send + Sync) -> f64 {
    weights.par_chunks(PART).map(sum).collect::<Vec<_>>().iter().sum()
}
