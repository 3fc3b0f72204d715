//! F32, F16 and BF16: one value after the other, little-endian.

use super::kernel::RowCodec;
use super::vector::Vector;
use super::{binary16, largest_magnitude};

pub(super) struct F32;
pub(super) struct F16;
pub(super) struct Bf16;

impl RowCodec for F32 {
    #[inline(always)]
    fn encode<V: Vector>(weights: &[f32], _imatrix: Option<&[f32]>, bytes: &mut [u8]) -> bool {
        // Two loops, so that the first one is a copy.
        for (weight, bytes) in weights.iter().zip(bytes.as_chunks_mut().0) {
            *bytes = weight.to_le_bytes();
        }
        largest_magnitude(weights) < f32::INFINITY.to_bits()
    }

    #[inline(always)]
    fn decode<V: Vector>(bytes: &[u8], weights: &mut [f32]) {
        let out: &mut [u8] = bytemuck::cast_slice_mut(weights);
        out.copy_from_slice(&bytes[..out.len()]);
        if cfg!(target_endian = "big") {
            for weight in weights {
                *weight = f32::from_bits(weight.to_bits().swap_bytes());
            }
        }
    }
}

impl RowCodec for F16 {
    #[inline(always)]
    fn encode<V: Vector>(weights: &[f32], _imatrix: Option<&[f32]>, bytes: &mut [u8]) -> bool {
        weights.iter().zip(bytes.as_chunks_mut().0).fold(true, |finite, (&weight, bytes)| {
            let bits = binary16::from_f32(weight);
            *bytes = bits.to_le_bytes();
            finite & binary16::is_finite(bits)
        })
    }

    #[inline(always)]
    fn decode<V: Vector>(bytes: &[u8], weights: &mut [f32]) {
        for (bytes, weight) in bytes.as_chunks().0.iter().zip(weights) {
            *weight = binary16::to_f32(u16::from_le_bytes(*bytes));
        }
    }
}

impl RowCodec for Bf16 {
    #[inline(always)]
    fn encode<V: Vector>(weights: &[f32], _imatrix: Option<&[f32]>, bytes: &mut [u8]) -> bool {
        weights.iter().zip(bytes.as_chunks_mut().0).fold(true, |finite, (weight, bytes)| {
            let bits = weight.to_bits();
            // Half of the step that is lost, and one more where the last bit that stays is odd. Of no use for NaN,
            // which is refused.
            let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
            *bytes = (rounded as u16).to_le_bytes();
            finite & weight.is_finite() & (rounded & 0x7f80 != 0x7f80)
        })
    }

    #[inline(always)]
    fn decode<V: Vector>(bytes: &[u8], weights: &mut [f32]) {
        for (bytes, weight) in bytes.as_chunks().0.iter().zip(weights) {
            *weight = f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
        }
    }
}
