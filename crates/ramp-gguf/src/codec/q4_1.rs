//! Q4_1: 4-bit codes with a scale and a minimum per 32 weights.
//!
//! | bytes | what |
//! |---|---|
//! | 0..2 | `d`, binary16 |
//! | 2..4 | `m`, binary16 |
//! | 4..20 | codes: byte `l` has weight `l` in its low, weight `l + 16` in its high nibble |
//!
//! Weight: `d * code + m`.

use super::legacy::{N, RangeFormat, encode_range, pack_nibbles, unpack_nibbles};
use super::vector::Vector;
use super::{BlockCodec, F16_MAX, Importance, binary16, scale_codes};

pub(super) struct Q4_1;

impl RangeFormat<20> for Q4_1 {
    const NMAX: u8 = 15;

    #[inline(always)]
    fn write(d: f32, m: f32, codes: &[u8; N], block: &mut [u8; 20]) -> bool {
        pack_nibbles(codes, &mut block[4..]);
        binary16::write(d, block) & binary16::write(m, &mut block[2..])
    }
}

impl BlockCodec<N, 20> for Q4_1 {
    const MAX: f32 = F16_MAX * 16.0;

    #[inline(always)]
    fn encode<V: Vector>(
        weights: &[[f32; N]],
        importance: Importance<'_, N>,
        blocks: &mut [[u8; 20]],
    ) -> bool {
        encode_range::<Self, V, 20>(weights, importance, blocks)
    }

    #[inline(always)]
    fn decode<V: Vector>(block: &[u8; 20], weights: &mut [f32; N]) {
        let (d, m) = (binary16::read(block), binary16::read(&block[2..]));
        // Subtracting `-m` is adding `m`, to the bit.
        scale_codes::<V>(d, -m, &unpack_nibbles(&block[4..]), weights);
    }
}
