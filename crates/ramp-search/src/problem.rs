//! The allocation problem: layers, the formats each can have, what each costs, and the budget.

use ramp_gguf::{GgmlType, Metadata};
use ramp_model::{LayerId, ModelConfig, TensorTypes, gguf_tensors};
use ramp_quant::{Allocation, Budget, Format};
use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    mode::Mode,
};

/// The formats that a search may choose from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<GgmlType>")]
pub struct ActionSet(Vec<GgmlType>);

impl TryFrom<Vec<GgmlType>> for ActionSet {
    type Error = Error;

    fn try_from(types: Vec<GgmlType>) -> Result<Self> {
        Self::new(types)
    }
}

impl ActionSet {
    /// A set of formats, ordered by bits per weight.
    ///
    /// # Errors
    /// When there is none, or one has no encoder.
    pub fn new(mut types: Vec<GgmlType>) -> Result<Self> {
        if let Some(ty) = types.iter().find(|ty| !ty.can_encode()) {
            return Err(Error::NoEncoder(ty.to_string()));
        }
        types.sort_by(|a, b| a.bits_per_weight().total_cmp(&b.bits_per_weight()));
        types.dedup();
        if types.is_empty() { Err(Error::NoActions) } else { Ok(Self(types)) }
    }

    /// The formats, cheapest first.
    #[must_use]
    pub fn types(&self) -> &[GgmlType] {
        &self.0
    }
}

impl ActionSet {
    /// The paper's bit widths 3 to 6 as the K-quants that llama.cpp stores them in (Sec. 4.2).
    #[must_use]
    pub fn paper() -> Self {
        Self(vec![GgmlType::Q3_K, GgmlType::Q4_K, GgmlType::Q5_K, GgmlType::Q6_K])
    }

    /// The set of a mode: the paper's, or that and IQ4_XS, which at 4.25 bits per weight loses little more than
    /// Q4_K does at 4.5.
    #[must_use]
    pub fn of_mode(mode: Mode) -> Self {
        match mode {
            Mode::Paper => Self::paper(),
            Mode::Sound => {
                Self(vec![GgmlType::Q3_K, GgmlType::IQ4_XS, GgmlType::Q4_K, GgmlType::Q5_K, GgmlType::Q6_K])
            }
        }
    }
}

impl Default for ActionSet {
    /// The set of [`Mode::Sound`].
    fn default() -> Self {
        Self::of_mode(Mode::Sound)
    }
}

/// One way to store a layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choice {
    /// The format, after the fallback for rows that do not fit its blocks.
    pub format: Format,
    /// Bytes in the file, padding included.
    pub bytes: u64,
}

/// A layer with its options.
#[derive(Clone, Debug, PartialEq)]
pub struct Slot {
    /// The layer.
    pub id: LayerId,
    /// Number of weights.
    pub weights: u64,
    /// Length of a row, which must be whole blocks of a format.
    pub columns: usize,
    /// Options, cheapest first; at least one.
    pub choices: Vec<Choice>,
}

/// A choice for each slot, as indices into [`Slot::choices`].
pub type Choices = Vec<usize>;

/// The problem that every allocator solves: pick one choice for each slot so that the cost fits.
#[derive(Clone, Debug)]
pub struct Problem {
    slots: Vec<Slot>,
    /// Bytes of the file that no choice changes: header, metadata, norms.
    fixed_bytes: u64,
    actions: ActionSet,
    budget: Budget,
    capacity: u64,
    unit: Unit,
}

/// What the budget counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    /// Bytes of the file.
    Bytes,
    /// Nominal bits of the block matrices, in thousandths.
    MilliBits,
}

