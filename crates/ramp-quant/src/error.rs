//! The one error type of the crate.

use std::path::{Path, PathBuf};

use ramp_gguf::GgmlType;
use ramp_model::LayerId;

use crate::{affine::AffineConfig, format::Format};

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can be wrong: one variant per broken rule.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A bit width that the affine quantizer does not have.
    #[error(
        "affine quantization has no width of {bits} bits (possible: {} to {})",
        AffineConfig::MIN_BITS,
        AffineConfig::MAX_BITS
    )]
    Bits {
        /// The width.
        bits: u8,
    },
    /// A group without weights.
    #[error("an affine group needs at least one weight, the group size is 0")]
    EmptyGroup,
    /// A group that no row can fill.
    #[error("a group of {group} weights is larger than a row of {row}")]
    GroupTooLarge {
        /// Weights of a group.
        group: usize,
        /// Weights of a row.
        row: usize,
    },
    /// A search for a narrower range that is none.
    #[error(
        "a clipping search needs at least one step and a shrinkage between 0 and 1, not {steps} and {max_shrink}"
    )]
    ClipSearch {
        /// Steps.
        steps: usize,
        /// Share of the range.
        max_shrink: f32,
    },
    /// Statistics of another width than the matrix.
    #[error("the matrix has {expected} input channels, its {what} has {found}")]
    CalibrationWidth {
        /// Which statistic.
        what: &'static str,
        /// Input channels of the matrix.
        expected: usize,
        /// Channels of the statistic.
        found: usize,
    },
    /// A statistic that no activations can have.
    #[error("the {what} of input channel {channel} is {value}")]
    CalibrationValue {
        /// Which statistic.
        what: &'static str,
        /// Input channel.
        channel: usize,
        /// Its value.
        value: f32,
    },
    /// A number of a method that is out of its range.
    #[error("{method}: `{field}` is {value}, expected {expected}")]
    Setting {
        /// The method.
        method: &'static str,
        /// The field.
        field: &'static str,
        /// Its value.
        value: f64,
        /// The range.
        expected: &'static str,
    },
    /// A name that is no method.
    #[error("unknown method `{text}` (expected such as `rtn4`, `gptq3-g64`, `q4_k` or `q3_k-gptq`)")]
    UnknownMethod {
        /// The name.
        text: String,
    },
    /// A group size for a method that has no groups.
    #[error("`{kind}` has a table of values for each row and no groups")]
    NoGroups {
        /// The method.
        kind: &'static str,
    },
    /// A method needs a Gram matrix that was not gathered.
    #[error("there is no Gram matrix for the input of `{layer}`")]
    MissingGram {
        /// GGUF name of the matrix.
        layer: String,
    },
    /// A method runs the model on calibration windows, and there are none.
    #[error("`{method}` runs the model on calibration windows, and there are none")]
    MissingWindows {
        /// The method.
        method: String,
    },
    /// A name that is no format.
    #[error("unknown format `{text}` (expected a ggml type such as `Q4_K`, or `affine4-g128`)")]
    UnknownFormat {
        /// The name.
        text: String,
    },
    /// A tensor type of ggml that this project can name but not write.
    #[error("there is no encoder for `{ty}`")]
    NoEncoder {
        /// The type.
        ty: GgmlType,
    },
    /// A matrix without rows or columns.
    #[error("a matrix needs rows and columns, the shape is {shape:?}")]
    EmptyShape {
        /// `[out, in]`.
        shape: [usize; 2],
    },
    /// A matrix whose size is beyond any memory.
    #[error("the size of a matrix of shape {shape:?} overflows")]
    SizeOverflow {
        /// `[out, in]`.
        shape: [usize; 2],
    },
    /// A slice of another length than its shape.
    #[error("a matrix of shape {shape:?} does not have {found} weights")]
    WeightLength {
        /// `[out, in]`.
        shape: [usize; 2],
        /// Length of the slice.
        found: usize,
    },
    /// A weight is NaN or infinite.
    #[error("the weight at row {row}, column {column} is {value}")]
    NonFinite {
        /// Output channel.
        row: usize,
        /// Input channel.
        column: usize,
        /// The weight.
        value: f32,
    },
    /// The scale of a group cannot be stored as f16.
    #[error("the scale of group {group} in row {row} is {value}, f16 holds 0 to 65504")]
    ScaleRange {
        /// Output channel.
        row: usize,
        /// Index of the group in its row.
        group: usize,
        /// The scale.
        value: f32,
    },
    /// GPTQ damping out of range.
    #[error("GPTQ damping is {value}, expected a number above 0")]
    Damping {
        /// The value.
        value: f64,
    },
    /// A Hessian of another width than the matrix or its blocks.
    #[error("a Hessian of {width} input channels does not fit blocks or rows of {block} weights")]
    HessianWidth {
        /// Input channels of the Hessian.
        width: usize,
        /// Weights of a block, or of a row.
        block: usize,
    },
    /// A Hessian that no activations can have.
    #[error("the Hessian of {width} input channels is not finite, or not positive semidefinite")]
    Hessian {
        /// Input channels.
        width: usize,
    },
    /// An error with the layer that it is about.
    #[error("`{layer}`: {source}")]
    InLayer {
        /// The layer.
        layer: LayerId,
        /// What is wrong.
        source: Box<Error>,
    },
    /// A code or a zero point that does not fit the bit width.
    #[error("code {value} in row {row} does not fit {bits} bits")]
    CodeRange {
        /// Output channel.
        row: usize,
        /// The code.
        value: i64,
        /// The bit width.
        bits: u8,
    },
    /// The parts of an affine tensor do not belong together.
    #[error("an affine tensor's {part} have shape {found:?}, expected {expected:?}")]
    AffineShape {
        /// "codes", "scales" or "zero points".
        part: &'static str,
        /// Shape that the configuration gives.
        expected: [usize; 2],
        /// Shape found.
        found: [usize; 2],
    },
    /// Packed bytes of another length than the shape and format give.
    #[error("{} bits per code ({:?}) of shape {shape:?} take {expected} bytes, found {found}", config.bits, config.granularity)]
    PackedLength {
        /// The format.
        config: AffineConfig,
        /// `[out, in]`.
        shape: [usize; 2],
        /// Bytes needed.
        expected: u64,
        /// Bytes given.
        found: u64,
    },
    /// A GGUF file cannot hold the format.
    #[error("`{layer}` has format `{format}`, which no tensor of a GGUF file can have")]
    NotATensorType {
        /// GGUF name of the matrix.
        layer: String,
        /// Its format.
        format: Format,
    },
    /// An allocation names a matrix that the model does not have.
    #[error("the model has no matrix `{layer}`")]
    NoSuchLayer {
        /// GGUF name of the matrix.
        layer: String,
    },
    /// The cost per weight of nothing.
    #[error("the allocation has no matrices")]
    EmptyAllocation,
    /// A budget that nothing can meet.
    #[error("a budget must be a number above zero, it is {budget}")]
    Budget {
        /// The budget.
        budget: crate::Budget,
    },
    /// A field of the folding configuration is out of its range.
    #[error("scale folding: `{field}` is {value}, expected {expected}")]
    FoldConfig {
        /// The field.
        field: &'static str,
        /// Its value.
        value: f64,
        /// The range.
        expected: &'static str,
    },
    /// There are no activation statistics for a layer that needs them.
    #[error("there are no activation statistics for `{layer}`")]
    MissingStats {
        /// GGUF name of the matrix.
        layer: String,
    },
    /// Activation statistics of another width than the layer.
    #[error("`{layer}` has {expected} input channels, its activation statistics have {found}")]
    StatsWidth {
        /// GGUF name of the matrix.
        layer: String,
        /// Input channels of the matrix.
        expected: usize,
        /// Channels of the statistics.
        found: usize,
    },
    /// An activation statistic that no activations can have, or whose scale f32 cannot hold.
    #[error("the activation statistic of channel {channel} of `{layer}` is {value}")]
    StatsValue {
        /// GGUF name of the matrix.
        layer: String,
        /// Input channel.
        channel: usize,
        /// The statistic.
        value: f32,
    },
    /// A file could not be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file too large to be an allocation.
    #[error("{}: {bytes} bytes are too many for an allocation (limit {limit})", path.display())]
    FileTooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// A file that is not an allocation.
    #[error("{}: not an allocation: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// A block whose output cannot be learned for.
    #[error("{method}: the error of the block's output is {value}")]
    BlockError {
        /// The method.
        method: &'static str,
        /// The error.
        value: f64,
    },
    /// The device failed to give a tensor back.
    #[error("the device could not return a tensor: {why}")]
    Device {
        /// What the backend said.
        why: String,
    },
    /// A codec or a file of `ramp-gguf`.
    #[error(transparent)]
    Gguf(#[from] ramp_gguf::Error),
    /// The model.
    #[error(transparent)]
    Model(#[from] ramp_model::Error),
}

impl Error {
    /// Adds the name of the matrix that a codec's error is about.
    #[must_use]
    pub fn in_tensor(self, id: LayerId) -> Self {
        match self {
            Self::Gguf(error) => Self::Gguf(error.in_tensor(&id.to_string())),
            Self::Hessian { .. } | Self::HessianWidth { .. } => {
                Self::InLayer { layer: id, source: Box::new(self) }
            }
            other => other,
        }
    }

    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Io { path: path.to_owned(), source }
    }

    pub(crate) fn device(why: impl std::fmt::Debug) -> Self {
        Self::Device { why: format!("{why:?}") }
    }
}
