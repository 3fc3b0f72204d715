//! What can be wrong with a model's files, one variant per broken rule.

use std::path::{Path, PathBuf};

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a model could not be read, run or written. Every message names the file or tensor and the value.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A JSON file does not parse.
    #[error("{}: not valid JSON: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// The folder has neither `model.safetensors` nor `model.safetensors.index.json`.
    #[error("{}: no model.safetensors and no model.safetensors.index.json", path.display())]
    NoWeights {
        /// The folder.
        path: PathBuf,
    },
    /// A key of `config.json` (or of a GGUF's metadata) is missing or has a value that cannot be.
    #[error("{}: `{key}` {why}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// What was found and what was expected.
        why: String,
    },
    /// The model is of a family that this crate does not know.
    #[error("{}: unsupported architecture `{found}` (supported: llama, mistral, qwen2, qwen3, gpt2)", path.display())]
    UnsupportedArchitecture {
        /// The file that says so.
        path: PathBuf,
        /// Its `model_type`, or `general.architecture`.
        found: String,
    },
    /// The index names a shard that is not there.
    #[error("{}: shard is missing, named by the index for tensor `{tensor}`", path.display())]
    MissingShard {
        /// The file that should exist.
        path: PathBuf,
        /// A tensor that it should hold.
        tensor: String,
    },
    /// A shard's header is broken, or the file is shorter than its header says.
    #[error("{}: not a complete safetensors file: {source}", path.display())]
    Safetensors {
        /// The shard.
        path: PathBuf,
        /// The broken rule.
        source: safetensors::SafeTensorError,
    },
    /// A tensor that the architecture needs is not in the files.
    #[error("{}: tensor `{name}` is missing", path.display())]
    MissingTensor {
        /// The file or folder searched.
        path: PathBuf,
        /// The tensor's Hugging Face name.
        name: String,
    },
    /// A tensor that no model of the architecture has; its values would be ignored.
    #[error("{}: tensor `{name}` is not part of a model that this version supports", path.display())]
    UnknownTensor {
        /// The file.
        path: PathBuf,
        /// The tensor's name.
        name: String,
    },
    /// A tensor has another shape than the configuration gives it.
    #[error("{}: tensor `{name}` has shape {found:?}, config.json gives {expected:?}", path.display())]
    Shape {
        /// The file.
        path: PathBuf,
        /// The tensor's name.
        name: String,
        /// `[out, in]` or `[channels]` from the configuration.
        expected: Vec<usize>,
        /// What the file holds.
        found: Vec<usize>,
    },
    /// A tensor is stored in a type other than f32, f16 or bf16.
    #[error("{}: tensor `{name}` has dtype {dtype} (supported: F32, F16, BF16)", path.display())]
    Dtype {
        /// The file.
        path: PathBuf,
        /// The tensor's name.
        name: String,
        /// The type found.
        dtype: String,
    },
    /// A weight is NaN or infinite.
    #[error("{}: tensor `{name}` holds {value} at element {index}", path.display())]
    NonFinite {
        /// The file.
        path: PathBuf,
        /// The tensor's name.
        name: String,
        /// Row-major index.
        index: usize,
        /// The value.
        value: f32,
    },
    /// The tokenizer's file is missing or broken.
    #[error("{}: tokenizer: {why}", path.display())]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// What the tokenizer library said.
        why: String,
    },
    /// The tokenizer has more tokens than the embedding has rows.
    #[error("{}: the tokenizer has {tokenizer} tokens, the embedding has {embedding} rows", path.display())]
    Vocabulary {
        /// The tokenizer's file.
        path: PathBuf,
        /// Highest token id plus one.
        tokenizer: usize,
        /// `vocab_size`.
        embedding: usize,
    },
    /// A token id has no row in the embedding.
    #[error("token id {token} is out of range, the embedding has {vocab_size} rows")]
    Token {
        /// The id.
        token: u32,
        /// Rows of the embedding.
        vocab_size: usize,
    },
    /// A batch whose rows are empty or of different lengths.
    #[error(
        "a batch needs rows of one length above zero, row {row} has {found} tokens, row 0 has {expected}"
    )]
    Batch {
        /// The row.
        row: usize,
        /// Its length.
        found: usize,
        /// Length of row 0.
        expected: usize,
    },
    /// A row longer than the model has positions for.
    #[error("a row of {found} tokens is too long, the model has positions for {limit}")]
    TooLong {
        /// Tokens of the row.
        found: usize,
        /// Most tokens of a row.
        limit: usize,
    },
    /// The model has no such matrix.
    #[error("the model has no matrix `{name}`")]
    NoSuchLayer {
        /// The matrix's GGUF name.
        name: String,
    },
    /// A type of float that models are not computed in.
    #[error("`{name}` is no precision, expected f32, bf16 or f16")]
    Precision {
        /// The name given.
        name: String,
    },
    /// A replacement weight has another shape than the weight it replaces.
    #[error("`{name}` has shape {expected:?}, the replacement has {found:?}")]
    Replacement {
        /// The matrix's GGUF name.
        name: String,
        /// `[out, in]` of the model.
        expected: Vec<usize>,
        /// `[out, in]` given.
        found: Vec<usize>,
    },
    /// The device failed to give a tensor back.
    #[error("the device could not return a tensor: {why}")]
    Device {
        /// What the backend said.
        why: String,
    },
    /// A file of calibration statistics is broken, or is something else.
    #[error("{}: {why}", path.display())]
    Stats {
        /// The file.
        path: PathBuf,
        /// What was found and what was expected.
        why: String,
    },
    /// A file of unfinished statistics belongs to another calibration pass.
    #[error("{}: belongs to another calibration, {what}: {found}, expected {expected}", path.display())]
    OtherCalibration {
        /// The file.
        path: PathBuf,
        /// What differs: model, windows, text or Gram matrices.
        what: &'static str,
        /// That of the file.
        found: String,
        /// That of this pass.
        expected: String,
    },
    /// A GGUF file could not be read or written.
    #[error(transparent)]
    Gguf(#[from] ramp_gguf::Error),
    /// The caller asked to stop.
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Io { path: path.to_owned(), source }
    }

    pub(crate) fn config(path: &Path, key: &str, why: impl Into<String>) -> Self {
        Self::Config { path: path.to_owned(), key: key.to_owned(), why: why.into() }
    }

    pub(crate) fn device(why: impl std::fmt::Debug) -> Self {
        Self::Device { why: format!("{why:?}") }
    }
}
