//! The search for the integer scales of a super-block.

use super::super::vector::Vector;
use super::{GROUP_MAX_EPS, Rows};

/// `make_qp_quants`, a super-block per lane: codes `0..=nmax` of `N` non-negative numbers, and the factor that
/// multiplies them, with the smallest weighted squared error. Codes are what ggml's `uint8_t` holds of them.
#[inline(always)]
pub(in crate::codec) fn make_qp_quants<V: Vector, const N: usize>(
    nmax: f32,
    x: &Rows<V, N>,
    w: &Rows<V, N>,
    codes: &mut Rows<V, N>,
) -> V {
    let (zero, one, top) = (V::zero(), V::splat(1.0), V::splat(nmax));
    let mut max = zero;
    for &x in x {
        // C's `MAX(max, x)`.
        max = max.max(x);
    }
    let flat = max.lt(V::splat(GROUP_MAX_EPS));

    let mut best_iscale = top / max;
    let scale = one / best_iscale;
    let mut best_error = zero;
    for i in 0..N {
        let diff = x[i] - scale * (best_iscale * x[i]).nearest().wrap_u8();
        best_error = best_error + w[i] * diff * diff;
    }
    for step in -4..=4 {
        if step == 0 {
            continue;
        }
        let iscale = V::splat(0.1 * step as f32 + nmax) / max;
        let scale = one / iscale;
        let mut error = zero;
        for i in 0..N {
            let diff = x[i] - scale * (iscale * x[i]).nearest().min(top);
            error = error + w[i] * diff * diff;
        }
        let better = error.lt(best_error);
        best_error = V::select(better, error, best_error);
        best_iscale = V::select(better, iscale, best_iscale);
    }

    let (mut sumlx, mut suml2) = (zero, zero);
    for i in 0..N {
        let l = (best_iscale * x[i]).nearest().min(top);
        sumlx = sumlx + w[i] * x[i] * l;
        suml2 = suml2 + w[i] * l * l;
        codes[i] = l.wrap_u8();
    }
    // Lanes that a sweep leaves as they are stay so, as in `make_q3_quants`.
    for _ in 0..5 {
        let mut changed = false;
        for i in 0..N {
            let (x, w, l) = (x[i], w[i], codes[i]);
            let slx = sumlx - w * x * l;
            let sl2 = suml2 - w * l * l;
            let new_l = (x * sl2 / slx).nearest().min(top);
            let other = V::and(V::and(slx.gt(zero), sl2.gt(zero)), new_l.ne(l));
            if V::any(other) {
                let new_slx = slx + w * x * new_l;
                let new_sl2 = sl2 + w * new_l * new_l;
                let larger = (new_slx * new_slx * suml2).gt(sumlx * sumlx * new_sl2);
                let better = V::and(other, larger);
                codes[i] = V::select(better, new_l.wrap_u8(), l);
                sumlx = V::select(better, new_slx, sumlx);
                suml2 = V::select(better, new_sl2, suml2);
                changed |= V::any(better);
            }
        }
        if !changed {
            break;
        }
    }
    for code in codes.iter_mut() {
        *code = V::select(flat, zero, *code);
    }
    V::select(V::and_not(suml2.gt(zero), flat), sumlx / suml2, zero)
}
