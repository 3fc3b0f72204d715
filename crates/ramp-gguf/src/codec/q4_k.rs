//! Q4_K: 4-bit codes with a 6-bit scale and minimum per 32 weights.
//!
//! Bytes: `d` 0..2, `dmin` 2..4, scales and minima 4..16, codes 16..144. Weight: `d * scale * code - dmin * min`.

use half::f16;

use super::affine::{Affine, unpack_scale};
use super::lanes::AffineSearch;
use super::{BlockCodec, F16_MAX, QK_K};

const AFFINE: Affine =
    Affine { nmax: 15, search: AffineSearch { rmin: -1.0, rdelta: 0.1, nstep: 20 }, clamp_weighted: false };

pub(super) struct Q4K;

impl BlockCodec<QK_K, 144> for Q4K {
    const MAX: f32 = F16_MAX * 63.0 * 15.0;

    fn encode(weights: &[f32; QK_K], importance: Option<&[f32; QK_K]>, block: &mut [u8; 144]) -> bool {
        let fit = AFFINE.fit(weights, importance);
        block[0..2].copy_from_slice(&fit.d.to_le_bytes());
        block[2..4].copy_from_slice(&fit.dmin.to_le_bytes());
        block[4..16].copy_from_slice(&fit.scales);
        for (bytes, codes) in block[16..].chunks_exact_mut(32).zip(fit.codes.chunks_exact(64)) {
            for (l, byte) in bytes.iter_mut().enumerate() {
                *byte = codes[l] | codes[l + 32] << 4;
            }
        }
        fit.is_finite()
    }

    fn decode(block: &[u8; 144], weights: &mut [f32; QK_K]) {
        let d = f16::from_le_bytes([block[0], block[1]]).to_f32();
        let dmin = f16::from_le_bytes([block[2], block[3]]).to_f32();
        let mut scales = [0; 12];
        scales.copy_from_slice(&block[4..16]);
        for (g, (bytes, weights)) in
            block[16..].chunks_exact(32).zip(weights.chunks_exact_mut(64)).enumerate()
        {
            for (half, weights) in weights.chunks_exact_mut(32).enumerate() {
                let (scale, min) = unpack_scale(2 * g + half, &scales);
                let (d, m) = (d * f32::from(scale), dmin * f32::from(min));
                for (weight, byte) in weights.iter_mut().zip(bytes) {
                    *weight = d * f32::from(byte >> (4 * half) & 0xf) - m;
                }
            }
        }
    }
}
