//! Q6_K: 6-bit codes with an 8-bit signed scale per 16 weights.
//!
//! Bytes: low four bits 0..128, top two bits 128..192, scales 192..208, `d` 208..210. Weight:
//! `d * scale * (code - 32)`.

use half::f16;

use super::lanes::{GROUP_MAX_EPS, Rows, each, make_qx_quants, nearest_int, to_codes, to_lanes};
use super::{BlockCodec, F16_MAX, QK_K};

/// Sub-blocks per super-block.
const L: usize = 16;
/// Weights per sub-block.
const N: usize = 16;

pub(super) struct Q6K;

impl BlockCodec<QK_K, 210> for Q6K {
    const MAX: f32 = F16_MAX * 128.0 * 32.0;

    fn encode(weights: &[f32; QK_K], importance: Option<&[f32; QK_K]>, block: &mut [u8; 210]) -> bool {
        block.fill(0);
        let x: Rows<L, N> = to_lanes(weights);
        // Unlike the types of fewer bits, importance is not combined with the magnitude of the weight.
        let w: Rows<L, N> = match importance {
            Some(importance) => to_lanes(importance),
            None => x.map(|row| each(|lane| row[lane] * row[lane])),
        };
        let mut rows = [[0.0; L]; N];
        let scales = make_qx_quants(32.0, &x, &w, &mut rows);
        let (mut amax, mut max) = (0.0, 0.0);
        for scale in scales {
            if scale.abs() > amax {
                (amax, max) = (scale.abs(), scale);
            }
        }
        if amax < GROUP_MAX_EPS {
            return true;
        }
        let iscale = -128.0 / max;
        let d = f16::from_f32(1.0 / iscale);
        let scales = scales.map(|scale| nearest_int(iscale * scale).min(127) as i8);

        let mut codes = [0_u8; QK_K];
        to_codes(&rows, &mut codes);
        for ((codes, weights), scale) in codes.chunks_exact_mut(N).zip(weights.chunks_exact(N)).zip(scales) {
            let d = d.to_f32() * f32::from(scale);
            if d != 0.0 {
                for (code, &weight) in codes.iter_mut().zip(weights) {
                    *code = (nearest_int(weight / d).clamp(-32, 31) + 32) as u8;
                }
            }
        }

        let (low, rest) = block.split_at_mut(128);
        let halves = low.chunks_exact_mut(64).zip(rest.chunks_exact_mut(32)).zip(codes.chunks_exact(128));
        for ((low, high), codes) in halves {
            for l in 0..32 {
                let [a, b, c, d] = [codes[l], codes[l + 32], codes[l + 64], codes[l + 96]];
                low[l] = (a & 0xf) | (c & 0xf) << 4;
                low[l + 32] = (b & 0xf) | (d & 0xf) << 4;
                high[l] = a >> 4 | (b >> 4) << 2 | (c >> 4) << 4 | (d >> 4) << 6;
            }
        }
        for (byte, scale) in block[192..208].iter_mut().zip(scales) {
            *byte = scale as u8;
        }
        block[208..210].copy_from_slice(&d.to_le_bytes());
        d.is_finite()
    }

    fn decode(block: &[u8; 210], weights: &mut [f32; QK_K]) {
        let d = f16::from_le_bytes([block[208], block[209]]).to_f32();
        for (j, weights) in weights.chunks_exact_mut(N).enumerate() {
            let d = d * f32::from(block[192 + j] as i8);
            // First weight of the sub-block: which half, which quarter of the half, which byte.
            let (half, quarter, l) = (j / 8, j % 8 / 2, j % 2 * N);
            let low = &block[64 * half + 32 * (quarter % 2) + l..][..N];
            let high = &block[128 + 32 * half + l..][..N];
            for ((weight, low), high) in weights.iter_mut().zip(low).zip(high) {
                let code = (low >> (quarter / 2 * 4) & 0xf) | (high >> (2 * quarter) & 3) << 4;
                *weight = d * (f32::from(code) - 32.0);
            }
        }
    }
}
