//! Readings of a state of eleven slots, decision by decision.

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

/// What the index of a layer counts in the slot `depth`, `i / (n - 1)`: Table 24 does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DepthIndex {
    /// Blocks: the same depth for all matrices of a block, whatever their number.
    #[default]
    Block,
    /// Matrices, in the order of the table.
    Layer,
}

/// Every decision about the eleven slots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureConfig {
    /// Which list, and in which form.
    pub mode: FeatureMode,
    /// What depth counts.
    #[serde(default)]
    pub depth: DepthIndex,
    /// Whether the slots of a layer's sizes are clipped to 1, as the text has it ("clipped to \[0, 1\]") and Table 24 has
    /// not: every layer of more than 32 columns then has the same.
    #[serde(default)]
    pub clip_dims: bool,
}

impl From<FeatureMode> for FeatureConfig {
    /// Depth in blocks, sizes as they are.
    fn from(mode: FeatureMode) -> Self {
        Self { mode, ..Self::default() }
    }
}

impl FeatureMode {
    /// The slots of a layer's sizes.
    pub(crate) const fn size_slots(self) -> [usize; 2] {
        match self {
            Self::Paper | Self::Sound => [1, 2],
            Self::Section32 => [5, 6],
        }
    }

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
