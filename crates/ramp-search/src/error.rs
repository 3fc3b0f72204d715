//! What can be wrong with a search.

use std::path::PathBuf;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an allocation could not be found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not even the cheapest allocation fits.
    #[error(
        "a budget of {budget} is below the floor: the smallest possible file needs {floor} (the largest has {ceiling})"
    )]
    BudgetTooSmall {
        /// The budget, with its unit.
        budget: String,
        /// The floor, in the same unit.
        floor: String,
        /// The ceiling, in the same unit.
        ceiling: String,
    },
    /// The budget is above what the largest allocation uses.
    #[error(
        "a budget of {budget} is above the ceiling: the largest possible file has {ceiling} (the smallest needs {floor})"
    )]
    BudgetTooLarge {
        /// The budget, with its unit.
        budget: String,
        /// The floor, in the same unit.
        floor: String,
        /// The ceiling, in the same unit.
        ceiling: String,
    },
    /// A budget that is not a number above zero.
    #[error("a budget must be a number above zero, found {0}")]
    Budget(String),
    /// No format to choose from.
    #[error("the action set is empty")]
    NoActions,
    /// A format that can be read but not written.
    #[error("{0} has no encoder")]
    NoEncoder(String),
    /// An allocation that lacks a layer or holds a format that is no option for it.
    #[error("`{layer}` cannot be stored as {format}")]
    NotAnOption {
        /// The layer.
        layer: String,
        /// The format, or `nothing`.
        format: String,
    },
    /// Slots of another model or another set of formats.
    #[error("the problem has other layers or formats than those that are evaluated")]
    OtherProblem,
    /// A search with zero rounds.
    #[error("the search scored no allocation")]
    NothingScored,
    /// The tokens that a search may forward are spent.
    #[error("the limit of {limit} tokens is spent")]
    TokenLimit {
        /// The limit.
        limit: usize,
    },
    /// A choice that the weight bank was built without.
    #[error("the weight bank does not hold choice {choice} of slot {slot}")]
    NotInBank {
        /// Index of the slot.
        slot: usize,
        /// Index of the choice.
        choice: usize,
    },
    /// The device has not enough memory for a single allocation's weights, whatever else is left in host memory.
    #[error(
        "the device has {} free, where one allocation's decoded weights and what runs beside them need {}: {} are \
         missing; half floats for the blocks, a shorter window or a smaller model would fit",
        gib(*free), gib(*needed), gib(*missing)
    )]
    DeviceMemory {
        /// Bytes that are needed at least.
        needed: u64,
        /// Bytes that are free.
        free: u64,
        /// The difference.
        missing: u64,
    },
    /// A device failed, and no other is left.
    #[error("device {name} was lost, and no other is left: {why}")]
    DevicesLost {
        /// Its name.
        name: String,
        /// What it said.
        why: String,
    },
    /// An option of a configuration has an impossible value.
    #[error("{name} is {value}, expected {expected}")]
    Option {
        /// The option.
        name: &'static str,
        /// Its value.
        value: String,
        /// What it may be.
        expected: &'static str,
    },
    /// Features for categorical agents were asked for where there are none.
    #[error("there are no wide features")]
    NoWideFeatures,
    /// A policy that reads other features than there are.
    #[error("the policy was trained for other features: it reads {policy}, here are {found}")]
    PolicyFeatures {
        /// What it reads.
        policy: String,
        /// What there is.
        found: String,
    },
    /// A policy that chooses from other formats than the problem has.
    #[error("the policy was trained for other formats: it chooses from {policy}, the problem from {problem}")]
    PolicyActions {
        /// Its formats.
        policy: String,
        /// The problem's.
        problem: String,
    },
    /// A policy file that cannot be read or used.
    #[error("{}: not a usable policy: {why}", path.display())]
    Policy {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A training log or checkpoint that cannot be read or does not belong to the run.
    #[error("{}: not a usable training log: {why}", path.display())]
    Log {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A file of scores that cannot be read or written, or belongs to another run.
    #[error("{}: not usable as the scores of this run: {why}", path.display())]
    Journal {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The model failed.
    #[error(transparent)]
    Model(#[from] ramp_model::Error),
    /// The evaluation failed.
    #[error(transparent)]
    Eval(#[from] ramp_eval::Error),
    /// A codec failed.
    #[error(transparent)]
    Quant(#[from] ramp_quant::Error),
    /// Features could not be computed.
    #[error(transparent)]
    Embed(#[from] ramp_embed::Error),
    /// The agent failed.
    #[error(transparent)]
    Sac(#[from] ramp_sac::Error),
    /// A GGUF file failed.
    #[error(transparent)]
    Gguf(#[from] ramp_gguf::Error),
    /// The caller asked to stop.
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// Whether a device failed: the same call may succeed on another one, or later.
    #[must_use]
    pub const fn is_device(&self) -> bool {
        const fn of_model(error: &ramp_model::Error) -> bool {
            matches!(error, ramp_model::Error::Device { .. })
        }
        match self {
            Self::DevicesLost { .. }
            | Self::Eval(ramp_eval::Error::Device { .. })
            | Self::Quant(ramp_quant::Error::Device { .. })
            | Self::Sac(ramp_sac::Error::Device(_)) => true,
            Self::Model(error)
            | Self::Eval(ramp_eval::Error::Model(error))
            | Self::Quant(ramp_quant::Error::Model(error))
            | Self::Embed(ramp_embed::Error::Model(error)) => of_model(error),
            _ => false,
        }
    }
}

fn gib(bytes: u64) -> String {
    format!("{:.2} GiB", bytes as f64 / f64::from(1 << 30))
}
