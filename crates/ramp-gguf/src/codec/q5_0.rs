//! Q5_0: 5-bit codes with a scale per 32 weights.
//!
//! | bytes | what |
//! |---|---|
//! | 0..2 | `d`, binary16 |
//! | 2..6 | fifth bits, as a little-endian number: bit `l` belongs to weight `l` |
//! | 6..22 | low 4 bits: byte `l` has weight `l` in its low, weight `l + 16` in its high nibble |
//!
//! Weight: `d * (code - 16)`.

use super::legacy::{N, ScaleFormat, encode_scale, fifth_bits, pack_nibbles, unpack_five_bits};
use super::vector::Vector;
use super::{BlockCodec, F16_MAX, Importance, binary16, scale_centered_codes};

pub(super) struct Q5_0;

impl ScaleFormat<22> for Q5_0 {
    const ZERO: u8 = 16;

    #[inline(always)]
    fn write(d: f32, codes: &[u8; N], block: &mut [u8; 22]) -> bool {
        block[2..6].copy_from_slice(&fifth_bits(codes).to_le_bytes());
        pack_nibbles(codes, &mut block[6..]);
        binary16::write(d, block)
    }
}

impl BlockCodec<N, 22> for Q5_0 {
    const MAX: f32 = F16_MAX * 16.0;

    #[inline(always)]
    fn encode<V: Vector>(
        weights: &[[f32; N]],
        importance: Importance<'_, N>,
        blocks: &mut [[u8; 22]],
    ) -> bool {
        encode_scale::<Self, V, 22>(weights, importance, blocks)
    }

    #[inline(always)]
    fn decode<V: Vector>(block: &[u8; 22], weights: &mut [f32; N]) {
        let codes = unpack_five_bits(&block[2..6], &block[6..]);
        scale_centered_codes::<V>(binary16::read(block), 16.0, &codes, weights);
    }
}
