//! F32, F16 and BF16: one value after the other, little-endian.

use half::{bf16, f16};

/// Encodes a row; the error is the first column whose value the type cannot hold.
type Encoded = std::result::Result<(), usize>;

pub(super) fn encode_f32(weights: &[f32], _imatrix: Option<&[f32]>, bytes: &mut [u8]) -> Encoded {
    for (bytes, weight) in bytes.as_chunks_mut().0.iter_mut().zip(weights) {
        *bytes = weight.to_le_bytes();
    }
    Ok(())
}

pub(super) fn encode_f16(weights: &[f32], _imatrix: Option<&[f32]>, bytes: &mut [u8]) -> Encoded {
    for (column, (bytes, &weight)) in bytes.as_chunks_mut().0.iter_mut().zip(weights).enumerate() {
        let value = f16::from_f32(weight);
        if !value.is_finite() {
            return Err(column);
        }
        *bytes = value.to_le_bytes();
    }
    Ok(())
}

pub(super) fn encode_bf16(weights: &[f32], _imatrix: Option<&[f32]>, bytes: &mut [u8]) -> Encoded {
    for (column, (bytes, &weight)) in bytes.as_chunks_mut().0.iter_mut().zip(weights).enumerate() {
        let value = bf16::from_f32(weight);
        if !value.is_finite() {
            return Err(column);
        }
        *bytes = value.to_le_bytes();
    }
    Ok(())
}

pub(super) fn decode_f32(bytes: &[u8], weights: &mut [f32]) {
    for (bytes, weight) in bytes.as_chunks().0.iter().zip(weights) {
        *weight = f32::from_le_bytes(*bytes);
    }
}

pub(super) fn decode_f16(bytes: &[u8], weights: &mut [f32]) {
    for (bytes, weight) in bytes.as_chunks().0.iter().zip(weights) {
        *weight = f16::from_le_bytes(*bytes).to_f32();
    }
}

pub(super) fn decode_bf16(bytes: &[u8], weights: &mut [f32]) {
    for (bytes, weight) in bytes.as_chunks().0.iter().zip(weights) {
        *weight = bf16::from_le_bytes(*bytes).to_f32();
    }
}
