//! Q5_0: 5-bit codes with a scale per 32 weights.
//!
//! [`BlockQ5_0`] has the layout.

use super::legacy::{N, ScaleFormat, encode_scale, fifth_bits, pack_nibbles, unpack_five_bits};
use super::vector::Vector;
use super::{BlockCodec, F16_MAX, Importance, scale_centered_codes};
use crate::block::{BlockQ5_0, Half};

pub(super) struct Q5_0;

impl ScaleFormat for Q5_0 {
    type Block = BlockQ5_0;

    const ZERO: u8 = 16;

    #[inline(always)]
    fn block(d: Half, codes: &[u8; N]) -> BlockQ5_0 {
        BlockQ5_0 { d, qh: fifth_bits(codes), qs: pack_nibbles(codes) }
    }
}

impl BlockCodec<N> for Q5_0 {
    type Block = BlockQ5_0;

    const MAX: f32 = F16_MAX * 16.0;

    #[inline(always)]
    fn encode<V: Vector>(
        weights: &[[f32; N]],
        importance: Importance<'_, N>,
        blocks: &mut [BlockQ5_0],
    ) -> bool {
        encode_scale::<Self, V>(weights, importance, blocks)
    }

    #[inline(always)]
    fn decode<V: Vector>(block: &BlockQ5_0, weights: &mut [f32; N]) {
        let codes = unpack_five_bits(&block.qh, &block.qs);
        scale_centered_codes::<V>(block.d.to_f32(), 16.0, &codes, weights);
    }
}
