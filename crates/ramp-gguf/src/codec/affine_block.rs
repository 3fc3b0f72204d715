//! What Q2_K, Q4_K and Q5_K share: super-blocks whose sub-blocks have an integer scale and an integer minimum.

use super::search::{
    AffineFit, AffineSearch, Rows, WEIGHTED, affine_code, make_qkx_quants, make_qp_quants, rows, squares, sum,
};
use super::vector::{MAX_LANES, Vector, nearest_int};
use super::{GROUP, Importance, QK_K, sums_of_squares};
use crate::block::Half;

/// What tells the types apart: `S` sub-blocks of `N` weights.
pub(super) trait AffineFormat<const S: usize, const N: usize> {
    /// The largest code of a weight.
    const NMAX: f32;
    /// The largest code of a scale or a minimum.
    const SCALE_MAX: f32;
    /// The search without importance.
    const SEARCH: AffineSearch;
    /// Whether that search takes the magnitude of errors in place of their square.
    const MAD: bool;
    /// `sigma^2` of the search with importance, in mean squares of the super-block.
    const SIGMA: f32;
    /// Scales and minima as they are stored.
    type Packed: Copy;
    /// The block.
    type Block;

    /// Weights of the error without importance.
    fn own_weights<V: Vector>(x: &Rows<V, N>) -> Rows<V, N>;

    /// Stores the codes of scales and minima, which hold what ggml's `uint8_t` does. `weighted` is whether they
    /// come from the search with importance.
    fn pack(scales: [u8; S], mins: [u8; S], weighted: bool) -> Self::Packed;

    /// Scale and minimum of sub-block `j`, as they are read.
    fn unpack(packed: &Self::Packed, j: usize) -> (u8, u8);

    /// Stores a super-block.
    fn write(fit: &SuperBlock<Self::Packed>, block: &mut Self::Block);
}

/// A super-block before its codes are packed.
pub(super) struct SuperBlock<P> {
    /// The scale of scales and the scale of minima.
    pub(super) d: Half,
    pub(super) dmin: Half,
    pub(super) packed: P,
    /// One code per weight, in order.
    pub(super) codes: [u8; QK_K],
}

impl<P> SuperBlock<P> {
    /// Whether the block decodes to finite weights.
    fn is_finite(&self) -> bool {
        self.d.is_finite() && self.dmin.is_finite()
    }
}

/// One number per sub-block of a group of super-blocks.
type PerSubBlock<const S: usize> = [[f32; S]; GROUP];

/// Everything that the searches find in a group.
struct Found<const S: usize> {
    scales: PerSubBlock<S>,
    mins: PerSubBlock<S>,
    sum_w: PerSubBlock<S>,
    iscale: PerSubBlock<S>,
    base: PerSubBlock<S>,
    refined: PerSubBlock<S>,
}

impl<const S: usize> Found<S> {
    #[inline(always)]
    fn store<V: Vector>(&mut self, at: usize, fit: &AffineFit<V>) {
        let fields = [
            (&mut self.scales, fit.scale),
            (&mut self.mins, fit.min),
            (&mut self.sum_w, fit.sum_w),
            (&mut self.iscale, fit.iscale),
            (&mut self.base, fit.base),
            (&mut self.refined, fit.refined),
        ];
        for (field, value) in fields {
            value.store(&mut field.as_flattened_mut()[at..]);
        }
    }
}

