//! Affine quantization: Eq. 10 of the paper.
//!
//! The weights that share a scale are a *group*: some consecutive weights of one output channel, a whole channel, or
//! the whole matrix ([`Granularity`]); the last group of a row may be short. A group `W` is stored in `b` bits as
//! integer codes `q`, a scale `s` and a zero point `z`:
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
//! - The zero point is an integer. How wide, and what happens to groups whose weights have one sign, is
//!   [`ZeroPoint`]; for groups with both signs, nearly all there are, every asymmetric form is the equation.
//! - A constant group is no special case: it is restored up to the rounding of the scale, and a group of zeros is
//!   restored exactly.
//! - Rounding is to nearest, ties to even.
//!
//! For scales above 2^-14 the error of a weight is at most `s (1/2 + (2^b - 1) 2^-11)`: half a step, and the
//! rounding of the scale to f16. ([`ZeroPoint::Clamped`] promises this for groups with both signs only.)
//!
//! [`quantize`] and [`fake_quantize`] run on the tensor's device. [`AffineMatrix`] and [`fake_quantize_slice`] are the
//! same on slices, and on CPU backends all give the same bits. [`ClipSearch`] looks for a narrower range whose error is
//! less.

mod agreement;
mod bits;
mod clip;
mod fake;
#[cfg(feature = "cuda")]
mod gpu;
mod grid;
mod matrix;
mod tensor;

use half::f16;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

pub use self::{
    agreement::{Agreement, agreement},
    clip::ClipSearch,
    fake::fake_quantize_slice,
    matrix::AffineMatrix,
    tensor::{AffineTensor, fake_quantize, quantize},
};
pub(crate) use self::{
    grid::Grid,
    matrix::{check_importance, first_non_finite, scale_range},
};

/// The least positive f16, 2^-24.
pub(crate) const MIN_SCALE: f32 = f16::MIN_POSITIVE_SUBNORMAL.to_f32_const();
/// The largest f16.
pub(crate) const MAX_SCALE: f32 = f16::MAX.to_f32_const();

/// Which weights share a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Granularity {
    /// The whole matrix.
    Tensor,
    /// Each output channel.
    Channel,
    /// So many consecutive weights of an output channel; the paper uses 128 (Table 10).
    Group(usize),
}

/// How the zero point of a group is found and stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ZeroPoint {
    /// `b` bits. The range of the weights is extended to 0, so that the zero point always fits: GPTQ's quantizer, and
    /// what [`crate::Format::Affine`] stores.
    #[default]
    InRange,
    /// 16 bits, signed: Eq. 10 as printed, for groups of one sign, too. A group far from 0 and narrow would need more
    /// than 16 bits; its scale is raised to 1/20000 of its largest weight.
    Printed,
    /// `b` bits, clamped: AWQ's quantizer. A group of one sign loses what is beyond its codes.
    Clamped,
    /// Not stored, always `2^(b-1)`; the range is that of the largest magnitude.
    Symmetric,
}

/// Width of the codes, which weights share a scale, and the kind of zero point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AffineConfig {
    /// Bits of a code, [`AffineConfig::MIN_BITS`] to [`AffineConfig::MAX_BITS`].
    pub bits: u8,
    /// Which weights share a scale and a zero point.
    pub granularity: Granularity,
    /// How the zero point is found and stored.
    #[serde(default)]
    pub zero_point: ZeroPoint,
}

impl AffineConfig {
    /// The narrowest code.
    pub const MIN_BITS: u8 = 2;
    /// The widest code.
    pub const MAX_BITS: u8 = 8;

    /// Groups of `group` weights and zero points in range: what [`crate::Format::Affine`] is.
    #[must_use]
    pub const fn per_group(bits: u8, group: usize) -> Self {
        Self { bits, granularity: Granularity::Group(group), zero_point: ZeroPoint::InRange }
    }

    /// The same with another kind of zero point.
    #[must_use]
    pub const fn with_zero_point(self, zero_point: ZeroPoint) -> Self {
        Self { zero_point, ..self }
    }

