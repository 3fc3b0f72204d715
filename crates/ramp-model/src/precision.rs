//! The type of float that a model's products are computed in.

use std::str::FromStr;

use burn::tensor::{FloatDType, Tensor};
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// Type of the matrices of the blocks and of what they are multiplied with.
///
/// Everything else is f32 always: the embedding, the residual stream, norms, rotations, attention, and the head, whose
/// logits a KL divergence reads to more digits than half a float has. Half floats are for GPUs: a CPU multiplies them
/// more slowly than f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32 bits.
    #[default]
    F32,
    /// 16 bits, the range of f32 with 8 bits of significand.
    Bf16,
    /// 16 bits, values below 65,504 with 11 bits of significand. Models with large activations overflow it.
    F16,
}

impl Precision {
    /// The name in files and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
        }
    }

    /// Bytes of one value.
    #[must_use]
    pub const fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 | Self::F16 => 2,
        }
    }

    pub(crate) const fn dtype(self) -> FloatDType {
        match self {
            Self::F32 => FloatDType::F32,
            Self::Bf16 => FloatDType::BF16,
            Self::F16 => FloatDType::F16,
        }
    }

    /// A tensor in this type; nothing is done to one that has it.
    pub(crate) fn cast<const D: usize>(self, tensor: Tensor<D>) -> Tensor<D> {
        let dtype = self.dtype();
        if tensor.dtype() == dtype.into() { tensor } else { tensor.cast(dtype) }
    }
}

impl FromStr for Precision {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        match name {
            "f32" => Ok(Self::F32),
            "bf16" => Ok(Self::Bf16),
            "f16" => Ok(Self::F16),
            _ => Err(Error::Precision { name: name.to_owned() }),
        }
    }
}
