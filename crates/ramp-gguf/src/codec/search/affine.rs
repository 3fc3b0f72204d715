//! Codes above a minimum: one scale and one minimum per sub-block.

use super::super::vector::{Vector, nearest_int};
use super::Rows;

/// How [`make_qkx_quants`] searches.
#[derive(Copy, Clone)]
pub(in crate::codec) struct AffineSearch {
    /// Candidate `step` has the inverse scale `(rmin + rdelta * step + nmax) / range`.
    pub(in crate::codec) rmin: f32,
    pub(in crate::codec) rdelta: f32,
    /// The last step, included.
    pub(in crate::codec) nstep: i32,
}

/// The search with importance, the same for all types.
pub(in crate::codec) const WEIGHTED: AffineSearch = AffineSearch { rmin: -0.9, rdelta: 0.05, nstep: 36 };

/// What [`make_qkx_quants`] found, per lane.
pub(in crate::codec) struct AffineFit<V> {
    pub(in crate::codec) scale: V,
    /// The minimum, negated.
    pub(in crate::codec) min: V,
    /// The sum of the weights of the error.
    pub(in crate::codec) sum_w: V,
    /// What the codes come from ([`affine_code`]): inverse scale, what is subtracted first, and 1 where it was one
    /// of the candidates, 0 where nothing was better than the range of the data.
    pub(in crate::codec) iscale: V,
    pub(in crate::codec) base: V,
    pub(in crate::codec) refined: V,
}

/// `make_qkx2_quants` and `make_qkx3_quants`: per lane the scale and the minimum `m >= 0` that minimise
/// `sum w (s q - m - x)^2` over the codes `q` in `0..=nmax` of the candidate scales, each refitted by weighted
/// least squares.
///
/// `CLAMP_FIRST` is the difference between the two: whether a candidate's code is clamped before it is rounded
/// (3) or after (2). It shows only for numbers that [`nearest_int`] is not made for. `MAD` takes the magnitude of
/// the error in place of its square.
#[inline(always)]
pub(in crate::codec) fn make_qkx_quants<
    V: Vector,
    const N: usize,
    const CLAMP_FIRST: bool,
    const MAD: bool,
>(
    nmax: f32,
    x: &Rows<V, N>,
    w: &Rows<V, N>,
    search: AffineSearch,
) -> AffineFit<V> {
    let (zero, top) = (V::zero(), V::splat(nmax));
    let (mut low, mut max) = (x[0], x[0]);
    let mut sum_w = w[0];
    let mut sum_x = w[0] * x[0];
    for i in 1..N {
        low = x[i].min(low);
        max = x[i].max(max);
        sum_w = sum_w + w[i];
        sum_x = sum_x + w[i] * x[i];
    }
    let mut min = V::select(low.gt(zero), zero, low);
    let live = max.gt(min);
    let flat_min = min;

    let mut best_iscale = top / (max - min);
    let mut base = min;
    let mut scale = V::splat(1.0) / best_iscale;
    let (mut best_error, mut refined) = (zero, zero);
    for i in 0..N {
        let l = (best_iscale * (x[i] - min)).nearest().max(zero).min(top);
        let diff = scale * l + min - x[i];
        best_error = best_error + w[i] * if MAD { diff.abs() } else { diff * diff };
    }

    let mut codes = [zero; N];
    for step in 0..=search.nstep {
        // `min` is that of the best fit so far, not of the data: a property of the original that decides bytes.
        let range = max - min;
        let iscale = V::splat(search.rmin + search.rdelta * step as f32 + nmax) / range;
        let (mut sum_l, mut sum_l2, mut sum_xl) = (zero, zero, zero);
        macro_rules! sums {
            ($v:ident => $code:expr) => {
                for i in 0..N {
                    let $v = iscale * (x[i] - min);
                    let l = $code;
                    let wl = w[i] * l;
                    sum_l = sum_l + wl;
                    sum_l2 = sum_l2 + wl * l;
                    sum_xl = sum_xl + wl * x[i];
                    codes[i] = l;
                }
            };
        }
        if !CLAMP_FIRST && V::any(V::and_not(live, in_range(iscale, range, low - min))) {
            sums!(v => v.nearest().max(zero).min(top));
        } else {
            sums!(v => v.max(zero).min(top).round());
        }

        let determinant = sum_w * sum_l2 - sum_l * sum_l;
        let fit_scale = (sum_w * sum_xl - sum_x * sum_l) / determinant;
        let fit_min = (sum_l2 * sum_x - sum_l * sum_xl) / determinant;
        let positive = fit_min.gt(zero);
        let this_min = V::select(positive, zero, fit_min);
        let this_scale = V::select(positive, sum_xl / sum_l2, fit_scale);
        let mut error = zero;
        for i in 0..N {
            let diff = this_scale * codes[i] + this_min - x[i];
            error = error + w[i] * if MAD { diff.abs() } else { diff * diff };
        }
        let better = V::and(V::and(live, determinant.gt(zero)), error.lt(best_error));
        best_iscale = V::select(better, iscale, best_iscale);
        base = V::select(better, min, base);
        refined = V::select(better, V::splat(1.0), refined);
        best_error = V::select(better, error, best_error);
        scale = V::select(better, this_scale, scale);
        min = V::select(better, this_min, min);
    }
    AffineFit {
        scale: V::select(live, scale, zero),
        // A product keeps the sign of zero, which a type that stores minima as they are shows.
        min: V::splat(-1.0) * V::select(live, min, flat_min),
        sum_w,
        iscale: V::select(live, best_iscale, zero),
        base: V::select(live, base, zero),
        refined,
    }
}

/// Whether no code of a candidate leaves the range of [`nearest_int`]: the distances of all weights from the
/// minimum lie between `low` and `range`.
#[inline(always)]
fn in_range<V: Vector>(iscale: V, range: V, low: V) -> V::Mask {
    (iscale.abs() * low.abs().max(range.abs())).lt(V::splat(4_000_000.0))
}

/// The code that [`make_qkx_quants`] found for a weight. `clamp_first` is that of the search where the fit is
/// `refined`; the first codes are always clamped after rounding.
#[inline(always)]
pub(in crate::codec) fn affine_code(x: f32, iscale: f32, base: f32, nmax: f32, clamp_first: bool) -> u8 {
    let v = iscale * (x - base);
    if !clamp_first {
        nearest_int(v).clamp(0, nmax as i32) as u8
    } else if v > 0.0 {
        nearest_int(if v < nmax { v } else { nmax }) as u8
    } else {
        0
    }
}
