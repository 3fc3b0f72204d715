//! Per-group affine quantization: Eq. 10 of the paper.
//!
//! The weights of one output channel are cut into groups along the input axis; the last group of a row may be
//! short. A group `W` of `b` bits is stored as integer codes `q`, a scale `s` and a zero point `z`:
//!
//! ```text
//! s = (max W - min W) / (2^b - 1)
//! z = round(-min W / s)
//! q = clamp(round(W / s + z), 0, 2^b - 1)
//! Ŵ = s q - s z = s (q - z)
//! ```
//!
//! What the equation leaves open is decided here:
//!
//! - The scale is rounded to f16 *before* the zero point and the codes are computed, so that the codes are the
//!   best ones for the scale that is stored. The least scale is 2^-24, the least number of f16.
//! - The zero point is an integer of `b` bits (AWQ's storage, 4.15625 bits per weight for 4 bits and groups of
//!   128). A group whose weights have one sign would need a zero point outside of that range, so its range is
//!   extended to 0. Groups with both signs, nearly all there are, follow the equation as printed.
//! - A constant group is no special case: with 0 in its range it is restored up to the rounding of the scale,
//!   and a group of zeros is restored exactly.
//! - Rounding is to nearest, ties to even.
//!
//! For scales above 2^-14 the error of a weight is at most `s (1/2 + (2^b - 1) 2^-11)`: half a step, and the
//! rounding of the scale to f16.
//!
//! [`quantize`] and [`fake_quantize`] run on the tensor's device, [`AffineMatrix`] is the same on slices, and on
//! CPU backends both give the same bits.

mod bits;
mod matrix;
mod tensor;

use half::f16;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

pub use matrix::AffineMatrix;
pub use tensor::{AffineTensor, fake_quantize, quantize};

/// The least positive f16, 2^-24.
const MIN_SCALE: f32 = f16::MIN_POSITIVE_SUBNORMAL.to_f32_const();
/// The largest f16.
const MAX_SCALE: f32 = f16::MAX.to_f32_const();

/// Width of the codes and size of the groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AffineConfig {
    /// Bits of a code, [`AffineConfig::MIN_BITS`] to [`AffineConfig::MAX_BITS`].
    pub bits: u8,
    /// Weights of one output channel that share a scale and a zero point; the paper uses 128 (Table 10).
    pub group: usize,
}

impl AffineConfig {
    /// The narrowest code.
    pub const MIN_BITS: u8 = 2;
    /// The widest code.
    pub const MAX_BITS: u8 = 8;

    /// Checks the two numbers.
    ///
    /// # Errors
    /// When the width is not 2 to 8 bits, or the group is empty.
    pub const fn validate(self) -> Result<()> {
        if self.bits < Self::MIN_BITS || self.bits > Self::MAX_BITS {
            return Err(Error::Bits { bits: self.bits });
        }
        if self.group == 0 { Err(Error::EmptyGroup) } else { Ok(()) }
    }

    /// Number of groups in a row, a short last one included; the configuration is valid.
    pub(crate) const fn groups(self, inp: usize) -> usize {
        inp.div_ceil(self.group)
    }

    /// Bytes of a packed row: codes, scales, zero points. `None` when the number overflows.
    pub(crate) fn row_bytes(self, inp: usize) -> Result<Option<usize>> {
        self.validate()?;
        let packed = |n: usize| n.checked_mul(usize::from(self.bits)).map(|bits| bits.div_ceil(8));
        let groups = self.groups(inp);
        let bytes = || packed(inp)?.checked_add(groups.checked_mul(2)?)?.checked_add(packed(groups)?);
        Ok(bytes())
    }

    /// The largest code, `2^bits - 1`.
    const fn max_code(self) -> u8 {
        u8::MAX >> (Self::MAX_BITS - self.bits)
    }
}

#[cfg(test)]
mod tests;
