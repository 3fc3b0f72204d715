//! Coordinate descent over codes whose scales stay.

use super::{Hessian, Lane, ROWS};

/// Sets each code to its best value given all others, column by column, `passes` times.
///
/// With the errors of a row `e` and `g = H e`, the loss `eᵀ H e` is least in `e_i` at `e_i - g_i / H_ii`.
/// `nearest(column, row, target)` gives the value on the grid next to a target, and may note its code. `weight` and
/// `error` are by column.
#[inline(always)]
pub(crate) fn refine(
    hessian: &Hessian,
    weight: &[Lane],
    error: &mut [Lane],
    rows: usize,
    passes: usize,
    mut nearest: impl FnMut(usize, usize, f32) -> f32,
) {
    if passes == 0 {
        return;
    }
    let n = hessian.width();
    let h = |i: usize| &hessian.h[i * n..(i + 1) * n];
    let mut gradient: Vec<Lane> = (0..n).map(|i| product(h(i), error)).collect();
    for _ in 0..passes {
        let mut changed = false;
        for i in 0..n {
            let diagonal = h(i)[i];
            let mut delta = [0.0; ROWS];
            for row in 0..rows {
                let old = error[i][row];
                let target = weight[i][row] - old + gradient[i][row] / diagonal;
                let new = weight[i][row] - nearest(i, row, target);
                delta[row] = new - old;
                error[i][row] = new;
            }
            if delta.iter().any(|&d| d != 0.0) {
                changed = true;
                for (g, &h) in gradient.iter_mut().zip(h(i)) {
                    for (g, d) in g.iter_mut().zip(&delta) {
                        *g += h * d;
                    }
                }
            }
        }
        if !changed {
            return;
        }
    }
}

/// `Σ_k h_k e_k` for each row.
#[inline(always)]
pub(crate) fn product(h: &[f32], e: &[Lane]) -> Lane {
    let mut g = [0.0; ROWS];
    for (&h, e) in h.iter().zip(e) {
        for (g, e) in g.iter_mut().zip(e) {
            *g += h * e;
        }
    }
    g
}
