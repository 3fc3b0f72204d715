//! The one error type of the crate.

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can be wrong: one variant per broken rule.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A layer was never seen in the calibration pass.
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
    /// An activation statistic that no activations can have.
    #[error("the activation statistic of channel {channel} of `{layer}` is {value}")]
    StatsValue {
        /// GGUF name of the matrix.
        layer: String,
        /// Input channel.
        channel: usize,
        /// The statistic.
        value: f32,
    },
    /// A feature of a layer is no number, because a weight is NaN or infinite.
    #[error("feature `{feature}` of `{layer}` is {value}")]
    NonFinite {
        /// GGUF name of the matrix.
        layer: String,
        /// Name of the feature.
        feature: &'static str,
        /// Its value.
        value: f32,
    },
    /// A scaler that cannot scale.
    #[error(
        "a scaler needs finite means and finite standard deviations above 0, `{feature}` has {mean} and {std}"
    )]
    Scaler {
        /// Name of the feature.
        feature: &'static str,
        /// Its mean.
        mean: f32,
        /// Its standard deviation.
        std: f32,
    },
    /// Errors of formats that do not belong to the layers.
    #[error("relative errors of {what} are {found}, expected {expected}")]
    FormatErrors {
        /// What was counted, e.g. `layers`.
        what: String,
        /// How many there are, or the value.
        found: f64,
        /// How many there must be, or the rule.
        expected: String,
    },
    /// Features of different kinds, or a scaler of another length.
    #[error("cannot bring together features of {left} and {right}")]
    Mismatch {
        /// What one side is.
        left: String,
        /// What the other side is.
        right: String,
    },
    /// The model.
    #[error(transparent)]
    Model(#[from] ramp_model::Error),
}
