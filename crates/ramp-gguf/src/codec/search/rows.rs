//! From consecutive sub-blocks to rows of lanes and back.

use super::super::vector::{MAX_LANES, Vector};

/// `rows[i]` has weight `i` of every sub-block.
pub(in crate::codec) type Rows<V, const N: usize> = [V; N];

/// Consecutive sub-blocks of `N` weights, at most `V::LANES` of them; lanes without one are zeros.
#[inline(always)]
pub(in crate::codec) fn rows<V: Vector, const N: usize>(weights: &[f32]) -> Rows<V, N> {
    let mut lanes = [[0.0; MAX_LANES]; N];
    for (lane, sub_block) in weights.as_chunks::<N>().0.iter().take(V::LANES).enumerate() {
        for (row, &weight) in lanes.iter_mut().zip(sub_block) {
            row[lane] = weight;
        }
    }
    // Loops and not closures wherever vectors are made: a closure that the compiler leaves a function of its own has
    // no instruction set.
    let mut rows = [V::zero(); N];
    for (row, lanes) in rows.iter_mut().zip(&lanes) {
        *row = V::load(lanes);
    }
    rows
}

/// `rows[i] * rows[i]`.
#[inline(always)]
pub(in crate::codec) fn squares<V: Vector, const N: usize>(rows: &Rows<V, N>) -> Rows<V, N> {
    let mut squares = *rows;
    for row in &mut squares {
        *row = *row * *row;
    }
    squares
}

/// The sum of the rows, in their order.
#[inline(always)]
pub(in crate::codec) fn sum<V: Vector, const N: usize>(rows: &Rows<V, N>) -> V {
    let mut sum = V::zero();
    for &row in rows {
        sum = sum + row;
    }
    sum
}

/// As [`rows`], for sub-blocks that are blocks of their own.
#[inline(always)]
pub(in crate::codec) fn rows_of_blocks<V: Vector, const N: usize>(blocks: &[[f32; N]]) -> Rows<V, N> {
    rows(blocks.as_flattened())
}
