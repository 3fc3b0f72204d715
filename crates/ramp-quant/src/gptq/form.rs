//! A sum over rows of `e H eᵀ`.

use pulp::Arch;
use rayon::prelude::*;

use super::{Lane, ROWS, lanes, product};

/// Columns whose products are added in f32 before they join the sum in f64.
const SPAN: usize = 64;

/// `tr(E H Eᵀ)` for `H` row-major `[n, n]` and `E` row-major `[rows, n]`.
pub(crate) fn quadratic_form(h: &[f32], n: usize, e: &[f32]) -> f64 {
    let parts = e.par_chunks(ROWS * n).map(|e| {
        let e = lanes(e, n);
        Arch::new().dispatch(|| of_lanes(h, &e))
    });
    // Collected first: a parallel sum would depend on the number of threads.
    parts.collect::<Vec<_>>().into_iter().sum()
}

#[inline(always)]
fn of_lanes(h: &[f32], e: &[Lane]) -> f64 {
    let mut sums = [0.0_f64; ROWS];
    for (h, own) in h.chunks_exact(e.len()).zip(e) {
        let mut products = [0.0_f64; ROWS];
        for (h, e) in h.chunks(SPAN).zip(e.chunks(SPAN)) {
            products.iter_mut().zip(product(h, e)).for_each(|(sum, part)| *sum += f64::from(part));
        }
        for ((sum, product), &own) in sums.iter_mut().zip(products).zip(own) {
            *sum += product * f64::from(own);
        }
    }
    sums.iter().sum()
}