/// Encodes super-blocks. Says whether all of them decode to finite weights.
#[inline(always)]
pub(super) fn encode<F: AffineFormat<S, N>, V: Vector, const S: usize, const N: usize>(
    weights: &[[f32; QK_K]],
    importance: Importance<'_, QK_K>,
    blocks: &mut [F::Block],
) -> bool {
    let mut finite = true;
    for (group, (weights, blocks)) in weights.chunks(GROUP).zip(blocks.chunks_mut(GROUP)).enumerate() {
        let zero = [[0.0; S]; GROUP];
        let mut found =
            Found { scales: zero, mins: zero, sum_w: zero, iscale: zero, base: zero, refined: zero };
        let all = weights.as_flattened();
        let weighted = importance.is_some();
        let mut w = [0.0; GROUP * QK_K];
        if let Some(importance) = importance {
            importance_weights(F::SIGMA, weights, group * GROUP, importance, &mut w);
        }
        for at in (0..weights.len() * S).step_by(V::LANES) {
            let x: Rows<V, N> = rows(&all[at * N..]);
            let fit = if weighted {
                let w = rows(&w[at * N..all.len()]);
                make_qkx_quants::<V, N, true, false>(F::NMAX, &x, &w, WEIGHTED)
            } else {
                let w = F::own_weights(&x);
                if F::MAD {
                    make_qkx_quants::<V, N, false, true>(F::NMAX, &x, &w, F::SEARCH)
                } else {
                    make_qkx_quants::<V, N, false, false>(F::NMAX, &x, &w, F::SEARCH)
                }
            };
            found.store(at, &fit);
        }

        let integers = if weighted {
            searched_scales::<V, S>(F::SCALE_MAX, &found)
        } else {
            nearest_scales(F::SCALE_MAX, &found)
        };
        for (i, ((weights, block), integers)) in weights.iter().zip(blocks).zip(integers).enumerate() {
            let packed = F::pack(integers.scales, integers.mins, weighted);
            let mut fit = SuperBlock {
                d: Half::from_f32(integers.d),
                dmin: Half::from_f32(integers.dmin),
                packed,
                codes: [0; QK_K],
            };
            requantize::<F, S, N>(&mut fit, weights, &found, i, weighted);
            finite &= fit.is_finite();
            F::write(&fit, block);
        }
    }
    finite
}

/// `importance * sqrt(sigma^2 + x^2)` of super-blocks from number `first` on.
#[inline(always)]
pub(super) fn importance_weights(
    sigma: f32,
    weights: &[[f32; QK_K]],
    first: usize,
    importance: &[[f32; QK_K]],
    w: &mut [f32; GROUP * QK_K],
) {
    let sums = sums_of_squares(weights);
    for (i, ((weights, sum), w)) in weights.iter().zip(sums).zip(w.as_chunks_mut::<QK_K>().0).enumerate() {
        let sigma2 = sigma * sum / QK_K as f32;
        let importance = &importance[(first + i) % importance.len()];
        for ((w, &x), &importance) in w.iter_mut().zip(weights).zip(importance) {
            *w = importance * (sigma2 + x * x).sqrt();
        }
    }
}

/// Codes of the scales and minima of a super-block, and the factors that multiply them.
#[derive(Copy, Clone)]
struct Integers<const S: usize> {
    d: f32,
    dmin: f32,
    scales: [u8; S],
    mins: [u8; S],
}

/// Relative to the largest scale and to the largest minimum.
#[inline(always)]
fn nearest_scales<const S: usize>(scale_max: f32, found: &Found<S>) -> [Integers<S>; GROUP] {
    let mut out = [Integers { d: 0.0, dmin: 0.0, scales: [0; S], mins: [0; S] }; GROUP];
    for (out, (scales, mins)) in out.iter_mut().zip(found.scales.iter().zip(&found.mins)) {
        (out.d, out.scales) = nearest(scale_max, scales);
        (out.dmin, out.mins) = nearest(scale_max, mins);
    }
    out
}

#[inline(always)]
fn nearest<const S: usize>(scale_max: f32, x: &[f32; S]) -> (f32, [u8; S]) {
    let max = x.iter().fold(0.0_f32, |max, &x| if x > max { x } else { max });
    let inverse = if max > 0.0 { scale_max / max } else { 0.0 };
    (max / scale_max, x.map(|x| nearest_int(inverse * x) as u8))
}

/// By a search that weights each sub-block with the sum of its weights. Scales and minima of all super-blocks are
/// lanes.
#[inline(always)]
fn searched_scales<V: Vector, const S: usize>(scale_max: f32, found: &Found<S>) -> [Integers<S>; GROUP] {
    let mut out = [Integers { d: 0.0, dmin: 0.0, scales: [0; S], mins: [0; S] }; GROUP];
    let (mut buffer, mut factors) = ([0.0; MAX_LANES], [0.0; MAX_LANES]);
    for (half, x) in [&found.scales, &found.mins].into_iter().enumerate() {
        for first in (0..GROUP).step_by(V::LANES) {
            let x: Rows<V, S> = rows(x[first..].as_flattened());
            let w: Rows<V, S> = rows(found.sum_w[first..].as_flattened());
            let mut codes = [V::zero(); S];
            make_qp_quants(scale_max, &x, &w, &mut codes).store(&mut factors);
            for (j, codes) in codes.iter().enumerate() {
                codes.store(&mut buffer);
                for (block, &code) in out[first..].iter_mut().take(V::LANES).zip(&buffer) {
                    if half == 0 { block.scales[j] = code as u8 } else { block.mins[j] = code as u8 }
                }
            }
            for (block, &factor) in out[first..].iter_mut().take(V::LANES).zip(&factors) {
                if half == 0 { block.d = factor } else { block.dmin = factor }
            }
        }
    }
    out
}

