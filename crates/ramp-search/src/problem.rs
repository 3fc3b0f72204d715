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

/// Types of the two matrices outside of the blocks, where they are not searched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fixed {
    /// The embedding's, and a head's that is tied to it.
    pub token_embd: Option<GgmlType>,
    /// The head's.
    pub output: Option<GgmlType>,
}

impl Fixed {
    fn of(self, id: LayerId, tied: bool) -> Option<GgmlType> {
        match id {
            LayerId::TokenEmbd if tied => self.token_embd.or(self.output),
            LayerId::TokenEmbd => self.token_embd,
            LayerId::Output => self.output,
            LayerId::Block { .. } => None,
        }
    }
}

/// The range of possible budgets, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Ends {
    /// Bytes of the file.
    pub bytes: (u64, u64),
    /// Bits per weight over all matrices.
    pub bits_per_weight: (f64, f64),
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
        Self::with_fixed(config, metadata, actions, Fixed::default(), budget)
    }

    /// As [`Problem::new`], with the embedding or the head stored as given and no part of the search. Their bytes count.
    ///
    /// # Errors
    /// As [`Problem::new`]; when a fixed type has no encoder, or the model's head is tied to its embedding and two
    /// types are given for it.
    pub fn with_fixed(
        config: &ModelConfig,
        metadata: &Metadata,
        actions: &ActionSet,
        fixed: Fixed,
        budget: Budget,
    ) -> Result<Self> {
        let problem = Self::without_budget(config, metadata, actions, fixed, unit_of(budget))?;
        problem.with_budget(budget)
    }

    /// What no budget may be below and none above: the smallest and the largest file that the formats allow.
    ///
    /// # Errors
    /// As [`Problem::with_fixed`], but for budgets.
    pub fn ends(
        config: &ModelConfig,
        metadata: &Metadata,
        actions: &ActionSet,
        fixed: Fixed,
    ) -> Result<Ends> {
        let problem = Self::without_budget(config, metadata, actions, fixed, Unit::Bytes)?;
        let (floor, ceiling) = (problem.floor(), problem.ceiling());
        Ok(Ends {
            bytes: (problem.file_bytes(&floor), problem.file_bytes(&ceiling)),
            bits_per_weight: (problem.bits_per_weight(&floor), problem.bits_per_weight(&ceiling)),
        })
    }

    /// The same layers and formats under another budget.
    ///
    /// # Errors
    /// As [`Problem::new`], and when the budget counts something else: mean bits instead of bytes, or the other way.
    pub fn with_budget(&self, budget: Budget) -> Result<Self> {
        if unit_of(budget) != self.unit {
            return Err(Error::OtherProblem);
        }
        budget.validate().map_err(|_| Error::Budget(budget.to_string()))?;
        let mut problem = Self { budget, ..self.clone() };
        problem.capacity = problem.resolve(budget);
        problem.check_range()?;
        Ok(problem)
    }

    fn without_budget(
        config: &ModelConfig,
        metadata: &Metadata,
        actions: &ActionSet,
        fixed: Fixed,
        unit: Unit,
    ) -> Result<Self> {
        if config.tie_word_embeddings
            && fixed.output.is_some_and(|ty| fixed.token_embd.is_some_and(|e| e != ty))
        {
            let (layer, format) =
                (LayerId::Output.to_string(), fixed.output.map_or_else(String::new, |ty| ty.to_string()));
            return Err(Error::NotAnOption { layer, format });
        }
        let alignment = alignment(metadata);
        let slots = config
            .layers()
            .into_iter()
            .map(|id| match fixed.of(id, config.tie_word_embeddings) {
                Some(ty) => slot(config, id, &ActionSet::new(vec![ty])?, unit, alignment),
                None => slot(config, id, actions, unit, alignment),
            })
            .collect::<Result<Vec<_>>>()?;
        // Any budget: the one that is asked for comes later.
        let budget = Budget::Bytes(u64::MAX);
        let mut problem =
            Self { slots, fixed_bytes: 0, actions: actions.clone(), budget, capacity: u64::MAX, unit };
        let floor = problem.floor();
        let matrices: u64 = problem.matrix_bytes(&floor);
        let types = problem.allocation(&floor).tensor_types()?;
        problem.fixed_bytes = file_bytes(config, metadata, &types)? - matrices;
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
                    // A fixed type is no fallback, and has none of the set beside it.
                    let has = slot.choices.iter().any(|choice| choice.format == Format::Ggml(got));
                    (got != wanted && has).then_some((slot.id, wanted, Format::Ggml(got)))
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
        let below = match self.budget {
            Budget::Bytes(bytes) => bytes < self.file_bytes(&floor),
            _ => !self.fits(&floor),
        };
        let above = self.cost(&ceiling) < self.capacity;
        let (budget, floor, ceiling) = (self.budget.to_string(), show(&floor), show(&ceiling));
        if below {
            Err(Error::BudgetTooSmall { budget, floor, ceiling })
        } else if above {
            Err(Error::BudgetTooLarge { budget, floor, ceiling })
        } else {
            Ok(())
        }
    }
}

const fn unit_of(budget: Budget) -> Unit {
    if matches!(budget, Budget::MeanBits(_)) { Unit::MilliBits } else { Unit::Bytes }
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
