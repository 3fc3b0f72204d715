//! Q8_0: 8-bit codes with a scale per 32 weights.
//!
//! [`BlockQ8_0`] has the layout.

use super::legacy::N;
use super::vector::{Vector, truncate};
use super::{BlockCodec, F16_MAX, Importance};
use crate::block::{BlockQ8_0, Half};

pub(super) struct Q8_0;

impl BlockCodec<N> for Q8_0 {
    type Block = BlockQ8_0;

    const MAX: f32 = F16_MAX * 127.0;

    #[inline(always)]
    fn encode<V: Vector>(
        weights: &[[f32; N]],
        _importance: Importance<'_, N>,
        blocks: &mut [BlockQ8_0],
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
            for (code, &weight) in block.qs.iter_mut().zip(weights) {
                *code = truncate(half_away(weight * inverse)) as i8;
            }
            block.d = Half::from_f32(d);
            finite &= block.d.is_finite();
        }
        finite
    }

    #[inline(always)]
    fn decode<V: Vector>(block: &BlockQ8_0, weights: &mut [f32; N]) {
        let d = block.d.to_f32();
        for (weight, &code) in weights.iter_mut().zip(&block.qs) {
            *weight = d * f32::from(code);
        }
    }
}

/// A number whose integer part is `roundf(x)`: half away from zero here, unlike in the K types.
#[inline(always)]
fn half_away(x: f32) -> f32 {
    // The largest number below a half: with a half, 0.49999997 would become 1.
    x + 0.499_999_97_f32.copysign(x)
}
