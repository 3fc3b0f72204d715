//! IQ4_NL: 4-bit codes of uneven steps with a scale per 32 weights.
//!
//! [`BlockIQ4NL`] has the layout.

use super::legacy::pack_nibbles;
use super::search::{Rows, best_index, make_iq4_scales, rows_of_blocks, squares, sum};
use super::vector::{MAX_LANES, Vector};
use super::{BlockCodec, F16_MAX, Importance, scale_kvalues};
use crate::block::{BlockIQ4NL, Half};

/// Weights per block.
const N: usize = 32;

pub(super) struct Iq4Nl;

impl BlockCodec<N> for Iq4Nl {
    type Block = BlockIQ4NL;

    const MAX: f32 = F16_MAX * 127.0;

    #[inline(always)]
    fn encode<V: Vector>(
        weights: &[[f32; N]],
        importance: Importance<'_, N>,
        blocks: &mut [BlockIQ4NL],
    ) -> bool {
        let mut finite = true;
        for (group, (weights, blocks)) in
            weights.chunks(V::LANES).zip(blocks.chunks_mut(V::LANES)).enumerate()
        {
            let x: Rows<V, N> = rows_of_blocks(weights);
            let mut w = squares(&x);
            if let Some(importance) = importance {
                let mut lanes = [[0.0; N]; MAX_LANES];
                for (lane, w) in lanes[..weights.len()].iter_mut().enumerate() {
                    *w = importance[(group * V::LANES + lane) % importance.len()];
                }
                let importance: Rows<V, N> = rows_of_blocks(&lanes);
                let sigma2 = sum(&w) * V::splat(2.0 / N as f32);
                for i in 0..N {
                    w[i] = importance[i] * (sigma2 + w[i]).sqrt();
                }
            }
            let mut scales = [0.0; MAX_LANES];
            make_iq4_scales(&x, &w).store(&mut scales);
            for ((weights, block), scale) in weights.iter().zip(blocks).zip(scales) {
                let inverse = if scale != 0.0 { 1.0 / scale } else { 0.0 };
                let mut codes = [0; N];
                for (code, &weight) in codes.iter_mut().zip(weights) {
                    *code = best_index(inverse * weight);
                }
                *block = BlockIQ4NL { d: Half::from_f32(scale), qs: pack_nibbles(&codes) };
                finite &= block.d.is_finite();
            }
        }
        finite
    }

    #[inline(always)]
    fn decode<V: Vector>(block: &BlockIQ4NL, weights: &mut [f32; N]) {
        scale_kvalues::<V>(block.d.to_f32(), &block.qs, weights);
    }
}
