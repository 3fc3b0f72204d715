//! What can be wrong with an evaluation.

use std::path::PathBuf;

use crate::tasks::Task;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an evaluation could not be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text is too short for one window (llama.cpp's protocol asks for two).
    #[error("the text has {tokens} tokens, windows of {ctx} tokens need at least {needed}")]
    TextTooShort {
        /// Tokens of the text.
        tokens: usize,
        /// Window length.
        ctx: usize,
        /// Tokens that the protocol asks for.
        needed: usize,
    },
    /// A window too short to predict anything.
    #[error("a context of {ctx} tokens is too short, at least {min} are needed")]
    Context {
        /// The window length.
        ctx: usize,
        /// The smallest that scores a token.
        min: usize,
    },
    /// A stride that leaves tokens out or does not move.
    #[error("a stride of {stride} tokens does not fit windows of {ctx}, expected 1 to {ctx}")]
    Stride {
        /// The stride.
        stride: usize,
        /// The window length.
        ctx: usize,
    },
    /// Zero windows were asked for.
    #[error("zero windows were asked for")]
    NoWindows,
    /// Two models that cannot be compared token by token.
    #[error("the models have {base} and {other} tokens in their vocabularies, expected the same")]
    Vocabularies {
        /// `vocab_size` of the base model.
        base: usize,
        /// `vocab_size` of the other.
        other: usize,
    },
    /// The model gave NaN or infinity.
    #[error("the model gives {value} as {what} in window {window}")]
    NonFinite {
        /// Which number.
        what: &'static str,
        /// The value.
        value: f64,
        /// Index of the window.
        window: usize,
    },
    /// The model gave NaN or infinity, and this is where it began.
    #[error("the model gives {value} as {what} in window {window}; {place} is the first that is not finite")]
    NonFiniteAt {
        /// Which number.
        what: &'static str,
        /// The value.
        value: f64,
        /// Index of the window, or of the request of a task.
        window: usize,
        /// Which layer, and which side of it.
        place: String,
    },
    /// A model gave a tensor of another shape than it must.
    #[error("the model gives {what} of shape {found:?}, expected {expected:?}")]
    Shape {
        /// Which tensor.
        what: &'static str,
        /// Its shape.
        found: Vec<usize>,
        /// `[batch, seq, width]` or `[rows, vocab]`.
        expected: Vec<usize>,
    },
    /// A model of the caller's own failed.
    #[error(transparent)]
    Custom(Box<dyn std::error::Error + Send + Sync>),
    /// A file could not be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is not text.
    #[error("{}: is not UTF-8 at byte {byte}", path.display())]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// The first byte that is wrong.
        byte: usize,
    },
    /// There is no task of that name.
    #[error("unknown task `{name}` (known: piqa, hellaswag, winogrande, arc_easy, arc_challenge)")]
    UnknownTask {
        /// The name.
        name: String,
    },
    /// A folder has no file of the task.
    #[error("{}: no file of {task} (tried {tried})", dir.display())]
    NoTaskFile {
        /// The task.
        task: Task,
        /// The folder.
        dir: PathBuf,
        /// The names that were tried.
        tried: String,
    },
    /// A data file without a row.
    #[error("{}: is empty", path.display())]
    EmptyFile {
        /// The file.
        path: PathBuf,
    },
    /// A line that is no JSON object.
    #[error("{}: line {line}: not a JSON object: {source}", path.display())]
    NotJson {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// Where and why.
        source: serde_json::Error,
    },
    /// A parquet file that cannot be read, or a build that reads none.
    #[error("{}: not a readable parquet file: {why}", path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// What the parquet library said.
        why: String,
    },
    /// A file of another task.
    #[error("{}: line {line}: is a row of {found}, expected {expected}", path.display())]
    WrongTask {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The task that was asked for.
        expected: Task,
        /// The task whose fields the row has.
        found: Task,
    },
    /// A row lacks a field.
    #[error("{}: line {line}: `{field}` is missing", path.display())]
    MissingField {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The field.
        field: String,
    },
    /// A field has a value that cannot be.
    #[error("{}: line {line}: `{field}` {why}", path.display())]
    Field {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The field.
        field: String,
        /// What was found and what was expected.
        why: String,
    },
    /// A row with more or fewer choices than its task has.
    #[error("{}: line {line}: {found} choices, {task} has {expected}", path.display())]
    Choices {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The task.
        task: Task,
        /// Choices of the row.
        found: usize,
        /// Choices of the task.
        expected: &'static str,
    },
    /// Neither the row nor a file of labels says which choice is right.
    #[error("{}: line {line}: no label: `{field}` is missing and there is no file of labels", path.display())]
    NoLabel {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The field that could hold it.
        field: String,
    },
    /// A file of labels is longer or shorter than its data file.
    #[error("{}: {labels} labels for {rows} rows of {}", path.display(), data.display())]
    LabelCount {
        /// The file of labels.
        path: PathBuf,
        /// Its labels.
        labels: usize,
        /// The data file.
        data: PathBuf,
        /// Its rows.
        rows: usize,
    },
    /// A label that is no choice.
    #[error("{}: line {line}: label {found:?}, expected {first} to {last}", path.display())]
    Label {
        /// The file of labels.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The label.
        found: String,
        /// The smallest label.
        first: i64,
        /// The largest.
        last: i64,
    },
    /// A continuation that cannot be scored.
    #[error("{text:?} has {tokens} tokens, expected 1 to {max}")]
    Continuation {
        /// Its tokens.
        tokens: usize,
        /// The model's context.
        max: usize,
        /// Its beginning.
        text: String,
    },
    /// A continuation without context, for a model with neither BOS nor EOS.
    #[error("a text without context needs a BOS or EOS token, and the model has none")]
    NoPrefix,
    /// An item that cannot be asked.
    #[error("{task}, item {item}: {source}")]
    Item {
        /// The task.
        task: Task,
        /// Index of the row in its file, from 0.
        item: usize,
        /// Why.
        source: Box<Error>,
    },
    /// Results that belong to different items.
    #[error("results on other items of {task} or on {base} do not compare")]
    DifferentItems {
        /// The task.
        task: Task,
        /// The base's task.
        base: Task,
    },
    /// The model failed.
    #[error(transparent)]
    Model(#[from] ramp_model::Error),
    /// The device failed to give a tensor back.
    #[error("the device could not return a tensor: {why}")]
    Device {
        /// What the backend said.
        why: String,
    },
    /// The caller asked to stop.
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// An error of a model of the caller's own.
    #[must_use]
    pub fn custom(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Custom(error.into())
    }

    /// A bare [`Error::NonFinite`] with the place where it began, if that is known.
    pub(crate) fn at(self, place: Option<String>) -> Self {
        match (self, place) {
            (Self::NonFinite { what, value, window }, Some(place)) => {
                Self::NonFiniteAt { what, value, window, place }
            }
            (other, _) => other,
        }
    }

    pub(crate) fn in_item(self, task: Task, item: usize) -> Self {
        Self::Item { task, item, source: Box::new(self) }
    }
}
