//! Q8_0: 8-bit codes with a scale per 32 weights.
//!
//! | bytes | what |
//! |---|---|
//! | 0..2 | `d`, binary16 |
//! | 2..34 | codes, signed bytes |
//!
//! Weight: `d * code`.

use super::legacy::N;
use super::vector::{Vector, truncate};
use super::{BlockCodec, F16_MAX, Importance, binary16};

pub(super) struct Q8_0;

impl BlockCodec<N, 34> for Q8_0 {
    const MAX: f32 = F16_MAX * 127.0;

    #[inline(always)]
    fn encode<V: Vector>(
        weights: &[[f32; N]],
        _importance: Importance<'_, N>,
        blocks: &mut [[u8; 34]],
    ) -> bool {
        let mut finite = true;
        for (weights, block) in weights.iter().zip(blocks) {
            let mut amax = V::zero();
            for weights in weights.chunks_exact(V::LANES) {
                amax = V::load(weights).abs().max(amax);
            }
            let d = amax.reduce_max() / 127.0;
            // The codes use the scale before it is rounded to 16 bits.
            let inverse = if d != 0.0 { 1.0 / d } else { 0.0 };
            for (byte, &weight) in block[2..].iter_mut().zip(weights) {
                *byte = truncate(half_away(weight * inverse));
            }
            finite &= binary16::write(d, block);
        }
        finite
    }

    #[inline(always)]
    fn decode<V: Vector>(block: &[u8; 34], weights: &mut [f32; N]) {
        let d = binary16::read(block);
        for (weight, &byte) in weights.iter_mut().zip(&block[2..]) {
            *weight = d * f32::from(byte as i8);
        }
    }
}

/// A number whose integer part is `roundf(x)`: half away from zero here, unlike in the K types.
#[inline(always)]
fn half_away(x: f32) -> f32 {
    // The largest number below a half: with a half, 0.49999997 would become 1.
    x + 0.499_999_97_f32.copysign(x)
}
