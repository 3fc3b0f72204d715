//! What Q4_0, Q4_1, Q5_0 and Q5_1 share: blocks of 32 weights without super-blocks.
//!
//! Without importance there is no search: the scale follows from the largest magnitude or from the range. With it,
//! the types search as the K types do.

use super::Importance;
use super::search::{
    Rows, WEIGHTED, affine_code, make_qkx_quants, make_qx_quants, rows_of_blocks, symmetric_code,
};
use super::vector::{MAX_LANES, Vector};
use crate::block::Half;

/// Weights per block.
pub(super) const N: usize = 32;

/// A type whose weights are `d * (code - ZERO)`, with codes `0..2 * ZERO`.
pub(super) trait ScaleFormat {
    type Block;
    const ZERO: u8;

    /// The block with these codes.
    fn block(d: Half, codes: &[u8; N]) -> Self::Block;
}

/// A type whose weights are `d * code + m`, with codes `0..=NMAX`.
pub(super) trait RangeFormat {
    type Block;
    const NMAX: u8;

    /// The block with these codes.
    fn block(d: Half, m: Half, codes: &[u8; N]) -> Self::Block;
}

/// Encodes blocks of a type with a scale.
#[inline(always)]
pub(super) fn encode_scale<F: ScaleFormat, V: Vector>(
    weights: &[[f32; N]],
    importance: Importance<'_, N>,
    blocks: &mut [F::Block],
) -> bool {
    let mut finite = true;
    let Some(importance) = importance else {
        for (weights, block) in weights.iter().zip(blocks) {
            let (d, codes) = by_magnitude::<V>(weights, F::ZERO);
            let d = Half::from_f32(d);
            *block = F::block(d, &codes);
            finite &= d.is_finite();
        }
        return finite;
    };
    let mut sigma = RowSigma::default();
    for (group, (some, blocks)) in weights.chunks(V::LANES).zip(blocks.chunks_mut(V::LANES)).enumerate() {
        let x: Rows<V, N> = rows_of_blocks(some);
        let w = sigma.weigh(&x, weights, importance, group * V::LANES, some.len());
        let fit = make_qx_quants(f32::from(F::ZERO), &x, &w);
        let (mut d, mut iscale) = ([0.0; MAX_LANES], [0.0; MAX_LANES]);
        fit.scale.store(&mut d);
        fit.iscale.store(&mut iscale);
        for (lane, (weights, block)) in some.iter().zip(blocks).enumerate() {
            let codes = weights.map(|x| symmetric_code(x, iscale[lane], i32::from(F::ZERO)));
            let d = Half::from_f32(d[lane]);
            *block = F::block(d, &codes);
            finite &= d.is_finite();
        }
    }
    finite
}

/// Encodes blocks of a type with a scale and a minimum.
#[inline(always)]
pub(super) fn encode_range<F: RangeFormat, V: Vector>(
    weights: &[[f32; N]],
    importance: Importance<'_, N>,
    blocks: &mut [F::Block],
) -> bool {
    let mut finite = true;
    let Some(importance) = importance else {
        for (weights, block) in weights.iter().zip(blocks) {
            let (d, m, codes) = by_range::<V>(weights, F::NMAX);
            let (d, m) = (Half::from_f32(d), Half::from_f32(m));
            *block = F::block(d, m, &codes);
            finite &= d.is_finite() & m.is_finite();
        }
        return finite;
    };
    let nmax = f32::from(F::NMAX);
    let mut sigma = RowSigma::default();
    for (group, (some, blocks)) in weights.chunks(V::LANES).zip(blocks.chunks_mut(V::LANES)).enumerate() {
        let x: Rows<V, N> = rows_of_blocks(some);
        let w = sigma.weigh(&x, weights, importance, group * V::LANES, some.len());
        let fit = make_qkx_quants::<V, N, true, false>(nmax, &x, &w, WEIGHTED);
        let mut found = [[0.0; MAX_LANES]; 5];
        for (stored, field) in found.iter_mut().zip([fit.scale, fit.min, fit.iscale, fit.base, fit.refined]) {
            field.store(stored);
        }
        for (lane, (weights, block)) in some.iter().zip(blocks).enumerate() {
            let [d, min, iscale, base, refined] = found.each_ref().map(|field| field[lane]);
            let codes = weights.map(|x| affine_code(x, iscale, base, nmax, refined != 0.0));
            let (d, m) = (Half::from_f32(d), Half::from_f32(-min));
            *block = F::block(d, m, &codes);
            finite &= d.is_finite() & m.is_finite();
        }
    }
    finite
}

