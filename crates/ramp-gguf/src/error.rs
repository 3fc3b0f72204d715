//! The one error type of the crate.

use std::io;
use std::path::{Path, PathBuf};

use crate::GgmlType;

/// The result of everything in this crate that can fail.
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that can be wrong: one variant per broken rule.
///
/// Errors from reading a file are wrapped in [`Error::InFile`] and [`Error::InTensor`], which only add a name to
/// the message; [`Error::root`] is the rule itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused an operation on a file.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb: "open", "map", "write".
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// A path that must name an ordinary file names a folder, a device or a pipe.
    #[error("{} is not a regular file", path.display())]
    NotARegularFile {
        /// The path.
        path: PathBuf,
    },
    /// A file breaks a rule.
    #[error("{}: {error}", path.display())]
    InFile {
        /// The file.
        path: PathBuf,
        /// The rule.
        error: Box<Error>,
    },
    /// A tensor breaks a rule.
    #[error("tensor `{name}`: {error}")]
    InTensor {
        /// The tensor.
        name: String,
        /// The rule.
        error: Box<Error>,
    },

    // ---- types and shapes
    /// A tensor type id that is not in ggml's table.
    #[error("unknown ggml type id {id}")]
    UnknownTypeId {
        /// The id.
        id: u32,
    },
    /// A tensor type id that ggml has removed.
    #[error("ggml type id {id} has been removed from ggml")]
    RemovedTypeId {
        /// The id.
        id: u32,
    },
    /// A type name that is not in ggml's table.
    #[error("unknown ggml type `{name}`")]
    UnknownTypeName {
        /// The name.
        name: String,
    },
    /// This crate has no encoder for the type.
    #[error("no encoder for {ty}")]
    CannotEncode {
        /// The type.
        ty: GgmlType,
    },
    /// This crate has no decoder for the type.
    #[error("no decoder for {ty}")]
    CannotDecode {
        /// The type.
        ty: GgmlType,
    },
    /// The type's blocks have no scales whose codes could be exchanged here.
    #[error("the codes of {ty} blocks cannot be set")]
    NoGrid {
        /// The type.
        ty: GgmlType,
    },
    /// Another number of codes than a block has weights.
    #[error("a block of {ty} takes {expected} codes, found {found}")]
    CodeCount {
        /// The type.
        ty: GgmlType,
        /// Weights of a block.
        expected: usize,
        /// Codes given.
        found: usize,
    },
    /// A code that does not fit the type.
    #[error("code {code} at place {at} of a {ty} block is above {max}")]
    CodeRange {
        /// The type.
        ty: GgmlType,
        /// Place in the block.
        at: usize,
        /// The code.
        code: u8,
        /// The largest code.
        max: u8,
    },
    /// A row must be a whole number of blocks.
    #[error("rows of {n_per_row} weights do not divide into {ty} blocks of {}", ty.block_size())]
    RowNotBlockMultiple {
        /// The type.
        ty: GgmlType,
        /// Weights per row.
        n_per_row: u64,
    },
    /// A size does not fit in 64 bits or in the address space.
    #[error("{what} overflow")]
    SizeOverflow {
        /// What was being computed.
        what: &'static str,
    },

    // ---- codec
    /// The source of an encoding must be whole, non-empty rows.
    #[error("{len} values are not rows of {n_per_row}")]
    NotWholeRows {
        /// Values given.
        len: usize,
        /// Values per row.
        n_per_row: usize,
    },
    /// The importance matrix needs one weight per column.
    #[error("importance matrix has {found} values for rows of {expected} weights")]
    ImatrixLength {
        /// Weights per row.
        expected: usize,
        /// Values given.
        found: usize,
    },
    /// Importance must be finite and not negative.
    #[error("importance of column {column} is {value}")]
    ImatrixValue {
        /// The column.
        column: usize,
        /// The value.
        value: f32,
    },
    /// A weight is NaN or infinite.
    #[error("weight at row {row}, column {column} is {value}")]
    NonFiniteWeight {
        /// The row.
        row: usize,
        /// The column.
        column: usize,
        /// The value.
        value: f32,
    },
    /// The weights of a block are too large for the type: its scale (or, for a float type, the value) would be
    /// stored as infinity. Importance beyond about 1e30 has the same effect.
    #[error("weights at row {row} from column {column} are too large for {ty}")]
    WeightRange {
        /// The type.
        ty: GgmlType,
        /// The row.
        row: usize,
        /// The first column of the block.
        column: usize,
    },
    /// A buffer of encoded weights has the wrong length.
    #[error("{found} bytes where {ty} needs {expected}")]
    EncodedLength {
        /// The type.
        ty: GgmlType,
        /// The bytes that the shape needs.
        expected: u64,
        /// The bytes given.
        found: u64,
    },
    /// The rows of a projection must be `n_head` heads of an even number of rows.
    #[error("{rows} rows do not divide into {n_head} heads of an even size")]
    HeadRows {
        /// Rows given.
        rows: usize,
        /// Heads asked for.
        n_head: usize,
    },

    // ---- metadata
    /// A key that the caller needs is not in the file.
    #[error("metadata key `{key}` is missing")]
    MissingKey {
        /// The key.
        key: String,
    },
    /// A metadata value has another type than the one asked for.
    #[error("metadata key `{key}` is {found}, expected {expected}")]
    WrongType {
        /// The key.
        key: String,
        /// The type asked for.
        expected: &'static str,
        /// The type found.
        found: &'static str,
    },
    /// A key is empty, longer than 65535 bytes, or not ASCII.
    #[error("metadata key `{key}` is not 1 to 65535 ASCII characters")]
    BadKey {
        /// The key.
        key: String,
    },
    /// Keys must be unique.
    #[error("metadata key `{key}` appears twice")]
    DuplicateKey {
        /// The key.
        key: String,
    },
    /// `general.alignment` must be a power of two, at most 64 KiB.
    #[error("general.alignment is {found}, expected a power of two up to {}", crate::header::MAX_ALIGNMENT)]
    BadAlignment {
        /// The value.
        found: u32,
    },

    // ---- reading a container
    /// The first four bytes are not `GGUF`.
    #[error("not a GGUF file: it starts with {found:02x?}")]
    BadMagic {
        /// The bytes found.
        found: Vec<u8>,
    },
    /// The file was written on a machine of the other byte order.
    #[error("big-endian GGUF files are not supported (version reads as {version:#x})")]
    BigEndian {
        /// The version as read in little-endian order.
        version: u32,
    },
    /// The file has a version that this crate does not read.
    #[error("GGUF version {version} is not supported (2 and 3 are)")]
    UnsupportedVersion {
        /// The version.
        version: u32,
    },
    /// The file ends too early.
    #[error("file ends inside {what}: {needed} bytes needed at offset {offset}, {left} left")]
    Truncated {
        /// What was being read.
        what: &'static str,
        /// Where in the file.
        offset: u64,
        /// Bytes needed.
        needed: u64,
        /// Bytes left.
        left: u64,
    },
    /// A count is larger than the rest of the file could hold, or than the crate's limit.
    #[error("{count} {what}, but at most {limit} are possible here")]
    CountTooLarge {
        /// What is counted.
        what: &'static str,
        /// The count in the file.
        count: u64,
        /// The largest acceptable count.
        limit: u64,
    },
    /// A string is longer than the rest of the file, or than the crate's limit of 16 MiB.
    #[error("{what} is {length} bytes long, but at most {limit} are possible here")]
    StringTooLong {
        /// Which string.
        what: &'static str,
        /// The length in the file.
        length: u64,
        /// The largest acceptable length.
        limit: u64,
    },
    /// An array has more elements than the rest of the file could hold, or than the crate's limit of 2^26.
    #[error("metadata key `{key}` is an array of {count} elements, but at most {limit} are possible here")]
    ArrayTooLong {
        /// The key.
        key: String,
        /// The count in the file.
        count: u64,
        /// The largest acceptable count.
        limit: u64,
    },
    /// A metadata value type id is not one of the thirteen.
    #[error("metadata key `{key}` has unknown value type {id}")]
    UnknownValueType {
        /// The key.
        key: String,
        /// The id.
        id: u32,
    },
    /// Arrays of arrays are in the specification, but llama.cpp rejects them and so does this crate.
    #[error("metadata key `{key}` is an array of arrays")]
    NestedArray {
        /// The key.
        key: String,
    },
    /// A bool is a byte that is neither 0 nor 1.
    #[error("metadata key `{key}` holds the bool byte {byte}")]
    BadBool {
        /// The key.
        key: String,
        /// The byte.
        byte: u8,
    },
    /// A string is not UTF-8.
    #[error("{what} is not UTF-8")]
    NotUtf8 {
        /// Which string.
        what: String,
    },
    /// A tensor name is empty or longer than 63 bytes (`GGML_MAX_NAME`).
    #[error("tensor name `{name}` is not 1 to {} bytes long", crate::header::MAX_TENSOR_NAME)]
    BadTensorName {
        /// The name.
        name: String,
    },
    /// Tensor names must be unique.
    #[error("tensor `{name}` appears twice")]
    DuplicateTensor {
        /// The name.
        name: String,
    },
    /// A tensor has 1 to 4 dimensions.
    #[error("{n_dims} dimensions, expected 1 to {}", crate::header::MAX_DIMS)]
    BadDimCount {
        /// The number of dimensions.
        n_dims: u64,
    },
    /// A dimension must be at least 1.
    #[error("dimension {axis} is 0 in {dims:?}")]
    ZeroDim {
        /// The first axis of length 0.
        axis: usize,
        /// The dimensions in `ne` order.
        dims: Vec<u64>,
    },
    /// The number of elements must fit in an `i64`.
    #[error("dimensions {dims:?} have too many elements")]
    TooManyElements {
        /// The dimensions in `ne` order.
        dims: Vec<u64>,
    },
    /// Tensor data must be a multiple of the alignment away from the start of the data section.
    #[error("data offset {offset} is not a multiple of the alignment {alignment}")]
    MisalignedOffset {
        /// The offset.
        offset: u64,
        /// The alignment.
        alignment: u64,
    },
    /// Tensor data must follow each other in the order of the infos, without gaps or overlap.
    #[error("data offset is {found}, expected {expected}")]
    WrongOffset {
        /// The end of the previous tensor's padded data.
        expected: u64,
        /// The offset in the file.
        found: u64,
    },
    /// The data of a tensor reaches past the end of the file.
    #[error("data needs {end} bytes of file, which has {file_len}")]
    DataPastEnd {
        /// The end of the data, in bytes from the start of the file.
        end: u64,
        /// The length of the file.
        file_len: u64,
    },
    /// The file has no tensor of this name.
    #[error("no tensor `{name}`")]
    NoSuchTensor {
        /// The name.
        name: String,
    },

    /// A Rust type was asked for that is not the size of a block of the tensor's type.
    #[error("a block of {ty} has {expected} bytes, not {found}")]
    BlockSize {
        /// The type.
        ty: GgmlType,
        /// Bytes per block.
        expected: usize,
        /// Bytes of the Rust type.
        found: usize,
    },
    /// The data does not start at a multiple of the Rust type's alignment.
    #[error("data does not start at a multiple of {alignment} bytes")]
    MisalignedView {
        /// The alignment of the Rust type.
        alignment: usize,
    },
    /// A range of rows reaches past the last row.
    #[error("rows {start} to {end} of {n_rows}")]
    RowRange {
        /// The first row asked for.
        start: u64,
        /// One past the last row asked for.
        end: u64,
        /// Rows of the tensor.
        n_rows: u64,
    },

    // ---- split models
    /// The name of a split file must end in its number and the number of parts, as `split.no` and `split.count`
    /// give them: that is how the other parts are found.
    #[error("part {} of {count} must have a name that ends in `{suffix}`", no + 1)]
    SplitName {
        /// The part's number, from zero.
        no: u16,
        /// The number of parts.
        count: u16,
        /// What the name must end in.
        suffix: String,
    },
    /// `split.no` is another than the place of the file among the parts.
    #[error("split.no is {found}, expected {expected}")]
    SplitNo {
        /// The place that the name gives.
        expected: u16,
        /// The number in the file.
        found: u16,
    },
    /// `split.no` is not below `split.count`.
    #[error("split.no is {no}, but there are {count} parts")]
    SplitNoRange {
        /// The part's number, from zero.
        no: u16,
        /// The number of parts.
        count: u16,
    },
    /// Parts disagree on how many parts there are.
    #[error("split.count is {found}, but {expected} in the first part")]
    SplitCount {
        /// The number in the first part.
        expected: u16,
        /// The number in this part.
        found: u16,
    },
    /// All parts together have another number of tensors than the first part says.
    #[error("split.tensors.count is {expected}, but the parts have {found} tensors")]
    SplitTensors {
        /// The number in the first part.
        expected: i32,
        /// The tensors of all parts.
        found: usize,
    },

    // ---- what the metadata says about a model
    /// A size of the model is zero, or larger than llama.cpp's fixed tables.
    #[error("metadata key `{key}` is {value}, expected 1 to {limit}")]
    ModelSize {
        /// The key.
        key: String,
        /// The value.
        value: u64,
        /// The largest acceptable value.
        limit: u64,
    },
    /// A per-layer array has another length than the model has layers.
    #[error("metadata key `{key}` has {found} elements for {n_layer} layers")]
    PerLayerLength {
        /// The key.
        key: String,
        /// Layers of the model.
        n_layer: u32,
        /// Elements of the array.
        found: usize,
    },
    /// Query heads must be a multiple of key heads.
    #[error("{n_head} query heads do not share {n_head_kv} key heads evenly")]
    HeadGroups {
        /// Query heads.
        n_head: u32,
        /// Key and value heads.
        n_head_kv: u32,
    },
    /// An array of the tokenizer has another length than there are tokens.
    #[error("metadata key `{key}` has {found} elements for {expected} tokens")]
    TokenArrayLength {
        /// The key.
        key: &'static str,
        /// Tokens.
        expected: usize,
        /// Elements.
        found: usize,
    },
    /// A special token has an id beyond the vocabulary.
    #[error("metadata key `{key}` is {id}, but there are {n_tokens} tokens")]
    SpecialToken {
        /// The key.
        key: String,
        /// The id.
        id: u32,
        /// Tokens.
        n_tokens: usize,
    },
    /// A byte token is not spelled `<0x00>` to `<0xFF>`.
    #[error("token {id} is of type byte, but spelled `{text}`")]
    ByteToken {
        /// The id.
        id: usize,
        /// The spelling.
        text: String,
    },

    // ---- llama.cpp's mixes and recipes
    /// The name or number of a file type is not one that has rules here.
    #[error("unknown file type `{name}`")]
    UnknownFtype {
        /// The name or number.
        name: String,
    },
    /// The rules for this architecture differ from those that are known here.
    #[error("the mixes for architecture `{architecture}` are not known")]
    MixArchitecture {
        /// The architecture.
        architecture: String,
    },
    /// A model with experts has a tensor outside its layers.
    #[error("layer {layer:?}, expected one below {n_layer}")]
    MixLayer {
        /// The layer in the name, if there is one.
        layer: Option<u32>,
        /// Layers of the model.
        n_layer: u32,
    },
    /// A rule of a `--tensor-type-file` is not `pattern=type`.
    #[error("rule {} `{rule}`: {reason}", at + 1)]
    Recipe {
        /// The place of the rule in the file, from zero.
        at: usize,
        /// The rule.
        rule: String,
        /// What is wrong with it.
        reason: String,
    },

    // ---- writing a container
    /// A tensor got more bytes than its shape and type need.
    #[error("{found} bytes of data where {expected} are due")]
    TooMuchData {
        /// The bytes that the shape needs.
        expected: u64,
        /// The bytes given so far.
        found: u64,
    },
    /// A tensor was left before all of its bytes were written.
    #[error("only {found} of {expected} bytes were written")]
    UnfinishedTensor {
        /// The bytes that the shape needs.
        expected: u64,
        /// The bytes given.
        found: u64,
    },
    /// Tensors must be written in the order of the infos.
    #[error("tensor `{found}` was written where `{expected}` is due")]
    WrongOrder {
        /// The tensor that is due, or "nothing" after the last.
        expected: String,
        /// The tensor that was given.
        found: String,
    },
    /// The writer was finished before all tensors were written.
    #[error("{missing} tensors were not written, the first is `{first}`")]
    MissingTensors {
        /// How many.
        missing: usize,
        /// The first of them.
        first: String,
    },

    // ---- tokenizer
    /// `tokenizer.json` lacks a field or has it in a form that this crate does not know.
    #[error("tokenizer.json: {reason}")]
    TokenizerJson {
        /// What is wrong.
        reason: String,
    },
    /// The pre-tokenizer is none of those that llama.cpp implements under a known name.
    #[error("tokenizer.json: pre-tokenizer is not a known one ({found}); name one (`--pre`) to override")]
    UnknownPreTokenizer {
        /// Its regular expressions or structure.
        found: String,
    },
    /// `tokenizer.model` is not a SentencePiece `ModelProto`.
    #[error("tokenizer.model: {reason} at byte {offset}")]
    SentencePiece {
        /// What is wrong.
        reason: &'static str,
        /// Where.
        offset: usize,
    },
    /// `tokenizer.model` changes a text in a way that llama.cpp's SentencePiece tokenizer does not.
    #[error("tokenizer.model: {reason}, which llama.cpp does not do; name a pre-tokenizer to ignore it")]
    SentencePieceNormalizer {
        /// What it does.
        reason: String,
    },
    /// A pre-tokenizer was named that llama.cpp does not have: it would not load the file.
    #[error("llama.cpp has no pre-tokenizer `{name}`; it has {}", crate::tokenizer::PRE_TOKENIZERS.join(", "))]
    NoSuchPreTokenizer {
        /// The name.
        name: String,
    },
    /// `tokenizer_config.json` has a chat template in a form that this crate does not know.
    #[error("tokenizer_config.json: {reason}")]
    ChatTemplate {
        /// What is wrong.
        reason: String,
    },
    /// `tokenizer.model` and `tokenizer.json` describe different vocabularies.
    #[error("token {id} is `{json}` in tokenizer.json and `{model}` in tokenizer.model")]
    VocabMismatch {
        /// The token id.
        id: u32,
        /// The text in `tokenizer.json`.
        json: String,
        /// The text in `tokenizer.model`.
        model: String,
    },
    /// A token has an id outside the model's vocabulary.
    #[error("token `{token}` has id {id}, the vocabulary has {vocab_size} entries")]
    TokenOutOfRange {
        /// The token or the role of the id.
        token: String,
        /// The id.
        id: u64,
        /// Rows of the embedding matrix.
        vocab_size: usize,
    },
    /// Two tokens share an id.
    #[error("tokens `{first}` and `{second}` both have id {id}")]
    DuplicateTokenId {
        /// The id.
        id: u32,
        /// One token.
        first: String,
        /// The other.
        second: String,
    },

    // ---- imatrix
    /// An importance matrix file breaks a rule.
    #[error("imatrix: {reason}")]
    Imatrix {
        /// What is wrong, with the entry's name.
        reason: String,
    },
}

impl Error {
    /// The rule that was broken, without the file and tensor names that wrap it.
    ///
    /// ```
    /// use ramp_gguf::{Error, Header};
    /// let error = Header::parse(b"PK\x03\x04").unwrap_err();
    /// assert!(matches!(error.root(), Error::BadMagic { .. }));
    /// ```
    pub fn root(&self) -> &Self {
        match self {
            Self::InFile { error, .. } | Self::InTensor { error, .. } => error.root(),
            other => other,
        }
    }

    /// The row of an encoding error counted from the start of the tensor, of which `first_row` was the first
    /// that was encoded.
    #[must_use]
    pub(crate) fn counted_from_row(mut self, first_row: usize) -> Self {
        if let Self::NonFiniteWeight { row, .. } | Self::WeightRange { row, .. } = &mut self {
            *row += first_row;
        }
        self
    }

    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }

    pub(crate) fn in_file(self, path: &Path) -> Self {
        Self::InFile { path: path.to_owned(), error: Box::new(self) }
    }

    /// Adds the name of the tensor that the error is about.
    #[must_use]
    pub fn in_tensor(self, name: &str) -> Self {
        Self::InTensor { name: name.to_owned(), error: Box::new(self) }
    }
}
