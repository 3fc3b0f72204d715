//! What can go wrong, one variant per broken rule.

use std::path::PathBuf;

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call was refused or could not finish.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A configuration field is outside the range that its documentation states.
    #[error("config field `{field}` is {value}, but must be {rule}")]
    Config {
        /// Name of the field of [`SacConfig`](crate::SacConfig).
        field: &'static str,
        /// The value found, printed.
        value: String,
        /// The rule that it breaks.
        rule: &'static str,
    },
    /// A vector does not have the length that the configuration asks for.
    #[error("{what} has {found} elements, expected {expected}")]
    Length {
        /// What the vector is, e.g. `state`.
        what: &'static str,
        /// Elements found.
        found: usize,
        /// Elements expected.
        expected: usize,
    },
    /// A number is NaN, infinite or outside its interval.
    #[error("{what} is {value}, expected {rule}")]
    Value {
        /// What the number is, e.g. `action[0] of transition 3`.
        what: String,
        /// The number found.
        value: f64,
        /// The interval it must lie in.
        rule: &'static str,
    },
    /// A mask allows no action.
    #[error("the mask of transition {transition} allows no action")]
    Mask {
        /// Index of the transition in its episode.
        transition: usize,
    },
    /// An episode is empty, ends without `terminated` or `truncated`, or goes on after one of them.
    #[error("episode of {len} transitions {problem}")]
    Episode {
        /// Transitions in the episode.
        len: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A loss stopped being finite; the agent's parameters are no longer usable.
    #[error("{what} became {value} at update {update}; lower the learning rate or scale the reward")]
    Diverged {
        /// Which quantity.
        what: &'static str,
        /// Its value.
        value: f64,
        /// Gradient steps taken before this one.
        update: u64,
    },
    /// A named tensor is missing from a file or a list of tensors.
    #[error("tensor `{name}` is missing")]
    MissingTensor {
        /// Name of the tensor.
        name: String,
    },
    /// A named tensor does not have the expected shape, or its data does not fill its shape.
    #[error("tensor `{name}` has shape {found:?} with {elements} elements, expected shape {expected:?}")]
    TensorShape {
        /// Name of the tensor.
        name: String,
        /// Shape found.
        found: Vec<usize>,
        /// Elements found in its data.
        elements: usize,
        /// Shape expected; 0 stands for an axis that may have any size above 0.
        expected: Vec<usize>,
    },
    /// Two settings that must agree do not.
    #[error("{what} is {found}, but this agent's configuration says {expected}")]
    Incompatible {
        /// What disagrees.
        what: &'static str,
        /// Value found in the tensors or the file.
        found: String,
        /// Value that the configuration gives.
        expected: String,
    },
    /// A checkpoint file is not one that this version writes.
    #[error("{path}: not a checkpoint of this crate: {reason}")]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The device could not give a tensor back.
    #[error("cannot read a tensor from the device: {0}")]
    Device(String),
}