impl Problem {
    /// Sets the problem up for a model.
    ///
    /// Under [`Budget::MeanBits`], the paper's unit, embedding and head are not searched: they are stored as
    /// the largest format of the set, and the mean runs over the block matrices.
    ///
    /// # Errors
    /// When the budget is no number above zero, below the floor or above the ceiling.
    pub fn new(
        config: &ModelConfig,
        metadata: &Metadata,
        actions: &ActionSet,
        budget: Budget,
    ) -> Result<Self> {
        budget.validate().map_err(|_| Error::Budget(budget.to_string()))?;
        let unit = if matches!(budget, Budget::MeanBits(_)) { Unit::MilliBits } else { Unit::Bytes };
        let alignment = alignment(metadata);
        let slots = config
            .layers()
            .into_iter()
            .map(|id| slot(config, id, actions, unit, alignment))
            .collect::<Result<Vec<_>>>()?;
        let mut problem =
            Self { slots, fixed_bytes: 0, actions: actions.clone(), budget, capacity: u64::MAX, unit };
        let floor = problem.floor();
        let matrices: u64 = problem.matrix_bytes(&floor);
        let types = problem.allocation(&floor).tensor_types()?;
        problem.fixed_bytes = file_bytes(config, metadata, &types)? - matrices;
        problem.capacity = problem.resolve(budget);
        problem.check_range()?;
        Ok(problem)
    }

    /// The layers with their options, in execution order.
    #[must_use]
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// The formats that the choices were made from.
    #[must_use]
    pub const fn actions(&self) -> &ActionSet {
        &self.actions
    }

    /// The budget as given.
    #[must_use]
    pub const fn budget(&self) -> Budget {
        self.budget
    }

    /// The cost that the choices may have together, in the units of [`Problem::choice_cost`].
    #[must_use]
    pub const fn capacity(&self) -> u64 {
        self.capacity
    }

    /// The same problem with room for another cost, in the units of [`Problem::choice_cost`].
    #[must_use]
    pub(crate) fn with_capacity(&self, capacity: u64) -> Self {
        Self { capacity, ..self.clone() }
    }

    /// What a choice costs: bytes of the file, or thousandths of nominal bits under [`Budget::MeanBits`].
    #[must_use]
    pub fn choice_cost(&self, slot: usize, choice: usize) -> u64 {
        let Slot { id, choices, .. } = &self.slots[slot];
        match self.unit {
            Unit::Bytes => choices[choice].bytes,
            Unit::MilliBits if id.block().is_none() => 0,
            Unit::MilliBits => (choices[choice].format.nominal_bits() * 1000.0) as u64,
        }
    }

    /// Cost of an allocation.
    #[must_use]
    pub fn cost(&self, choices: &[usize]) -> u64 {
        choices.iter().enumerate().map(|(slot, &choice)| self.choice_cost(slot, choice)).sum()
    }

    /// Whether an allocation is within the budget.
    #[must_use]
    pub fn fits(&self, choices: &[usize]) -> bool {
        self.cost(choices) <= self.capacity
    }

    /// Size of the file in bytes.
    #[must_use]
    pub fn file_bytes(&self, choices: &[usize]) -> u64 {
        self.fixed_bytes + self.matrix_bytes(choices)
    }

    fn matrix_bytes(&self, choices: &[usize]) -> u64 {
        self.slots.iter().zip(choices).map(|(slot, &choice)| slot.choices[choice].bytes).sum()
    }

    /// The cheapest allocation.
    #[must_use]
    pub fn floor(&self) -> Choices {
        vec![0; self.slots.len()]
    }

    /// The largest allocation.
    #[must_use]
    pub fn ceiling(&self) -> Choices {
        self.slots.iter().map(|slot| slot.choices.len() - 1).collect()
    }

    /// Bits per weight over all matrices.
    #[must_use]
    pub fn bits_per_weight(&self, choices: &[usize]) -> f64 {
        let weights: u64 = self.slots.iter().map(|slot| slot.weights).sum();
        8.0 * self.matrix_bytes(choices) as f64 / weights as f64
    }

    /// The allocation that some choices stand for.
    #[must_use]
    pub fn allocation(&self, choices: &[usize]) -> Allocation {
        self.slots.iter().zip(choices).map(|(slot, &choice)| (slot.id, slot.choices[choice].format)).collect()
    }

