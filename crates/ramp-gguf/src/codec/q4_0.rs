//! Q4_0: 4-bit codes with a scale per 32 weights.
//!
//! [`BlockQ4_0`] has the layout.

use super::legacy::{N, ScaleFormat, encode_scale, pack_nibbles};
use super::vector::Vector;
use super::{BlockCodec, F16_MAX, Importance, scale_centered_nibbles};
use crate::block::{BlockQ4_0, Half};

pub(super) struct Q4_0;

impl ScaleFormat for Q4_0 {
    type Block = BlockQ4_0;

    const ZERO: u8 = 8;

    #[inline(always)]
    fn block(d: Half, codes: &[u8; N]) -> BlockQ4_0 {
        BlockQ4_0 { d, qs: pack_nibbles(codes) }
    }
}

impl BlockCodec<N> for Q4_0 {
    type Block = BlockQ4_0;

    const MAX: f32 = F16_MAX * 8.0;

    #[inline(always)]
    fn encode<V: Vector>(
        weights: &[[f32; N]],
        importance: Importance<'_, N>,
        blocks: &mut [BlockQ4_0],
    ) -> bool {
        encode_scale::<Self, V>(weights, importance, blocks)
    }

    #[inline(always)]
    fn decode<V: Vector>(block: &BlockQ4_0, weights: &mut [f32; N]) {
        scale_centered_nibbles::<V>(block.d.to_f32(), 8.0, &block.qs, weights);
    }
}
