//! Q5_K: 5-bit codes with a 6-bit scale and minimum per 32 weights.
//!
//! Bytes: `d` 0..2, `dmin` 2..4, scales and minima 4..16, fifth bits 16..48, low four bits 48..176. Weight:
//! `d * scale * code - dmin * min`.

use half::f16;

use super::affine::{Affine, unpack_scale};
use super::lanes::AffineSearch;
use super::{BlockCodec, F16_MAX, QK_K};

const AFFINE: Affine =
    Affine { nmax: 31, search: AffineSearch { rmin: -0.5, rdelta: 0.1, nstep: 15 }, clamp_weighted: true };

pub(super) struct Q5K;

impl BlockCodec<QK_K, 176> for Q5K {
    const MAX: f32 = F16_MAX * 63.0 * 31.0;

    fn encode(weights: &[f32; QK_K], importance: Option<&[f32; QK_K]>, block: &mut [u8; 176]) -> bool {
        let fit = AFFINE.fit(weights, importance);
        block[0..2].copy_from_slice(&fit.d.to_le_bytes());
        block[2..4].copy_from_slice(&fit.dmin.to_le_bytes());
        block[4..16].copy_from_slice(&fit.scales);
        let (high, low) = block[16..].split_at_mut(32);
        high.fill(0);
        for (g, (low, codes)) in low.chunks_exact_mut(32).zip(fit.codes.chunks_exact(64)).enumerate() {
            for l in 0..32 {
                let (a, b) = (codes[l], codes[l + 32]);
                low[l] = (a & 0xf) | (b & 0xf) << 4;
                high[l] |= (a >> 4) << (2 * g) | (b >> 4) << (2 * g + 1);
            }
        }
        fit.is_finite()
    }

    fn decode(block: &[u8; 176], weights: &mut [f32; QK_K]) {
        let d = f16::from_le_bytes([block[0], block[1]]).to_f32();
        let dmin = f16::from_le_bytes([block[2], block[3]]).to_f32();
        let mut scales = [0; 12];
        scales.copy_from_slice(&block[4..16]);
        let (high, low) = block[16..].split_at(32);
        for (g, (low, weights)) in low.chunks_exact(32).zip(weights.chunks_exact_mut(64)).enumerate() {
            for (half, weights) in weights.chunks_exact_mut(32).enumerate() {
                let j = 2 * g + half;
                let (scale, min) = unpack_scale(j, &scales);
                let (d, m) = (d * f32::from(scale), dmin * f32::from(min));
                for ((weight, low), high) in weights.iter_mut().zip(low).zip(high) {
                    let code = (low >> (4 * half) & 0xf) | (high >> j & 1) << 4;
                    *weight = d * f32::from(code) - m;
                }
            }
        }
    }
}
