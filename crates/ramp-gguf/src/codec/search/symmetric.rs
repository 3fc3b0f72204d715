//! Codes around zero: one scale per sub-block.

use super::super::vector::{Vector, nearest_int};
use super::{GROUP_MAX_EPS, Rows, squares};

/// What [`make_qx_quants`] found, per lane.
pub(in crate::codec) struct SymmetricFit<V> {
    /// The scale; 0 in lanes of zeros.
    pub(in crate::codec) scale: V,
    /// What the codes come from: [`symmetric_code`]. 0 in lanes of zeros.
    pub(in crate::codec) iscale: V,
}

/// The signed value of the first element of the largest magnitude, per lane (0 when all are 0).
#[inline(always)]
pub(super) fn signed_max<V: Vector, const N: usize>(x: &Rows<V, N>) -> V {
    let (mut max, mut amax) = (V::zero(), V::zero());
    for &x in x {
        let ax = x.abs();
        let larger = ax.gt(amax);
        max = V::select(larger, x, max);
        amax = V::select(larger, ax, amax);
    }
    max
}

/// `make_qx_quants` with weights: per lane the scale `s` that minimises `sum w (x - s q)^2` over the codes
/// `q` in `-nmax..nmax` of 19 candidate scales.
#[inline(always)]
pub(in crate::codec) fn make_qx_quants<V: Vector, const N: usize>(
    nmax: f32,
    x: &Rows<V, N>,
    w: &Rows<V, N>,
) -> SymmetricFit<V> {
    let (zero, bottom, top) = (V::zero(), V::splat(-nmax), V::splat(nmax - 1.0));
    let max = signed_max(x);
    let mut wx = *w;
    for i in 0..N {
        wx[i] = w[i] * x[i];
    }

    let mut best_iscale = bottom / max;
    let (sumlx, suml2) = sums(best_iscale, x, w, &wx, bottom, top);
    let mut scale = V::select(suml2.ne(zero), sumlx / suml2, zero);
    let mut best = scale * sumlx;
    for step in -9..=9 {
        if step == 0 {
            continue;
        }
        let iscale = V::splat(-(nmax + 0.1 * step as f32)) / max;
        let (sumlx, suml2) = sums(iscale, x, w, &wx, bottom, top);
        let better = V::and(suml2.gt(zero), (sumlx * sumlx).gt(best * suml2));
        let fit = sumlx / suml2;
        scale = V::select(better, fit, scale);
        best = V::select(better, fit * sumlx, best);
        best_iscale = V::select(better, iscale, best_iscale);
    }
    let flat = max.abs().lt(V::splat(GROUP_MAX_EPS));
    SymmetricFit { scale: V::select(flat, zero, scale), iscale: V::select(flat, zero, best_iscale) }
}

/// `sum w x l` and `sum w l^2` over the codes `l` of one candidate.
#[inline(always)]
fn sums<V: Vector, const N: usize>(
    iscale: V,
    x: &Rows<V, N>,
    w: &Rows<V, N>,
    wx: &Rows<V, N>,
    bottom: V,
    top: V,
) -> (V, V) {
    let (mut sumlx, mut suml2) = (V::zero(), V::zero());
    for i in 0..N {
        // Within the range of `nearest_int`, and so the same as rounding first.
        let l = (iscale * x[i]).max(bottom).min(top).round();
        sumlx = sumlx + wx[i] * l;
        suml2 = suml2 + w[i] * l * l;
    }
    (sumlx, suml2)
}

/// The code, from 0, that [`make_qx_quants`] found for a weight. A sub-block of zeros has codes of 0.
#[inline(always)]
pub(in crate::codec) fn symmetric_code(x: f32, iscale: f32, nmax: i32) -> u8 {
    if iscale == 0.0 {
        return 0;
    }
    (nearest_int(iscale * x).clamp(-nmax, nmax - 1) + nmax) as u8
}

/// `make_q3_quants` with `do_rmse`: as [`make_qx_quants`] with weights `x^2`, but improves the codes of one
/// starting scale by coordinate descent. Returns the scales; `codes` receives the codes around zero, and `-nmax`
/// in lanes of zeros.
#[inline(always)]
pub(in crate::codec) fn make_q3_quants<V: Vector, const N: usize>(
    nmax: f32,
    x: &Rows<V, N>,
    codes: &mut Rows<V, N>,
) -> V {
    let (zero, bottom, top) = (V::zero(), V::splat(-nmax), V::splat(nmax - 1.0));
    let max = signed_max(x);
    let iscale = bottom / max;
    let (mut sumlx, mut suml2) = (zero, zero);
    let w = squares(x);
    for i in 0..N {
        let l = (iscale * x[i]).max(bottom).min(top).round();
        sumlx = sumlx + w[i] * x[i] * l;
        suml2 = suml2 + w[i] * l * l;
        codes[i] = l;
    }
    // A lane that a whole sweep leaves as it is stays so in later sweeps: sweeping on for the sake of the other
    // lanes is the same as stopping.
    for _ in 0..5 {
        let mut changed = false;
        for i in 0..N {
            let (x, w, l) = (x[i], w[i], codes[i]);
            let slx = sumlx - w * x * l;
            let sl2 = suml2 - w * l * l;
            let new_l = (x * sl2 / slx).nearest().max(bottom).min(top);
            let other = V::and(slx.gt(zero), new_l.ne(l));
            // Most weights keep their code. The branch lets the CPU go on to the next weight, whose sums are then
            // these, without waiting for the division.
            if V::any(other) {
                let new_slx = slx + w * x * new_l;
                let new_sl2 = sl2 + w * new_l * new_l;
                let larger = (new_slx * new_slx * suml2).gt(sumlx * sumlx * new_sl2);
                let better = V::and(V::and(other, new_sl2.gt(zero)), larger);
                codes[i] = V::select(better, new_l, l);
                sumlx = V::select(better, new_slx, sumlx);
                suml2 = V::select(better, new_sl2, suml2);
                changed |= V::any(better);
            }
        }
        if !changed {
            break;
        }
    }
    let flat = max.abs().lt(V::splat(GROUP_MAX_EPS));
    for code in codes.iter_mut() {
        *code = V::select(flat, bottom, *code);
    }
    V::select(V::and_not(suml2.gt(zero), flat), sumlx / suml2, zero)
}