/// Rounds the weights with the scales as they are stored. Sub-blocks of scale 0 have the codes of the search.
#[inline(always)]
fn requantize<F: AffineFormat<S, N>, const S: usize, const N: usize>(
    fit: &mut SuperBlock<F::Packed>,
    weights: &[f32; QK_K],
    found: &Found<S>,
    i: usize,
    weighted: bool,
) {
    let (d, dmin) = (fit.d.to_f32(), fit.dmin.to_f32());
    let (weights, codes) = (weights.as_chunks::<N>().0, fit.codes.as_chunks_mut::<N>().0);
    for (j, (codes, weights)) in codes.iter_mut().zip(weights).enumerate() {
        let (scale, min) = F::unpack(&fit.packed, j);
        let d = d * f32::from(scale);
        if d == 0.0 {
            let (iscale, base) = (found.iscale[i][j], found.base[i][j]);
            let clamp_first = weighted && found.refined[i][j] != 0.0;
            for (code, &x) in codes.iter_mut().zip(weights) {
                *code = affine_code(x, iscale, base, F::NMAX, clamp_first);
            }
            continue;
        }
        let dm = dmin * f32::from(min);
        for (code, &weight) in codes.iter_mut().zip(weights) {
            *code = nearest_int((weight + dm) / d).clamp(0, F::NMAX as i32) as u8;
        }
    }
}

/// The 6-bit scales and minima of Q4_K and Q5_K: four of each in bytes 0..8, whose top bits hold the top bits of the
/// other four, whose low nibbles share bytes 8..12.
pub(super) fn pack_k4(scales: [u8; 8], mins: [u8; 8]) -> [u8; 12] {
    let mut packed = [0; 12];
    for j in 0..4 {
        packed[j] = scales[j] | (scales[j + 4] >> 4) << 6;
        packed[j + 4] = mins[j] | (mins[j + 4] >> 4) << 6;
        packed[j + 8] = (scales[j + 4] & 0xf) | (mins[j + 4] & 0xf) << 4;
    }
    packed
}

/// Scale and minimum of sub-block `j` (`get_scale_min_k4`).
#[inline(always)]
pub(super) fn unpack_k4(packed: &[u8; 12], j: usize) -> (u8, u8) {
    if j < 4 {
        (packed[j] & 63, packed[j + 4] & 63)
    } else {
        let low = packed[j + 4];
        ((low & 0xf) | (packed[j - 4] >> 6) << 4, (low >> 4) | (packed[j] >> 6) << 4)
    }
}

/// `d * scale` and `dmin * min` of all sub-blocks of Q4_K and Q5_K. The 6-bit codes are taken apart eight at a time, as
/// bytes of a number.
#[inline(always)]
pub(super) fn sub_block_grids(d: Half, dmin: Half, packed: &[u8; 12]) -> ([f32; 8], [f32; 8]) {
    const LOW_SIX: u32 = 0x3f3f_3f3f;
    const LOW_FOUR: u32 = 0x0f0f_0f0f;
    const LOW_TWO: u32 = 0x0303_0303;
    let word = |at: usize| u32::from_le_bytes([packed[at], packed[at + 1], packed[at + 2], packed[at + 3]]);
    let (a, b, c) = (word(0), word(4), word(8));
    let both = |low: u32, high: u32| (u64::from(high) << 32 | u64::from(low)).to_le_bytes();
    let scales = both(a & LOW_SIX, (c & LOW_FOUR) | (a >> 6 & LOW_TWO) << 4);
    let mins = both(b & LOW_SIX, (c >> 4 & LOW_FOUR) | (b >> 6 & LOW_TWO) << 4);
    let (d, dmin) = (d.to_f32(), dmin.to_f32());
    (scales.map(|scale| d * f32::from(scale)), mins.map(|min| dmin * f32::from(min)))
}

/// `sqrt(mean(x^2)) + |x|` of each sub-block of 32: the weights of Q4_K's and Q5_K's error without importance.
#[inline(always)]
pub(super) fn rms_plus_magnitude<V: Vector>(x: &Rows<V, 32>) -> Rows<V, 32> {
    let rms = (sum(&squares(x)) / V::splat(32.0)).sqrt();
    let mut w = *x;
    for w in &mut w {
        *w = rms + w.abs();
    }
    w
}
