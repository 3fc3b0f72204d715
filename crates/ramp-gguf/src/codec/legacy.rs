//! What Q4_0, Q4_1, Q5_0 and Q5_1 share: blocks of 32 weights without super-blocks.
//!
//! Without importance there is no search: the scale follows from the largest magnitude or from the range. With it,
//! the types search as the K types do.

use super::search::{
    Rows, WEIGHTED, affine_code, make_qkx_quants, make_qx_quants, rows_of_blocks, symmetric_code,
};
use super::vector::{MAX_LANES, Vector};

/// Weights per block.
pub(super) const N: usize = 32;

/// Scale and codes of a block by the largest magnitude, which becomes the code 0 (`nmax` is the code of 0.0).
#[inline(always)]
pub(super) fn by_magnitude(weights: &[f32; N], nmax: u8) -> (f32, [u8; N]) {
    let (mut amax, mut max) = (0.0_f32, 0.0);
    for &x in weights {
        (amax, max) = if amax < x.abs() { (x.abs(), x) } else { (amax, max) };
    }
    let d = max / -f32::from(nmax);
    let inverse = if d != 0.0 { 1.0 / d } else { 0.0 };
    let (offset, top) = (f32::from(nmax) + 0.5, (2 * nmax - 1) as i8);
    (d, weights.map(|x| truncate(x * inverse + offset).min(top) as u8))
}

/// Scale, minimum and codes of a block by its range; `nmax` is the largest code.
#[inline(always)]
pub(super) fn by_range(weights: &[f32; N], nmax: u8) -> (f32, f32, [u8; N]) {
    let (mut min, mut max) = (f32::MAX, -f32::MAX);
    for &x in weights {
        min = if x < min { x } else { min };
        max = if x > max { x } else { max };
    }
    let d = (max - min) / f32::from(nmax);
    let inverse = if d != 0.0 { 1.0 / d } else { 0.0 };
    (d, min, weights.map(|x| truncate((x - min) * inverse + 0.5) as u8))
}

/// The low byte of the integer part, and 0 for numbers that are no `int`: what a C compiler makes of `(int8_t)` on
/// x86-64. Such numbers come from scales so small that their inverse is infinite.
#[inline(always)]
pub(super) fn truncate(value: f32) -> i8 {
    if value.abs() < 2_147_483_648.0 { value as i32 as i8 } else { 0 }
}

/// Encodes blocks by the search for a scale, weighted by importance. `write` gets scale and codes, and says whether
/// what it stored is finite.
#[inline(always)]
pub(super) fn search_scale<V: Vector, const B: usize>(
    nmax: u8,
    weights: &[[f32; N]],
    importance: &[[f32; N]],
    blocks: &mut [[u8; B]],
    write: impl Fn(f32, &[u8; N], &mut [u8; B]) -> bool,
) -> bool {
    let mut finite = true;
    each_group::<V, B>(weights, importance, blocks, |weights, x, w, blocks| {
        let fit = make_qx_quants(f32::from(nmax), x, w);
        let (mut d, mut iscale) = ([0.0; MAX_LANES], [0.0; MAX_LANES]);
        fit.scale.store(&mut d);
        fit.iscale.store(&mut iscale);
        for (lane, (weights, block)) in weights.iter().zip(blocks).enumerate() {
            let codes = weights.map(|x| symmetric_code(x, iscale[lane], i32::from(nmax)));
            finite &= write(d[lane], &codes, block);
        }
    });
    finite
}

/// As [`search_scale`], for a scale and a minimum. `write` gets scale, minimum and codes.
#[inline(always)]
pub(super) fn search_range<V: Vector, const B: usize>(
    nmax: u8,
    weights: &[[f32; N]],
    importance: &[[f32; N]],
    blocks: &mut [[u8; B]],
    write: impl Fn(f32, f32, &[u8; N], &mut [u8; B]) -> bool,
) -> bool {
    let nmax = f32::from(nmax);
    let mut finite = true;
    each_group::<V, B>(weights, importance, blocks, |weights, x, w, blocks| {
        let fit = make_qkx_quants::<V, N, true, false>(nmax, x, w, WEIGHTED);
        let mut found = [[0.0; MAX_LANES]; 5];
        let fields = [fit.scale, fit.min, fit.iscale, fit.base, fit.refined];
        for (stored, field) in found.iter_mut().zip(fields) {
            field.store(stored);
        }
        for (lane, (weights, block)) in weights.iter().zip(blocks).enumerate() {
            let [d, min, iscale, base, refined] = found.each_ref().map(|field| field[lane]);
            let codes = weights.map(|x| affine_code(x, iscale, base, nmax, refined != 0.0));
            finite &= write(d, -min, &codes, block);
        }
    });
    finite
}

/// Calls `fit` with groups of blocks: weights, the same as lanes, and `importance * sqrt(sigma^2 + x^2)`, `sigma^2`
/// being the mean square of the whole row.
#[inline(always)]
fn each_group<V: Vector, const B: usize>(
    weights: &[[f32; N]],
    importance: &[[f32; N]],
    blocks: &mut [[u8; B]],
    mut fit: impl FnMut(&[[f32; N]], &Rows<V, N>, &Rows<V, N>, &mut [[u8; B]]),
) {
    let per_row = importance.len();
    let (mut row, mut sigma2) = (usize::MAX, 0.0);
    for (group, (some, blocks)) in weights.chunks(V::LANES).zip(blocks.chunks_mut(V::LANES)).enumerate() {
        let (mut lanes, mut sigmas) = ([[0.0; N]; MAX_LANES], [0.0; MAX_LANES]);
        for lane in 0..some.len() {
            let block = group * V::LANES + lane;
            if block / per_row != row {
                row = block / per_row;
                let row = weights[row * per_row..][..per_row].as_flattened();
                sigma2 = row.iter().fold(0.0, |sum, x| sum + x * x) / row.len() as f32;
            }
            lanes[lane] = importance[block % per_row];
            sigmas[lane] = sigma2;
        }
        let (x, w): (Rows<V, N>, Rows<V, N>) = (rows_of_blocks(some), rows_of_blocks(&lanes));
        let sigma2 = V::load(&sigmas);
        let w = std::array::from_fn(|i| w[i] * (sigma2 + x[i] * x[i]).sqrt());
        fit(some, &x, &w, blocks);
    }
}

/// Stores 4-bit codes: weight `l` in the low nibble of byte `l`, weight `l + 16` in the high one.
#[inline(always)]
pub(super) fn pack_nibbles(codes: &[u8; N], bytes: &mut [u8]) {
    for (l, byte) in bytes[..16].iter_mut().enumerate() {
        *byte = (codes[l] & 0xf) | codes[l + 16] << 4;
    }
}

/// The fifth bits of the codes as a number, bit `l` of weight `l`.
#[inline(always)]
pub(super) fn fifth_bits(codes: &[u8; N]) -> u32 {
    codes.iter().enumerate().fold(0, |bits, (l, &code)| bits | u32::from(code >> 4 & 1) << l)
}

/// The 5-bit codes of a block from its fifth bits and nibbles.
#[inline(always)]
pub(super) fn unpack_five_bits(high: &[u8], nibbles: &[u8]) -> [u8; N] {
    let bits = u32::from_le_bytes([high[0], high[1], high[2], high[3]]);
    std::array::from_fn(|l| {
        let low = if l < 16 { nibbles[l] & 0xf } else { nibbles[l - 16] >> 4 };
        low | ((bits >> l & 1) as u8) << 4
    })
}
