//! Q6_K: 6-bit codes with an 8-bit signed scale per 16 weights, in super-blocks of 256.
//!
//! | bytes | what |
//! |---|---|
//! | 0..128 | low 4 bits: 64 bytes for each 128 weights; byte `l` has weight `l` in its low, weight `l + 64` in its high nibble |
//! | 128..192 | top 2 bits: 32 bytes for each 128 weights; byte `l` has weights `l`, `l + 32`, `l + 64`, `l + 96`, from its lowest bits on |
//! | 192..208 | 16 scales, signed bytes |
//! | 208..210 | `d`, binary16 |
//!
//! Weight: `d * scale * (code - 32)`.

use super::search::{GROUP_MAX_EPS, Rows, make_qx_quants, rows, squares, symmetric_code};
use super::vector::{Vector, nearest_int};
use super::{BlockCodec, F16_MAX, GROUP, Importance, QK_K, binary16, scale_centered_codes};

/// Sub-blocks per super-block, and weights per sub-block.
const N: usize = 16;

pub(super) struct Q6K;

impl BlockCodec<QK_K, 210> for Q6K {
    const MAX: f32 = F16_MAX * 128.0 * 32.0;

    #[inline(always)]
    fn encode<V: Vector>(
        weights: &[[f32; QK_K]],
        importance: Importance<'_, QK_K>,
        blocks: &mut [[u8; 210]],
    ) -> bool {
        let mut finite = true;
        for (group, (weights, blocks)) in weights.chunks(GROUP).zip(blocks.chunks_mut(GROUP)).enumerate() {
            let (mut scales, mut iscales) = ([[0.0; N]; GROUP], [[0.0; N]; GROUP]);
            let all = weights.as_flattened();
            // Unlike in the types of fewer bits, importance is not combined with the magnitude of the weight.
            let mut w = [0.0; GROUP * QK_K];
            if let Some(importance) = importance {
                for (i, w) in w.as_chunks_mut::<QK_K>().0.iter_mut().take(weights.len()).enumerate() {
                    *w = importance[(group * GROUP + i) % importance.len()];
                }
            }
            for at in (0..weights.len() * N).step_by(V::LANES) {
                let x: Rows<V, N> = rows(&all[at * N..]);
                let w: Rows<V, N> =
                    if importance.is_some() { rows(&w[at * N..all.len()]) } else { squares(&x) };
                let fit = make_qx_quants(32.0, &x, &w);
                fit.scale.store(&mut scales.as_flattened_mut()[at..]);
                fit.iscale.store(&mut iscales.as_flattened_mut()[at..]);
            }
            for (i, (weights, block)) in weights.iter().zip(blocks).enumerate() {
                finite &= write(weights, &scales[i], &iscales[i], block);
            }
        }
        finite
    }

    #[inline(always)]
    fn decode<V: Vector>(block: &[u8; 210], weights: &mut [f32; QK_K]) {
        let d = binary16::read(&block[208..]);
        let mut codes = [0; QK_K];
        let (low, high) = block[..192].split_at(128);
        let halves = low.as_chunks::<64>().0.iter().zip(high.as_chunks::<32>().0);
        for ((low, high), codes) in halves.zip(codes.as_chunks_mut::<128>().0) {
            for l in 0..32 {
                let (a, b, high) = (low[l], low[l + 32], high[l]);
                codes[l] = (a & 0xf) | (high & 3) << 4;
                codes[l + 32] = (b & 0xf) | (high >> 2 & 3) << 4;
                codes[l + 64] = (a >> 4) | (high >> 4 & 3) << 4;
                codes[l + 96] = (b >> 4) | (high >> 6) << 4;
            }
        }
        let sub_blocks = codes.as_chunks::<N>().0.iter().zip(weights.as_chunks_mut::<N>().0);
        for ((codes, weights), &scale) in sub_blocks.zip(&block[192..208]) {
            scale_centered_codes::<V>(d * f32::from(scale as i8), 32.0, codes, weights);
        }
    }
}

/// Rounds the scales, then the weights with the scales as they are stored, and stores the block. Says whether it
/// decodes to finite weights.
#[inline(always)]
fn write(weights: &[f32; QK_K], scales: &[f32; N], iscales: &[f32; N], block: &mut [u8; 210]) -> bool {
    let (mut amax, mut max) = (0.0, 0.0);
    for &scale in scales {
        if scale.abs() > amax {
            (amax, max) = (scale.abs(), scale);
        }
    }
    if amax < GROUP_MAX_EPS {
        block.fill(0);
        return true;
    }
    let inverse = -128.0 / max;
    let d = binary16::from_f32(1.0 / inverse);
    let scales = scales.map(|scale| nearest_int(inverse * scale).min(127) as i8);

    let mut codes = [0_u8; QK_K];
    let sub_blocks = codes.as_chunks_mut::<N>().0.iter_mut().zip(weights.as_chunks::<N>().0);
    for (j, (codes, weights)) in sub_blocks.enumerate() {
        let d = binary16::to_f32(d) * f32::from(scales[j]);
        for (code, &weight) in codes.iter_mut().zip(weights) {
            *code = if d == 0.0 {
                symmetric_code(weight, iscales[j], 32)
            } else {
                (nearest_int(weight / d).clamp(-32, 31) + 32) as u8
            };
        }
    }

    pack_codes(&codes, block);
    for (byte, scale) in block[192..208].iter_mut().zip(scales) {
        *byte = scale as u8;
    }
    block[208..].copy_from_slice(&d.to_le_bytes());
    binary16::is_finite(d)
}

/// Stores the codes of a super-block; its other bytes stay.
#[inline(always)]
pub(super) fn pack_codes(codes: &[u8; QK_K], block: &mut [u8; 210]) {
    let (low, rest) = block.split_at_mut(128);
    let halves = low.as_chunks_mut::<64>().0.iter_mut().zip(rest.as_chunks_mut::<32>().0);
    for ((low, high), codes) in halves.zip(codes.as_chunks::<128>().0) {
        for l in 0..32 {
            let [a, b, c, d] = [codes[l], codes[l + 32], codes[l + 64], codes[l + 96]];
            low[l] = (a & 0xf) | (c & 0xf) << 4;
            low[l + 32] = (b & 0xf) | (d & 0xf) << 4;
            high[l] = a >> 4 | (b >> 4) << 2 | (c >> 4) << 4 | (d >> 4) << 6;
        }
    }
}
