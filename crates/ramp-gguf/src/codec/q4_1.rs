//! Q4_1: 4-bit codes with a scale and a minimum per 32 weights.
//!
//! | bytes | what |
//! |---|---|
//! | 0..2 | `d`, binary16 |
//! | 2..4 | `m`, binary16 |
//! | 4..20 | codes: byte `l` has weight `l` in its low, weight `l + 16` in its high nibble |
//!
//! Weight: `d * code + m`.

use super::legacy::{N, by_range, pack_nibbles, search_range};
use super::vector::Vector;
use super::{BlockCodec, F16_MAX, Importance, binary16};

pub(super) struct Q4_1;

impl BlockCodec<N, 20> for Q4_1 {
    const MAX: f32 = F16_MAX * 16.0;

    #[inline(always)]
    fn encode<V: Vector>(weights: &[[f32; N]], importance: Importance<'_, N>, blocks: &mut [[u8; 20]]) -> bool {
        let write = |d: f32, m: f32, codes: &[u8; N], block: &mut [u8; 20]| {
            pack_nibbles(codes, &mut block[4..]);
            binary16::write(d, block) & binary16::write(m, &mut block[2..])
        };
        if let Some(importance) = importance {
            return search_range::<V, 20>(15, weights, importance, blocks, write);
        }
        weights.iter().zip(blocks).fold(true, |finite, (weights, block)| {
            let (d, m, codes) = by_range(weights, 15);
            finite & write(d, m, &codes.map(|code| (code as i8).min(15) as u8), block)
        })
    }

    #[inline(always)]
    fn decode(block: &[u8; 20], weights: &mut [f32; N]) {
        let (d, m) = (binary16::read(block), binary16::read(&block[2..]));
        for l in 0..16 {
            weights[l] = d * f32::from(block[4 + l] & 0xf) + m;
            weights[l + 16] = d * f32::from(block[4 + l] >> 4) + m;
        }
    }
}
