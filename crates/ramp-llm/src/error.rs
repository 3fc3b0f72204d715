//! The facade's error: whatever went wrong below, plus what only the pipeline knows.

use std::path::PathBuf;

/// Result of the pipeline.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a run failed. The message is one line that names the file or tensor and the value.
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
    /// A text that cannot calibrate a model.
    #[error("{}: {why}", path.display())]
    Text {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The input is a quantized file already, or something else that cannot be quantized.
    #[error("{}: {why}", path.display())]
    Input {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Reading or running the model failed.
    #[error(transparent)]
    Model(#[from] ramp_model::Error),
    /// The evaluation failed.
    #[error(transparent)]
    Eval(#[from] ramp_eval::Error),
    /// A codec or the folding failed.
    #[error(transparent)]
    Quant(#[from] ramp_quant::Error),
    /// Features could not be computed.
    #[error(transparent)]
    Embed(#[from] ramp_embed::Error),
    /// The search failed.
    #[error(transparent)]
    Search(#[from] ramp_search::Error),
    /// A GGUF file failed.
    #[error(transparent)]
    Gguf(#[from] ramp_gguf::Error),
    /// A figure could not be drawn.
    #[error("figure: {why}")]
    Figure {
        /// What the drawing library said.
        why: String,
    },
    /// The caller asked to stop.
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// Whether the run was stopped by its caller.
    #[must_use]
    pub const fn is_interrupted(&self) -> bool {
        matches!(
            self,
            Self::Interrupted
                | Self::Model(ramp_model::Error::Interrupted)
                | Self::Eval(ramp_eval::Error::Interrupted)
                | Self::Quant(ramp_quant::Error::Model(ramp_model::Error::Interrupted))
                | Self::Search(
                    ramp_search::Error::Interrupted
                        | ramp_search::Error::Model(ramp_model::Error::Interrupted)
                        | ramp_search::Error::Eval(ramp_eval::Error::Interrupted)
                )
        )
    }
}
