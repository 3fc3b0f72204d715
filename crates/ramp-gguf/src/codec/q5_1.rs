//! Q5_1: 5-bit codes with a scale and a minimum per 32 weights.
//!
//! | bytes | what |
//! |---|---|
//! | 0..2 | `d`, binary16 |
//! | 2..4 | `m`, binary16 |
//! | 4..8 | fifth bits, as a little-endian number: bit `l` belongs to weight `l` |
//! | 8..24 | low 4 bits: byte `l` has weight `l` in its low, weight `l + 16` in its high nibble |
//!
//! Weight: `d * code + m`.

use super::legacy::{N, RangeFormat, encode_range, fifth_bits, pack_nibbles, unpack_five_bits};
use super::vector::Vector;
use super::{BlockCodec, F16_MAX, Importance, binary16, scale_codes};

pub(super) struct Q5_1;

impl RangeFormat<24> for Q5_1 {
    const NMAX: u8 = 31;

    #[inline(always)]
    fn write(d: f32, m: f32, codes: &[u8; N], block: &mut [u8; 24]) -> bool {
        block[4..8].copy_from_slice(&fifth_bits(codes).to_le_bytes());
        pack_nibbles(codes, &mut block[8..]);
        binary16::write(d, block) & binary16::write(m, &mut block[2..])
    }
}

impl BlockCodec<N, 24> for Q5_1 {
    const MAX: f32 = F16_MAX * 32.0;

    #[inline(always)]
    fn encode<V: Vector>(
        weights: &[[f32; N]],
        importance: Importance<'_, N>,
        blocks: &mut [[u8; 24]],
    ) -> bool {
        encode_range::<Self, V, 24>(weights, importance, blocks)
    }

    #[inline(always)]
    fn decode<V: Vector>(block: &[u8; 24], weights: &mut [f32; N]) {
        let (d, m) = (binary16::read(block), binary16::read(&block[2..]));
        // Subtracting `-m` is adding `m`, to the bit.
        scale_codes::<V>(d, -m, &unpack_five_bits(&block[4..8], &block[8..]), weights);
    }
}
