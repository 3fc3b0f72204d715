//! Scale and zero point of a group, and the codes of its weights.

use half::f16;

use super::{AffineConfig, MAX_SCALE, MIN_SCALE, ZeroPoint};

/// The share of a group's largest weight that a scale must have at least, so that a printed zero point fits 16 bits:
/// rounding to f16 takes away a third at most (from 1.5 of the least subnormal to 1).
pub(super) const PRINTED_LEAST: f32 = 1.0 / 20_000.0;

/// Rounds a number below 2^22 to an integer, ties to even, without a call.
#[inline(always)]
fn round(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23
    (x + ROUND) - ROUND
}

/// The values that the codes of a group stand for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Grid {
    /// An f16 number; beyond [`MAX_SCALE`] it cannot be stored.
    pub(crate) scale: f32,
    /// `1 / scale`: multiplying by it takes a fifth of the time of dividing.
    inverse: f32,
    /// An integer.
    pub(crate) zero: f32,
    /// The largest code.
    pub(crate) max_code: f32,
}

impl Grid {
    #[inline(always)]
    pub(crate) fn new(scale: f32, zero: f32, max_code: f32) -> Self {
        Self { scale, inverse: 1.0 / scale, zero, max_code }
    }

    /// The grid of weights between `min` and `max`. The operations and their order are those of the tensor path, so
    /// that both give the same bits.
    #[inline(always)]
    pub(crate) fn of_range(min: f32, max: f32, config: AffineConfig) -> Self {
        let max_code = f32::from(config.max_code());
        let scale = |exact: f32| rounded_to_f16(exact.max(MIN_SCALE));
        let largest = (-min).max(max).max(0.0);
        let (scale, zero) = match config.zero_point {
            ZeroPoint::InRange => {
                let (min, max) = (min.min(0.0), max.max(0.0));
                let s = scale((max - min) / max_code);
                (s, round((-min / s).clamp(0.0, max_code)))
            }
            ZeroPoint::Printed => {
                let s = scale(((max - min) / max_code).max(largest * PRINTED_LEAST));
                (s, round(-min / s))
            }
            ZeroPoint::Clamped => {
                let s = scale((max - min) / max_code);
                (s, round((-min / s).clamp(0.0, max_code)))
            }
            ZeroPoint::Symmetric => (scale((largest + largest) / max_code), (max_code + 1.0) * 0.5),
        };
        Self::new(scale, zero, max_code)
    }

    /// The grid of some finite weights.
    pub(crate) fn of(weights: &[f32], config: AffineConfig) -> Self {
        let Range { min, max, .. } = Range::of(weights);
        Self::of_range(min, max, config)
    }

    /// Whether the scale can be stored.
    #[inline(always)]
    pub(crate) fn fits(&self) -> bool {
        (0.0..=MAX_SCALE).contains(&self.scale)
    }

    /// The code nearest to a weight, an integer. Not for NaN.
    #[inline(always)]
    pub(crate) fn code(&self, w: f32) -> f32 {
        let q = w * self.inverse + self.zero;
        // Comparisons and not `clamp`, which asks for NaN, too.
        let q = if q > 0.0 { q } else { 0.0 };
        let q = if q < self.max_code { q } else { self.max_code };
        round(q)
    }

    /// What a code stands for.
    #[inline(always)]
    pub(crate) fn value(&self, code: f32) -> f32 {
        (code - self.zero) * self.scale
    }

    /// The values nearest to some weights, as [`Grid::nearest`] gives them.
    #[inline(always)]
    pub(super) fn fill(&self, weights: &[f32], out: &mut [f32]) {
        let grid = *self;
        for (out, &w) in out.iter_mut().zip(weights) {
            *out = grid.nearest(w);
        }
    }

    /// The value nearest to a weight.
    #[inline(always)]
    pub(crate) fn nearest(&self, w: f32) -> f32 {
        self.value(self.code(w))
    }
}

