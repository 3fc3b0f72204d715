//! Readings of a state of eleven slots.

use serde::{Deserialize, Serialize};

use crate::{FEATURE_NAMES, N_FEATURES};

/// Names of the slots of Section 3.2, in the order of Eq. 11.
const SECTION_32_NAMES: [&str; N_FEATURES] = [
    "act_max",
    "act_importance",
    "weight_mean",
    "weight_std",
    "depth",
    "in",
    "out",
    "attention_or_mlp",
    "position",
    "prev_bits",
    "avg_bits",
];

/// How the slots are computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FeatureMode {
    /// Table 24 to the letter: clips at 1, bits divided by 8, zeros in front of the first layer. The activation
    /// scale of a channel is its largest magnitude.
    Paper,
    /// The list of Section 3.2 (Eq. 11), which differs from Appendix A in content and order: largest activation over
    /// the root of the width, importance, mean and standard deviation of the weights, depth, sizes over the model's
    /// width, attention or MLP, depth bucket, and the contextual slots of Table 24.
    Section32,
    /// The slots of Appendix A without the clips: logarithms of the weight and activation scales, bits on the range of the
    /// action set, and the target in front of the first layer.
    #[default]
    Sound,
}

impl FeatureMode {
    /// Names of a state's slots.
    #[must_use]
    pub const fn names(self) -> &'static [&'static str; N_FEATURES] {
        match self {
            Self::Paper | Self::Sound => &FEATURE_NAMES,
            Self::Section32 => &SECTION_32_NAMES,
        }
    }

    /// The slots that come from activations.
    pub(crate) const fn activation_slots(self) -> [usize; 2] {
        match self {
            Self::Paper | Self::Sound => [crate::slot::ACT_MEAN, crate::slot::ACT_MAX],
            Self::Section32 => [0, 1],
        }
    }
}
