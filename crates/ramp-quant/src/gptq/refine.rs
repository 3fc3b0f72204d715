//! Coordinate descent over codes whose scales stay.

use super::round::{Chunk, Lane, ROWS};

/// Sets each code to its best value given all others, column by column, `passes` times.
///
/// With the errors of a row `e` and `g = H e`, the loss `eᵀ H e` is least in `e_i` at `e_i - g_i / H_ii`.
pub(super) fn refine(chunk: &mut Chunk<'_>, passes: usize) {
    if passes == 0 {
        return;
    }
    let (n, block) = (chunk.hessian.width(), chunk.ty.block_size());
    let h = |i: usize| &chunk.hessian.h[i * n..(i + 1) * n];
    let mut gradient: Vec<Lane> = (0..n)
        .map(|i| {
            let mut g = [0.0; ROWS];
            for (&h, error) in h(i).iter().zip(&chunk.error) {
                for (g, e) in g.iter_mut().zip(error) {
                    *g += h * e;
                }
            }
            g
        })
        .collect();
    for _ in 0..passes {
        let mut changed = false;
        for i in 0..n {
            let diagonal = h(i)[i];
            let mut delta = [0.0; ROWS];
            for (row, grid) in chunk.grids[i / block].iter().enumerate() {
                let error = chunk.error[i][row];
                let target = chunk.weight[i][row] - error + gradient[i][row] / diagonal;
                let code = grid.nearest(i % block, target);
                if code != chunk.codes[i][row] {
                    let new = chunk.weight[i][row] - grid.weight(i % block, code);
                    delta[row] = new - error;
                    chunk.error[i][row] = new;
                    chunk.codes[i][row] = code;
                }
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
