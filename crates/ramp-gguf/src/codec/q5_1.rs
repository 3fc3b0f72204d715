//! Q5_1: 5-bit codes with a scale and a minimum per 32 weights.
//!
//! [`BlockQ5_1`] has the layout.

use super::legacy::{N, RangeFormat, encode_range, fifth_bits, pack_nibbles, unpack_five_bits};
use super::vector::Vector;
use super::{BlockCodec, F16_MAX, Importance, scale_codes};
use crate::block::{BlockQ5_1, Half};

pub(super) struct Q5_1;

impl RangeFormat for Q5_1 {
    type Block = BlockQ5_1;

    const NMAX: u8 = 31;

    #[inline(always)]
    fn block(d: Half, m: Half, codes: &[u8; N]) -> BlockQ5_1 {
        BlockQ5_1 { d, m, qh: fifth_bits(codes), qs: pack_nibbles(codes) }
    }
}

impl BlockCodec<N> for Q5_1 {
    type Block = BlockQ5_1;

    const MAX: f32 = F16_MAX * 32.0;

    #[inline(always)]
    fn encode<V: Vector>(
        weights: &[[f32; N]],
        importance: Importance<'_, N>,
        blocks: &mut [BlockQ5_1],
    ) -> bool {
        encode_range::<Self, V>(weights, importance, blocks)
    }

    #[inline(always)]
    fn decode<V: Vector>(block: &BlockQ5_1, weights: &mut [f32; N]) {
        let (d, m) = (block.d.to_f32(), block.m.to_f32());
        // Subtracting `-m` is adding `m`, to the bit.
        scale_codes::<V>(d, -m, &unpack_five_bits(&block.qh, &block.qs), weights);
    }
}
