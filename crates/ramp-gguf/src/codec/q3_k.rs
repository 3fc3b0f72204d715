//! Q3_K: 3-bit codes with a 6-bit signed scale per 16 weights.
//!
//! Bytes: high bits 0..32, low two bits 32..96, scales 96..108, `d` 108..110. Weight:
//! `d * (scale - 32) * (code - 4)`.

use half::f16;

use super::lanes::{Rows, each, make_q3_quants, make_qx_quants, nearest_int, to_codes, to_lanes};
use super::{BlockCodec, F16_MAX, QK_K};

/// Sub-blocks per super-block.
const L: usize = 16;
/// Weights per sub-block.
const N: usize = 16;

pub(super) struct Q3K;

impl BlockCodec<QK_K, 110> for Q3K {
    const MAX: f32 = F16_MAX * 32.0 * 4.0;

    fn encode(weights: &[f32; QK_K], importance: Option<&[f32; QK_K]>, block: &mut [u8; 110]) -> bool {
        let x: Rows<L, N> = to_lanes(weights);
        let mut rows = [[0.0; L]; N];
        let (d, scales) = match importance {
            None => nearest_scales(&make_q3_quants(4, &x, &mut rows)),
            Some(importance) => weighted_fit(weights, &x, importance, &mut rows),
        };
        let mut codes = [0_u8; QK_K];
        to_codes(&rows, &mut codes);

        let packed = pack_scales(&scales);
        for (j, (codes, weights)) in codes.chunks_exact_mut(N).zip(weights.chunks_exact(N)).enumerate() {
            let d = d.to_f32() * unpack_scale(j, &packed);
            if d != 0.0 {
                for (code, &weight) in codes.iter_mut().zip(weights) {
                    *code = (nearest_int(weight / d).clamp(-4, 3) + 4) as u8;
                }
            }
        }

        block.fill(0);
        for (e, code) in codes.iter().enumerate() {
            block[e % 32] |= (code >> 2) << (e / 32);
            block[32 + e / 128 * 32 + e % 32] |= (code & 3) << (e % 128 / 32 * 2);
        }
        block[96..108].copy_from_slice(&packed);
        block[108..110].copy_from_slice(&d.to_le_bytes());
        d.is_finite()
    }

    fn decode(block: &[u8; 110], weights: &mut [f32; QK_K]) {
        let d = f16::from_le_bytes([block[108], block[109]]).to_f32();
        let mut scales = [0; 12];
        scales.copy_from_slice(&block[96..108]);
        let high = &block[..32];
        for (j, weights) in weights.chunks_exact_mut(N).enumerate() {
            let d = d * unpack_scale(j, &scales);
            // First weight of the sub-block: which bits of which bytes hold its codes.
            let e = j * N;
            let low = &block[32 + e / 128 * 32 + e % 32..][..N];
            let shift = e % 128 / 32 * 2;
            for ((weight, low), high) in weights.iter_mut().zip(low).zip(&high[e % 32..]) {
                let code = (low >> shift & 3) | (high >> (e / 32) & 1) << 2;
                *weight = d * (f32::from(code) - 4.0);
            }
        }
    }
}

/// 6-bit codes of the scales relative to the one of the largest magnitude, and the factor that multiplies them.
fn nearest_scales(scales: &[f32; L]) -> (f16, [u8; L]) {
    let (mut amax, mut max) = (0.0, 0.0);
    for &scale in scales {
        if scale.abs() > amax {
            (amax, max) = (scale.abs(), scale);
        }
    }
    if max == 0.0 {
        // Codes of zero bits, which read as a scale of -32 times nothing.
        return (f16::ZERO, [0; L]);
    }
    let iscale = -32.0 / max;
    let codes = scales.map(|scale| (i32::from(nearest_int(iscale * scale) as i8).clamp(-32, 31) + 32) as u8);
    (f16::from_f32(1.0 / iscale), codes)
}

/// Codes and scales that minimise the error weighted by `importance * sqrt(sigma^2 + x^2)`.
fn weighted_fit(
    weights: &[f32; QK_K],
    x: &Rows<L, N>,
    importance: &[f32; QK_K],
    rows: &mut Rows<L, N>,
) -> (f16, [u8; L]) {
    let sigma2 = 2.0 * weights.iter().fold(0.0, |sum, x| sum + x * x) / QK_K as f32;
    let mut w: Rows<L, N> = to_lanes(importance);
    let mut sub_block_weight = [0.0; L];
    for (w, x) in w.iter_mut().zip(x) {
        *w = each(|lane| w[lane] * (sigma2 + x[lane] * x[lane]).sqrt());
        sub_block_weight = each(|lane| sub_block_weight[lane] + w[lane]);
    }
    let scales = make_qx_quants(4.0, x, &w, rows);
    // The scales are one more block, of a single lane.
    let mut codes = [[0.0]; L];
    let [d] = make_qx_quants(32.0, &scales.map(|scale| [scale]), &sub_block_weight.map(|w| [w]), &mut codes);
    (f16::from_f32(d), codes.map(|[code]| code as u8))
}

/// Packs 16 scales of 6 bits: low nibbles of two scales per byte 0..8, high bits of four per byte 8..12.
fn pack_scales(scales: &[u8; L]) -> [u8; 12] {
    let mut packed = [0; 12];
    for (j, scale) in scales.iter().enumerate() {
        packed[j % 8] |= (scale & 0xf) << (j / 8 * 4);
        packed[8 + j % 4] |= (scale >> 4) << (j / 4 * 2);
    }
    packed
}

/// The signed scale of sub-block `j`.
pub(super) fn unpack_scale(j: usize, packed: &[u8; 12]) -> f32 {
    let low = packed[j % 8] >> (j / 8 * 4) & 0xf;
    let high = packed[8 + j % 4] >> (j / 4 * 2) & 3;
    f32::from(low | high << 4) - 32.0
}
