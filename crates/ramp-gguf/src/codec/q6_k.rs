//! Q6_K: 6-bit codes with an 8-bit signed scale per 16 weights, in super-blocks of 256.
//!
//! [`BlockQ6K`] has the layout.

use bytemuck::Zeroable;

use super::search::{GROUP_MAX_EPS, Rows, make_qx_quants, rows, squares, symmetric_code};
use super::vector::{Vector, nearest_int};
use super::{BlockCodec, F16_MAX, GROUP, Importance, QK_K, scale_centered_codes};
use crate::block::{BlockQ6K, Half};

/// Sub-blocks per super-block, and weights per sub-block.
const N: usize = 16;

pub(super) struct Q6K;

impl BlockCodec<QK_K> for Q6K {
    type Block = BlockQ6K;

    const MAX: f32 = F16_MAX * 128.0 * 32.0;

    #[inline(always)]
    fn encode<V: Vector>(
        weights: &[[f32; QK_K]],
        importance: Importance<'_, QK_K>,
        blocks: &mut [BlockQ6K],
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
    fn decode<V: Vector>(block: &BlockQ6K, weights: &mut [f32; QK_K]) {
        let d = block.d.to_f32();
        let mut codes = [0; QK_K];
        let halves = block.ql.as_chunks::<64>().0.iter().zip(block.qh.as_chunks::<32>().0);
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
        for ((codes, weights), &scale) in sub_blocks.zip(&block.scales) {
            scale_centered_codes::<V>(d * f32::from(scale), 32.0, codes, weights);
        }
    }
}

/// Rounds the scales, then the weights with the scales as they are stored, and stores the block. Says whether it
/// decodes to finite weights.
#[inline(always)]
fn write(weights: &[f32; QK_K], scales: &[f32; N], iscales: &[f32; N], block: &mut BlockQ6K) -> bool {
    let (mut amax, mut max) = (0.0, 0.0);
    for &scale in scales {
        if scale.abs() > amax {
            (amax, max) = (scale.abs(), scale);
        }
    }
    if amax < GROUP_MAX_EPS {
        *block = Zeroable::zeroed();
        return true;
    }
    let inverse = -128.0 / max;
    let d = Half::from_f32(1.0 / inverse);
    let scales = scales.map(|scale| nearest_int(inverse * scale).min(127) as i8);

    let mut codes = [0_u8; QK_K];
    let sub_blocks = codes.as_chunks_mut::<N>().0.iter_mut().zip(weights.as_chunks::<N>().0);
    for (j, (codes, weights)) in sub_blocks.enumerate() {
        let d = d.to_f32() * f32::from(scales[j]);
        for (code, &weight) in codes.iter_mut().zip(weights) {
            *code = if d == 0.0 {
                symmetric_code(weight, iscales[j], 32)
            } else {
                (nearest_int(weight / d).clamp(-32, 31) + 32) as u8
            };
        }
    }

    pack_codes(&codes, block);
    (block.scales, block.d) = (scales, d);
    d.is_finite()
}

/// Stores the codes of a super-block; its other bytes stay.
#[inline(always)]
pub(super) fn pack_codes(codes: &[u8; QK_K], block: &mut BlockQ6K) {
    let halves = block.ql.as_chunks_mut::<64>().0.iter_mut().zip(block.qh.as_chunks_mut::<32>().0);
    for ((low, high), codes) in halves.zip(codes.as_chunks::<128>().0) {
        for l in 0..32 {
            let [a, b, c, d] = [codes[l], codes[l + 32], codes[l + 64], codes[l + 96]];
            low[l] = (a & 0xf) | (c & 0xf) << 4;
            low[l + 32] = (b & 0xf) | (d & 0xf) << 4;
            high[l] = a >> 4 | (b >> 4) << 2 | (c >> 4) << 4 | (d >> 4) << 6;
        }
    }
}