    /// The choices that an allocation stands for.
    ///
    /// # Errors
    /// When it lacks a layer or has a format that is no option.
    pub fn choices(&self, allocation: &Allocation) -> Result<Choices> {
        self.slots
            .iter()
            .map(|slot| {
                let format = allocation.get(slot.id);
                slot.choices.iter().position(|choice| Some(choice.format) == format).ok_or_else(|| {
                    Error::NotAnOption {
                        layer: slot.id.to_string(),
                        format: format.map_or_else(|| "nothing".into(), |f| f.to_string()),
                    }
                })
            })
            .collect()
    }

    /// Layers whose rows do not fit the blocks of a format of the set, with what they get instead.
    #[must_use]
    pub fn fallbacks(&self, actions: &ActionSet) -> Vec<(LayerId, GgmlType, Format)> {
        let slots = self.slots.iter();
        slots
            .flat_map(|slot| {
                actions.types().iter().filter_map(|&wanted| {
                    let got = ramp_gguf::fallback(wanted, slot.columns as u64);
                    (got != wanted).then_some((slot.id, wanted, Format::Ggml(got)))
                })
            })
            .collect()
    }

    fn resolve(&self, budget: Budget) -> u64 {
        match budget {
            Budget::Bytes(bytes) => bytes.saturating_sub(self.fixed_bytes),
            Budget::BitsPerWeight(bits) => {
                let weights: u64 = self.slots.iter().map(|slot| slot.weights).sum();
                (bits * weights as f64 / 8.0) as u64
            }
            Budget::MeanBits(bits) => {
                let blocks = self.slots.iter().filter(|slot| slot.id.block().is_some()).count();
                // A thousandth of a bit is the unit; the tolerance is for 4.1 * 1000, which is 4099.999999999999.
                (bits * 1000.0 * blocks as f64 * (1.0 + 1e-12)) as u64
            }
        }
    }

    fn check_range(&self) -> Result<()> {
        let (floor, ceiling) = (self.floor(), self.ceiling());
        let show = |choices: &[usize]| match self.budget {
            Budget::Bytes(_) => format!("{} bytes", self.file_bytes(choices)),
            Budget::BitsPerWeight(_) => format!("{:.4} bits per weight", self.bits_per_weight(choices)),
            Budget::MeanBits(_) => format!("{:.4} mean bits", self.allocation(choices).mean_bits()),
        };
        if let Budget::Bytes(bytes) = self.budget
            && bytes < self.file_bytes(&floor)
        {
            return Err(Error::BudgetTooSmall { budget: self.budget.to_string(), floor: show(&floor) });
        }
        if !self.fits(&floor) {
            return Err(Error::BudgetTooSmall { budget: self.budget.to_string(), floor: show(&floor) });
        }
        if self.cost(&ceiling) < self.capacity {
            return Err(Error::BudgetTooLarge { budget: self.budget.to_string(), ceiling: show(&ceiling) });
        }
        Ok(())
    }
}

/// Size of the file that `types` gives, to the byte.
fn file_bytes(config: &ModelConfig, metadata: &Metadata, types: &TensorTypes) -> Result<u64> {
    Ok(ramp_gguf::file_bytes(metadata, &gguf_tensors(config, types)?)?)
}

fn alignment(metadata: &Metadata) -> u64 {
    metadata.get_u32("general.alignment").map_or(32, u64::from)
}

fn slot(config: &ModelConfig, id: LayerId, actions: &ActionSet, unit: Unit, alignment: u64) -> Result<Slot> {
    let shape = config.shape(id);
    let mut types: Vec<GgmlType> =
        actions.types().iter().map(|&ty| ramp_gguf::fallback(ty, shape[1] as u64)).collect();
    if unit == Unit::MilliBits && id.block().is_none() {
        types = types.split_off(types.len() - 1);
    }
    types.sort_by(|a, b| a.bits_per_weight().total_cmp(&b.bits_per_weight()));
    types.dedup();
    let choices = types
        .into_iter()
        .map(|ty| {
            let format = Format::Ggml(ty);
            Ok(Choice { format, bytes: format.bytes(shape)?.next_multiple_of(alignment) })
        })
        .collect::<Result<_>>()?;
    Ok(Slot { id, weights: config.n_weights(id) as u64, columns: shape[1], choices })
}
