//! Codes that stand for 16 unevenly spaced values: IQ4_NL and IQ4_XS.

use super::super::vector::Vector;
use super::symmetric::signed_max;
use super::{GROUP_MAX_EPS, Rows};
use crate::block::KVALUES;

/// Where the next code becomes the nearest: the middle between two values, which belongs to the larger one.
///
/// ggml compares the distances to both values. They are exact in binary32 near the middle, so that comparing with
/// the middle is the same.
pub(in crate::codec) const MIDPOINTS: [f32; 15] = {
    let mut midpoints = [0.0; 15];
    let mut i = 0;
    while i < 15 {
        midpoints[i] = (KVALUES[i] + KVALUES[i + 1]) / 2.0;
        i += 1;
    }
    midpoints
};

/// `best_index_int8`: the code of the value nearest to `x`, and 15 for NaN.
#[inline(always)]
pub(in crate::codec) fn best_index(x: f32) -> u8 {
    // `x < middle` is false for NaN, which ggml's search by halves lets run to the end.
    MIDPOINTS.iter().fold(15, |index, &middle| index - u8::from(x < middle))
}

/// The search of `quantize_row_iq4_nl_impl`: per lane the scale `s` that minimises `sum w (x - s v)^2` over the
/// values `v` of the codes of 16 candidate scales. 0 in lanes of zeros.
#[inline(always)]
pub(in crate::codec) fn make_iq4_scales<V: Vector, const N: usize>(x: &Rows<V, N>, w: &Rows<V, N>) -> V {
    const TRIES: i32 = 7;
    let zero = V::zero();
    let max = signed_max(x);
    let start = (zero - max) / V::splat(KVALUES[0]);
    let (sumqx, sumq2) = sums(V::splat(1.0) / start, x, w);
    let mut scale = V::select(sumq2.gt(zero), sumqx / sumq2, zero);
    let mut best = scale * sumqx;
    for step in -TRIES..=TRIES {
        let (sumqx, sumq2) = sums(V::splat(step as f32 + KVALUES[0]) / max, x, w);
        let better = V::and(sumq2.gt(zero), (sumqx * sumqx).gt(best * sumq2));
        let fit = sumqx / sumq2;
        scale = V::select(better, fit, scale);
        best = V::select(better, fit * sumqx, best);
    }
    let flat = max.abs().lt(V::splat(GROUP_MAX_EPS));
    V::select(flat, zero, scale)
}

/// `sum w v x` and `sum w v^2` over the values `v` nearest to the weights of one candidate.
#[inline(always)]
fn sums<V: Vector, const N: usize>(inverse: V, x: &Rows<V, N>, w: &Rows<V, N>) -> (V, V) {
    let (mut sumqx, mut sumq2) = (V::zero(), V::zero());
    for i in 0..N {
        let q = (inverse * x[i]).nearest_kvalue();
        let wq = w[i] * q;
        sumqx = sumqx + wq * x[i];
        sumq2 = sumq2 + wq * q;
    }
    (sumqx, sumq2)
}
