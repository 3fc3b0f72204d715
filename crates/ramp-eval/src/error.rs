//! What can be wrong with an evaluation.

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
