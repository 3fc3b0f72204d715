//! Two readings of the same eleven slots.

use serde::{Deserialize, Serialize};

/// How the slots are computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FeatureMode {
    /// Table 24 to the letter: clips at 1, bits divided by 8, zeros in front of the first layer. The activation
    /// scale of a channel is its largest magnitude.
    Paper,
    /// The same slots without the clips: logarithms of the weight and activation scales, bits on the range of the
    /// action set, and the target in front of the first layer.
    #[default]
    Sound,
}
