//! Q5_0: 5-bit codes with a scale per 32 weights.
//!
//! | bytes | what |
//! |---|---|
//! | 0..2 | `d`, binary16 |
//! | 2..6 | fifth bits, as a little-endian number: bit `l` belongs to weight `l` |
//! | 6..22 | low 4 bits: byte `l` has weight `l` in its low, weight `l + 16` in its high nibble |
//!
//! Weight: `d * (code - 16)`.

use super::legacy::{N, by_magnitude, fifth_bits, pack_nibbles, search_scale, unpack_five_bits};
use super::vector::Vector;
use super::{BlockCodec, F16_MAX, Importance, binary16};

pub(super) struct Q5_0;

impl BlockCodec<N, 22> for Q5_0 {
    const MAX: f32 = F16_MAX * 16.0;

    #[inline(always)]
    fn encode<V: Vector>(weights: &[[f32; N]], importance: Importance<'_, N>, blocks: &mut [[u8; 22]]) -> bool {
        let write = |d: f32, codes: &[u8; N], block: &mut [u8; 22]| {
            block[2..6].copy_from_slice(&fifth_bits(codes).to_le_bytes());
            pack_nibbles(codes, &mut block[6..]);
            binary16::write(d, block)
        };
        if let Some(importance) = importance {
            return search_scale::<V, 22>(16, weights, importance, blocks, write);
        }
        weights.iter().zip(blocks).fold(true, |finite, (weights, block)| {
            let (d, codes) = by_magnitude(weights, 16);
            finite & write(d, &codes, block)
        })
    }

    #[inline(always)]
    fn decode(block: &[u8; 22], weights: &mut [f32; N]) {
        let d = binary16::read(block);
        let codes = unpack_five_bits(&block[2..6], &block[6..]);
        for (weight, code) in weights.iter_mut().zip(codes) {
            *weight = d * (f32::from(code) - 16.0);
        }
    }
}
