//! Q4_1: 4-bit codes with a scale and a minimum per 32 weights.
//!
//! [`BlockQ4_1`] has the layout.

use super::legacy::{N, RangeFormat, encode_range, pack_nibbles};
use super::vector::Vector;
use super::{BlockCodec, F16_MAX, Importance, scale_nibbles};
use crate::block::{BlockQ4_1, Half};

pub(super) struct Q4_1;

impl RangeFormat for Q4_1 {
    type Block = BlockQ4_1;

    const NMAX: u8 = 15;

    #[inline(always)]
    fn block(d: Half, m: Half, codes: &[u8; N]) -> BlockQ4_1 {
        BlockQ4_1 { d, m, qs: pack_nibbles(codes) }
    }
}

impl BlockCodec<N> for Q4_1 {
    type Block = BlockQ4_1;

    const MAX: f32 = F16_MAX * 16.0;

    #[inline(always)]
    fn encode<V: Vector>(
        weights: &[[f32; N]],
        importance: Importance<'_, N>,
        blocks: &mut [BlockQ4_1],
    ) -> bool {
        encode_range::<Self, V>(weights, importance, blocks)
    }

    #[inline(always)]
    fn decode<V: Vector>(block: &BlockQ4_1, weights: &mut [f32; N]) {
        let (d, m) = (block.d.to_f32(), block.m.to_f32());
        // Subtracting `-m` is adding `m`, to the bit.
        scale_nibbles::<V>([d, d], [-m, -m], &block.qs, weights);
    }
}