/// Scale and codes of a block by the largest magnitude, which becomes the code 0.
#[inline(always)]
fn by_magnitude<V: Vector>(weights: &[f32; N], zero: u8) -> (f32, [u8; N]) {
    let (min, max) = range::<V>(weights);
    let largest = if max > -min {
        max
    } else if max < -min {
        min
    } else if max == 0.0 {
        0.0
    } else {
        // Of both signs, the first one counts.
        weights.iter().copied().find(|x| x.abs() == max).unwrap_or(max)
    };
    let d = largest / -f32::from(zero);
    let inverse = if d != 0.0 { 1.0 / d } else { 0.0 };
    let (inverse, offset) = (V::splat(inverse), V::splat(f32::from(zero) + 0.5));
    let mut codes = [0; N];
    for at in (0..N).step_by(V::LANES) {
        (V::load(&weights[at..]) * inverse + offset).to_bytes(&mut codes[at..]);
    }
    (d, codes.map(|code| code.min(2 * zero - 1)))
}

/// Scale, minimum and codes of a block by its range.
#[inline(always)]
fn by_range<V: Vector>(weights: &[f32; N], nmax: u8) -> (f32, f32, [u8; N]) {
    let (mut min, max) = range::<V>(weights);
    if min == 0.0 {
        // Of zeros of both signs, the first one counts.
        min = weights.iter().copied().find(|&x| x == 0.0).unwrap_or(min);
    }
    // Nor may the sign of a zero show in the scale.
    let d = if max == min { 0.0 } else { (max - min) / f32::from(nmax) };
    let inverse = if d != 0.0 { 1.0 / d } else { 0.0 };
    let (inverse, low, half) = (V::splat(inverse), V::splat(min), V::splat(0.5));
    let mut codes = [0; N];
    for at in (0..N).step_by(V::LANES) {
        ((V::load(&weights[at..]) - low) * inverse + half).to_bytes(&mut codes[at..]);
    }
    (d, min, codes)
}

/// Smallest and largest weight; zeros of any sign.
#[inline(always)]
fn range<V: Vector>(weights: &[f32; N]) -> (f32, f32) {
    let first = V::load(weights);
    let (mut min, mut max) = (first, first);
    for at in (V::LANES..N).step_by(V::LANES) {
        let x = V::load(&weights[at..]);
        (min, max) = (x.min(min), x.max(max));
    }
    (min.reduce_min(), max.reduce_max())
}

/// The mean square of the row that was asked for last.
#[derive(Default)]
struct RowSigma {
    row: Option<usize>,
    sigma2: f32,
}

impl RowSigma {
    /// `importance * sqrt(sigma^2 + x^2)` of `count` blocks from number `first` on, `x` being their weights and
    /// `sigma^2` the mean square of the whole row.
    #[inline(always)]
    fn weigh<V: Vector>(
        &mut self,
        x: &Rows<V, N>,
        weights: &[[f32; N]],
        importance: &[[f32; N]],
        first: usize,
        count: usize,
    ) -> Rows<V, N> {
        let per_row = importance.len();
        let (mut lanes, mut sigmas) = ([[0.0; N]; MAX_LANES], [0.0; MAX_LANES]);
        for lane in 0..count {
            let (row, column) = ((first + lane) / per_row, (first + lane) % per_row);
            if self.row != Some(row) {
                let weights = weights[row * per_row..][..per_row].as_flattened();
                self.row = Some(row);
                self.sigma2 = weights.iter().fold(0.0, |sum, x| sum + x * x) / weights.len() as f32;
            }
            lanes[lane] = importance[column];
            sigmas[lane] = self.sigma2;
        }
        let mut w: Rows<V, N> = rows_of_blocks(&lanes);
        let sigma2 = V::load(&sigmas);
        for i in 0..N {
            w[i] = w[i] * (sigma2 + x[i] * x[i]).sqrt();
        }
        w
    }
}

/// 4-bit codes as they are stored: weight `l` in the low nibble of byte `l`, weight `l + 16` in the high one.
#[inline(always)]
pub(super) fn pack_nibbles(codes: &[u8; N]) -> [u8; 16] {
    std::array::from_fn(|l| (codes[l] & 0xf) | codes[l + 16] << 4)
}

/// The fifth bits of the codes as they are stored, bit `l` of weight `l`.
#[inline(always)]
pub(super) fn fifth_bits(codes: &[u8; N]) -> [u8; 4] {
    let bits = codes.iter().enumerate().fold(0, |bits, (l, &code)| bits | u32::from(code >> 4 & 1) << l);
    bits.to_le_bytes()
}

/// The 5-bit codes of a block from its fifth bits and nibbles.
#[inline(always)]
pub(super) fn unpack_five_bits(high: &[u8; 4], nibbles: &[u8; 16]) -> [u8; N] {
    let mut codes = [0; N];
    for l in 0..16 {
        (codes[l], codes[l + 16]) = (nibbles[l] & 0xf, nibbles[l] >> 4);
    }
    for (code, l) in codes.iter_mut().zip(0..) {
        // As a comparison of bytes it needs no number wider than a byte.
        *code |= if high[l / 8] & 1 << (l % 8) != 0 { 16 } else { 0 };
    }
    codes
}
