//! IQ4_XS: 4-bit codes of uneven steps with a 6-bit signed scale per 32 weights, in super-blocks of 256.
//!
//! [`BlockIQ4XS`] has the layout.

use super::affine_block::importance_weights;
use super::legacy::pack_nibbles;
use super::search::{Rows, best_index, make_iq4_scales, rows, squares};
use super::vector::{Vector, nearest_int};
use super::{BlockCodec, F16_MAX, GROUP, Importance, QK_K, scale_kvalues};
use crate::block::{BlockIQ4XS, Half};

/// Sub-blocks per super-block.
const S: usize = 8;
/// Weights per sub-block.
const N: usize = 32;

pub(super) struct Iq4Xs;

impl BlockCodec<QK_K> for Iq4Xs {
    type Block = BlockIQ4XS;

    const MAX: f32 = F16_MAX * 32.0 * 127.0;

    #[inline(always)]
    fn encode<V: Vector>(
        weights: &[[f32; QK_K]],
        importance: Importance<'_, QK_K>,
        blocks: &mut [BlockIQ4XS],
    ) -> bool {
        let mut finite = true;
        for (group, (weights, blocks)) in weights.chunks(GROUP).zip(blocks.chunks_mut(GROUP)).enumerate() {
            let all = weights.as_flattened();
            let mut w = [0.0; GROUP * QK_K];
            if let Some(importance) = importance {
                // `sum * (2 / 256)` upstream; both are exact.
                importance_weights(2.0, weights, group * GROUP, importance, &mut w);
            }
            let mut scales = [[0.0; S]; GROUP];
            for at in (0..weights.len() * S).step_by(V::LANES) {
                let x: Rows<V, N> = rows(&all[at * N..]);
                let w: Rows<V, N> =
                    if importance.is_some() { rows(&w[at * N..all.len()]) } else { squares(&x) };
                make_iq4_scales(&x, &w).store(&mut scales.as_flattened_mut()[at..]);
            }
            for ((weights, scales), block) in weights.iter().zip(&scales).zip(blocks) {
                finite &= write(weights, scales, block);
            }
        }
        finite
    }

    #[inline(always)]
    fn decode<V: Vector>(block: &BlockIQ4XS, weights: &mut [f32; QK_K]) {
        let sub_blocks = block.qs.as_chunks::<16>().0.iter().zip(weights.as_chunks_mut::<N>().0);
        for ((codes, weights), d) in sub_blocks.zip(sub_block_scales(block)) {
            scale_kvalues::<V>(d, codes, weights);
        }
    }
}

/// `d * (scale - 32)` of all sub-blocks.
#[inline(always)]
pub(super) fn sub_block_scales(block: &BlockIQ4XS) -> [f32; S] {
    let (d, high) = (block.d.to_f32(), u16::from_le_bytes(block.scales_h));
    std::array::from_fn(|j| {
        let low = u16::from(block.scales_l[j / 2] >> (4 * (j % 2)) & 0xf);
        d * (f32::from(low | (high >> (2 * j) & 3) << 4) - 32.0)
    })
}

/// Rounds the scales, then the weights with the rounded scales, and stores the block. Says whether it decodes to
/// finite weights.
#[inline(always)]
fn write(weights: &[f32; QK_K], scales: &[f32; S], block: &mut BlockIQ4XS) -> bool {
    let (mut amax, mut max) = (0.0, 0.0);
    for &scale in scales {
        if scale.abs() > amax {
            (amax, max) = (scale.abs(), scale);
        }
    }
    // The weights are rounded with `d` before it is rounded to 16 bits.
    let d: f32 = -max / 32.0;
    let inverse = if d != 0.0 { 1.0 / d } else { 0.0 };
    let (mut low, mut high) = ([0_u8; S / 2], 0_u16);
    let sub_blocks = block.qs.as_chunks_mut::<16>().0.iter_mut().zip(weights.as_chunks::<N>().0);
    for (j, (bytes, weights)) in sub_blocks.enumerate() {
        let scale = nearest_int(inverse * scales[j]).clamp(-32, 31);
        let d = d * scale as f32;
        let inverse = if d != 0.0 { 1.0 / d } else { 0.0 };
        let mut codes = [0; N];
        for (code, &weight) in codes.iter_mut().zip(weights) {
            *code = best_index(inverse * weight);
        }
        *bytes = pack_nibbles(&codes);
        let scale = (scale + 32) as u16;
        low[j / 2] |= (scale as u8 & 0xf) << (4 * (j % 2));
        high |= (scale >> 4) << (2 * j);
    }
    (block.d, block.scales_h, block.scales_l) = (Half::from_f32(d), high.to_le_bytes(), low);
    block.d.is_finite()
}
