//! The encoders one block after the other and one weight after the other, as the format's description reads: what the
//! fast ones are compared with. Nothing here is shared with them but `nearest_int` and the conversion to binary16 of
//! the crate `half`.

mod k_types;
mod legacy;
mod search;

use half::f16;

use crate::GgmlType;

/// Encodes rows.
pub(super) fn encode(ty: GgmlType, weights: &[f32], n_per_row: usize, imatrix: Option<&[f32]>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for row in weights.chunks(n_per_row) {
        let mean_square = row.iter().fold(0.0, |sum, x| sum + x * x) / row.len() as f32;
        for (at, block) in row.chunks(ty.block_size()).enumerate() {
            let importance = imatrix.map(|imatrix| &imatrix[at * ty.block_size()..][..ty.block_size()]);
            bytes.extend(encode_block(ty, block, importance, mean_square));
        }
    }
    bytes
}

fn encode_block(ty: GgmlType, x: &[f32], importance: Option<&[f32]>, row_mean_square: f32) -> Vec<u8> {
    match ty {
        GgmlType::F32 => x[0].to_le_bytes().to_vec(),
        GgmlType::F16 => half_bytes(x[0]).to_vec(),
        GgmlType::BF16 => half::bf16::from_f32(x[0]).to_le_bytes().to_vec(),
        GgmlType::Q8_0 => legacy::q8_0(x),
        GgmlType::Q4_0 => legacy::with_scale(x, importance, row_mean_square, 8),
        GgmlType::Q5_0 => legacy::with_scale(x, importance, row_mean_square, 16),
        GgmlType::Q4_1 => legacy::with_minimum(x, importance, row_mean_square, 15),
        GgmlType::Q5_1 => legacy::with_minimum(x, importance, row_mean_square, 31),
        GgmlType::IQ4_NL => legacy::iq4_nl(x, importance),
        GgmlType::IQ4_XS => k_types::iq4_xs(x, importance),
        GgmlType::Q2_K => k_types::q2_k(x, importance),
        GgmlType::Q3_K => k_types::q3_k(x, importance),
        GgmlType::Q4_K => k_types::q4_or_q5_k(x, importance, 15),
        GgmlType::Q5_K => k_types::q4_or_q5_k(x, importance, 31),
        GgmlType::Q6_K => k_types::q6_k(x, importance),
        _ => unreachable!("a type without an encoder"),
    }
}

fn half_bytes(x: f32) -> [u8; 2] {
    f16::from_f32(x).to_le_bytes()
}

/// What is read of a number that was stored as binary16.
fn half_rounded(x: f32) -> f32 {
    f16::from_f32(x).to_f32()
}

/// `importance * sqrt(sigma^2 + x^2)`.
fn weigh(x: &[f32], importance: &[f32], sigma2: f32) -> Vec<f32> {
    x.iter().zip(importance).map(|(x, w)| w * (sigma2 + x * x).sqrt()).collect()
}

fn sum_of_squares(x: &[f32]) -> f32 {
    x.iter().fold(0.0, |sum, x| sum + x * x)
}

fn sum(x: &[f32]) -> f32 {
    x.iter().fold(0.0, |sum, x| sum + x)
}