    /// Checks the numbers.
    ///
    /// # Errors
    /// When the width is not 2 to 8 bits, or a group is empty.
    pub const fn validate(self) -> Result<()> {
        if self.bits < Self::MIN_BITS || self.bits > Self::MAX_BITS {
            return Err(Error::Bits { bits: self.bits });
        }
        match self.granularity {
            Granularity::Group(0) => Err(Error::EmptyGroup),
            _ => Ok(()),
        }
    }

    /// Bytes of a matrix `[out, in]`: codes, scales and zero points, each part of a row up to a whole byte.
    ///
    /// # Errors
    /// When the configuration is out of range, the shape is empty or overflows, or a group is larger than a row.
    pub fn bytes(self, shape: [usize; 2]) -> Result<u64> {
        let Layout { rows, .. } = self.layout(shape)?;
        // The layout has checked that the number of weights does not overflow; eight times as many may.
        let row = self.row_bytes(shape)?;
        let bytes = row.and_then(|row| row.checked_mul(rows)).and_then(|bytes| u64::try_from(bytes).ok());
        bytes.ok_or(Error::SizeOverflow { shape })
    }

    /// Bits per weight of a matrix `[out, in]`, with everything that is stored.
    ///
    /// # Errors
    /// As [`AffineConfig::bytes`].
    pub fn bits_per_weight(self, shape: [usize; 2]) -> Result<f64> {
        Ok(8.0 * self.bytes(shape)? as f64 / (shape[0] as f64 * shape[1] as f64))
    }

    /// Scales of a matrix, `[rows, groups of a row]`: `[out, groups]`, or `[1, 1]` for the whole matrix.
    ///
    /// # Errors
    /// As [`AffineConfig::bytes`].
    pub fn scales(self, shape: [usize; 2]) -> Result<[usize; 2]> {
        let layout = self.layout(shape)?;
        Ok([layout.rows, layout.groups()])
    }

    /// How the weights of a matrix are cut into groups.
    pub(crate) fn layout(self, shape: [usize; 2]) -> Result<Layout> {
        self.validate()?;
        let [out, inp] = shape;
        let len = out.checked_mul(inp).ok_or(Error::SizeOverflow { shape })?;
        if len == 0 {
            return Err(Error::EmptyShape { shape });
        }
        Ok(match self.granularity {
            Granularity::Tensor => Layout { rows: 1, len, group: len },
            Granularity::Channel => Layout { rows: out, len: inp, group: inp },
            Granularity::Group(group) if group > inp => return Err(Error::GroupTooLarge { group, row: inp }),
            Granularity::Group(group) => Layout { rows: out, len: inp, group },
        })
    }

    /// Bytes of a stored row: codes, scales, zero points. `None` when the number overflows.
    fn row_bytes(self, shape: [usize; 2]) -> Result<Option<usize>> {
        let layout = self.layout(shape)?;
        let (codes, groups) = (packed(layout.len, self.bits), layout.groups());
        let zeros = packed(groups, self.zero_bits());
        let bytes = || codes?.checked_add(groups.checked_mul(2)?)?.checked_add(zeros?);
        Ok(bytes())
    }

    /// Bits of a stored zero point.
    const fn zero_bits(self) -> u8 {
        match self.zero_point {
            ZeroPoint::InRange | ZeroPoint::Clamped => self.bits,
            ZeroPoint::Printed => 16,
            ZeroPoint::Symmetric => 0,
        }
    }

    /// The largest code, `2^bits - 1`.
    pub(crate) const fn max_code(self) -> u8 {
        u8::MAX >> (Self::MAX_BITS - self.bits)
    }
}

/// Whole bytes of `n` values.
fn packed(n: usize, bits: u8) -> Option<usize> {
    n.checked_mul(usize::from(bits)).map(|bits| bits.div_ceil(8))
}

/// Rows of groups: a matrix whose scale is shared by all of it is one long row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) rows: usize,
    /// Weights of a row.
    pub(crate) len: usize,
    /// Weights of a group, no more than `len`; the last one of a row may have less.
    pub(crate) group: usize,
}

impl Layout {
    /// Groups of a row.
    pub(crate) const fn groups(self) -> usize {
        self.len.div_ceil(self.group)
    }
}

#[cfg(test)]
mod tests;
