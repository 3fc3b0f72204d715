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
    std::array::from_fn(|i| V::load(&lanes[i]))
}

/// As [`rows`], for sub-blocks that are blocks of their own.
#[inline(always)]
pub(in crate::codec) fn rows_of_blocks<V: Vector, const N: usize>(blocks: &[[f32; N]]) -> Rows<V, N> {
    rows(blocks.as_flattened())
}

/// The `N` numbers of one lane.
#[inline(always)]
pub(in crate::codec) fn column<V: Vector, const N: usize>(rows: &Rows<V, N>, lane: usize) -> [f32; N] {
    let mut buffer = [0.0; MAX_LANES];
    std::array::from_fn(|i| {
        rows[i].store(&mut buffer);
        buffer[lane]
    })
}