/// The nearest number that f16 has, ties to even, of one that is at least 2^-24; above 65504 a number that is beyond
/// [`MAX_SCALE`], too. Conversion and back, without the calls.
#[inline(always)]
fn rounded_to_f16(x: f32) -> f32 {
    // Below 2^-14 all f16 numbers are 2^-24 apart, as f32 numbers are around 0.5; above, they have 13 bits less.
    if x < f16::MIN_POSITIVE.to_f32_const() {
        return (x + 0.5) - 0.5;
    }
    let bits = x.to_bits();
    f32::from_bits(bits.wrapping_add(0xfff + (bits >> 13 & 1)) & !0x1fff)
}

/// The range of some weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Range {
    pub(super) min: f32,
    pub(super) max: f32,
    /// NaN or infinite where a weight is, and perhaps where the weights are huge.
    pub(super) sum: f32,
}

/// Weights that are looked at side by side.
const LANES: usize = 16;

#[inline(always)]
fn min(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

#[inline(always)]
fn max(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// Folds weights in [`LANES`] lanes, which the compiler makes vectors of, and those in a tree.
#[inline(always)]
fn lanes(weights: &[f32], start: f32, op: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [start; LANES];
    let (chunks, rest) = weights.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, &w) in lanes.iter_mut().zip(chunk) {
            *lane = op(w, *lane);
        }
    }
    for (lane, &w) in lanes.iter_mut().zip(rest) {
        *lane = op(w, *lane);
    }
    let x: [f32; 8] = std::array::from_fn(|at| op(lanes[at], lanes[at + 8]));
    let x: [f32; 4] = std::array::from_fn(|at| op(x[at], x[at + 4]));
    op(op(x[0], x[2]), op(x[1], x[3]))
}

impl Range {
    /// The range of nothing.
    pub(super) const EMPTY: Self = Self { min: f32::INFINITY, max: f32::NEG_INFINITY, sum: 0.0 };

    #[inline(always)]
    pub(super) fn of(weights: &[f32]) -> Self {
        // One pass each: together they would not fit SSE2's registers, and a group stays in the first cache.
        Self {
            min: lanes(weights, f32::INFINITY, min),
            max: lanes(weights, f32::NEG_INFINITY, max),
            sum: lanes(weights, 0.0, |a, b| a + b),
        }
    }

    /// The range of both.
    pub(super) fn and(self, other: Self) -> Self {
        Self { min: self.min.min(other.min), max: self.max.max(other.max), sum: self.sum + other.sum }
    }

    /// Whether every weight is certainly finite; where not, one has to look.
    #[inline(always)]
    pub(super) fn is_finite(&self) -> bool {
        self.sum.is_finite()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn scales_are_rounded_as_half_does() {
        for exponent in -24..=20 {
            for step in 0..5000u32 {
                // Every 13th bit pattern and the ties between f16 numbers.
                for bits in [step * 1677, step << 12] {
                    let x = f32::from_bits(2f32.powi(exponent).to_bits() | bits & 0x7f_ffff);
                    let (found, expected) = (rounded_to_f16(x), f16::from_f32(x).to_f32());
                    assert!(found == expected || expected.is_infinite() && found > MAX_SCALE, "{x}: {found}");
                }
            }
        }
        assert!(rounded_to_f16(f32::INFINITY) > MAX_SCALE);
    }

    proptest! {
        #[test]
        fn codes_are_rounded_to_even(w in -300.0f32..300.0, half_steps in -600i16..600) {
            let config = AffineConfig::per_group(8, 1);
            let grid = Grid::new(1.0, 128.0, f32::from(config.max_code()));
            for w in [w, f32::from(half_steps) * 0.5] {
                let expected = (w + 128.0).round_ties_even().clamp(0.0, 255.0);
                prop_assert_eq!(grid.code(w), expected);
            }
        }

        #[test]
        fn ranges_are_those_of_a_fold(weights in prop::collection::vec(-9.0f32..9.0, 1..100)) {
            let range = Range::of(&weights);
            prop_assert_eq!(range.min, weights.iter().copied().fold(f32::INFINITY, f32::min));
            prop_assert_eq!(range.max, weights.iter().copied().fold(f32::NEG_INFINITY, f32::max));
            prop_assert!(range.is_finite());
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                for at in [0, weights.len() / 2, weights.len() - 1] {
                    let mut weights = weights.clone();
                    weights[at] = bad;
                    prop_assert!(!Range::of(&weights).is_finite());
                }
            }
        }
    }
}
