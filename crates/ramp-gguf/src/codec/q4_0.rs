//! Q4_0: 4-bit codes with a scale per 32 weights.
//!
//! | bytes | what |
//! |---|---|
//! | 0..2 | `d`, binary16 |
//! | 2..18 | codes: byte `l` has weight `l` in its low, weight `l + 16` in its high nibble |
//!
//! Weight: `d * (code - 8)`.

use super::legacy::{N, ScaleFormat, encode_scale, pack_nibbles, unpack_nibbles};
use super::vector::Vector;
use super::{BlockCodec, F16_MAX, Importance, binary16, scale_centered_codes};

pub(super) struct Q4_0;

impl ScaleFormat<18> for Q4_0 {
    const ZERO: u8 = 8;

    #[inline(always)]
    fn write(d: f32, codes: &[u8; N], block: &mut [u8; 18]) -> bool {
        pack_nibbles(codes, &mut block[2..]);
        binary16::write(d, block)
    }
}

impl BlockCodec<N, 18> for Q4_0 {
    const MAX: f32 = F16_MAX * 8.0;

    #[inline(always)]
    fn encode<V: Vector>(
        weights: &[[f32; N]],
        importance: Importance<'_, N>,
        blocks: &mut [[u8; 18]],
    ) -> bool {
        encode_scale::<Self, V, 18>(weights, importance, blocks)
    }

    #[inline(always)]
    fn decode<V: Vector>(block: &[u8; 18], weights: &mut [f32; N]) {
        scale_centered_codes::<V>(binary16::read(block), 8.0, &unpack_nibbles(&block[2..]), weights);
    }
}
