//! Scale and zero point of a group, and the codes of its weights.

use half::f16;

use super::{AffineConfig, MAX_SCALE, MIN_SCALE, ZeroPoint};

/// The share of a group's largest weight that a scale must have at least, so that a printed zero point fits 16 bits:
/// rounding to f16 takes away a third at most (from 1.5 of the least subnormal to 1).
pub(super) const PRINTED_LEAST: f32 = 1.0 / 20_000.0;

/// Adding and subtracting it rounds a small number to an integer, ties to even, without a call.
const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23

/// The values that the codes of a group stand for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Grid {
    /// An f16 number; beyond [`MAX_SCALE`] it cannot be stored.
    pub(crate) scale: f32,
    /// An integer.
    pub(crate) zero: f32,
    /// The largest code.
    pub(crate) max_code: f32,
}

impl Grid {
    /// The grid of weights between `min` and `max`. The operations and their order are those of the tensor path, so
    /// that both give the same bits.
    pub(crate) fn of_range(min: f32, max: f32, config: AffineConfig) -> Self {
        let max_code = f32::from(config.max_code());
        let scale = |exact: f32| f16::from_f32(exact.max(MIN_SCALE)).to_f32();
        let largest = (-min).max(max).max(0.0);
        let (scale, zero) = match config.zero_point {
            ZeroPoint::InRange => {
                let (min, max) = (min.min(0.0), max.max(0.0));
                let s = scale((max - min) / max_code);
                (s, (-min / s).round_ties_even().clamp(0.0, max_code))
            }
            ZeroPoint::Printed => {
                let s = scale(((max - min) / max_code).max(largest * PRINTED_LEAST));
                (s, (-min / s).round_ties_even())
            }
            ZeroPoint::Clamped => {
                let s = scale((max - min) / max_code);
                (s, (-min / s).round_ties_even().clamp(0.0, max_code))
            }
            ZeroPoint::Symmetric => (scale((largest + largest) / max_code), (max_code + 1.0) * 0.5),
        };
        Self { scale, zero, max_code }
    }

    /// The grid of some finite weights.
    pub(crate) fn of(weights: &[f32], config: AffineConfig) -> Self {
        let Range { min, max, .. } = Range::of(weights);
        Self::of_range(min, max, config)
    }

    /// Whether the scale can be stored.
    pub(crate) fn fits(&self) -> bool {
        (0.0..=MAX_SCALE).contains(&self.scale)
    }

    /// The code nearest to a weight, an integer. Not for NaN.
    #[inline]
    pub(crate) fn code(&self, w: f32) -> f32 {
        let q = w / self.scale + self.zero;
        // Comparisons and not `clamp`, which asks for NaN, too.
        let q = if q > 0.0 { q } else { 0.0 };
        let q = if q < self.max_code { q } else { self.max_code };
        (q + ROUND) - ROUND
    }

    /// What a code stands for.
    #[inline]
    pub(crate) fn value(&self, code: f32) -> f32 {
        (code - self.zero) * self.scale
    }

    /// The value nearest to a weight.
    #[inline]
    pub(crate) fn nearest(&self, w: f32) -> f32 {
        self.value(self.code(w))
    }
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

impl Range {
    /// The range of nothing.
    pub(super) const EMPTY: Self = Self { min: f32::INFINITY, max: f32::NEG_INFINITY, sum: 0.0 };

    pub(super) fn of(weights: &[f32]) -> Self {
        let mut min = [f32::INFINITY; LANES];
        let mut max = [f32::NEG_INFINITY; LANES];
        let mut sum = [0.0; LANES];
        let (chunks, rest) = weights.as_chunks::<LANES>();
        let mut see = |at: usize, w: f32| {
            min[at] = if w < min[at] { w } else { min[at] };
            max[at] = if w > max[at] { w } else { max[at] };
            sum[at] += w;
        };
        for chunk in chunks {
            for (at, &w) in chunk.iter().enumerate() {
                see(at, w);
            }
        }
        for (at, &w) in rest.iter().enumerate() {
            see(at, w);
        }
        let lanes = (0..LANES).map(|at| Self { min: min[at], max: max[at], sum: sum[at] });
        lanes.fold(Self::EMPTY, Self::and)
    }

    /// The range of both.
    pub(super) fn and(self, other: Self) -> Self {
        Self { min: self.min.min(other.min), max: self.max.max(other.max), sum: self.sum + other.sum }
    }

    /// Whether every weight is certainly finite; where not, one has to look.
    pub(super) fn is_finite(&self) -> bool {
        self.sum.is_finite()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn codes_are_rounded_to_even(w in -300.0f32..300.0, half_steps in -600i16..600) {
            let config = AffineConfig::per_group(8, 1);
            let grid = Grid { scale: 1.0, zero: 128.0, max_code: f32::from(config.max_code()) };
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
