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

use super::legacy::{N, by_range, fifth_bits, pack_nibbles, search_range, unpack_five_bits};
use super::vector::Vector;
use super::{BlockCodec, F16_MAX, Importance, binary16};

pub(super) struct Q5_1;

impl BlockCodec<N, 24> for Q5_1 {
    const MAX: f32 = F16_MAX * 32.0;

    #[inline(always)]
    fn encode<V: Vector>(weights: &[[f32; N]], importance: Importance<'_, N>, blocks: &mut [[u8; 24]]) -> bool {
        let write = |d: f32, m: f32, codes: &[u8; N], block: &mut [u8; 24]| {
            block[4..8].copy_from_slice(&fifth_bits(codes).to_le_bytes());
            pack_nibbles(codes, &mut block[8..]);
            binary16::write(d, block) & binary16::write(m, &mut block[2..])
        };
        if let Some(importance) = importance {
            return search_range::<V, 24>(31, weights, importance, blocks, write);
        }
        weights.iter().zip(blocks).fold(true, |finite, (weights, block)| {
            let (d, m, codes) = by_range(weights, 31);
            finite & write(d, m, &codes, block)
        })
    }

    #[inline(always)]
    fn decode(block: &[u8; 24], weights: &mut [f32; N]) {
        let (d, m) = (binary16::read(block), binary16::read(&block[2..]));
        let codes = unpack_five_bits(&block[4..8], &block[8..]);
        for (weight, code) in weights.iter_mut().zip(codes) {
            *weight = d * f32::from(code) + m;
        }
    }
}
