//! Q4_0: 4-bit codes with a scale per 32 weights.
//!
//! | bytes | what |
//! |---|---|
//! | 0..2 | `d`, binary16 |
//! | 2..18 | codes: byte `l` has weight `l` in its low, weight `l + 16` in its high nibble |
//!
//! Weight: `d * (code - 8)`.

use super::legacy::{N, by_magnitude, pack_nibbles, search_scale};
use super::vector::Vector;
use super::{BlockCodec, F16_MAX, Importance, binary16};

pub(super) struct Q4_0;

impl BlockCodec<N, 18> for Q4_0 {
    const MAX: f32 = F16_MAX * 8.0;

    #[inline(always)]
    fn encode<V: Vector>(weights: &[[f32; N]], importance: Importance<'_, N>, blocks: &mut [[u8; 18]]) -> bool {
        let write = |d: f32, codes: &[u8; N], block: &mut [u8; 18]| {
            pack_nibbles(codes, &mut block[2..]);
            binary16::write(d, block)
        };
        if let Some(importance) = importance {
            return search_scale::<V, 18>(8, weights, importance, blocks, write);
        }
        weights.iter().zip(blocks).fold(true, |finite, (weights, block)| {
            let (d, codes) = by_magnitude(weights, 8);
            finite & write(d, &codes, block)
        })
    }

    #[inline(always)]
    fn decode(block: &[u8; 18], weights: &mut [f32; N]) {
        let d = binary16::read(block);
        for l in 0..16 {
            weights[l] = d * (f32::from(block[2 + l] & 0xf) - 8.0);
            weights[l + 16] = d * (f32::from(block[2 + l] >> 4) - 8.0);
        }
    }
}
