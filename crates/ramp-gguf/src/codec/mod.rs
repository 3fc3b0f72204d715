//! Block codecs: weights to stored bytes and back, exactly as ggml does it.

mod affine_block;
pub(crate) mod binary16;
mod float;
mod grid;
mod iq4_nl;
mod iq4_xs;
mod kernel;
mod legacy;
mod q2_k;
mod q3_k;
mod q4_0;
mod q4_1;
mod q4_k;
mod q5_0;
mod q5_1;
mod q5_k;
mod q6_k;
mod q8_0;
mod search;
mod vector;

use std::marker::PhantomData;

use bytemuck::Pod;
pub use grid::{BlockGrid, block_grid, has_grid, set_codes};
pub use kernel::{Vectorize, vectorized};
use rayon::prelude::*;

use self::kernel::{Decode, Encode, Isa, RowCodec, kernels};
use self::vector::Vector;
use crate::{Error, GgmlType, Result};

/// Weights per super-block of the K types (`QK_K`).
const QK_K: usize = 256;

/// Super-blocks whose sub-blocks are searched together. Enough to fill the lanes with one number per super-block.
const GROUP: usize = 16;

/// The largest number of binary16.
const F16_MAX: f32 = 65504.0;

/// Weights of a task: a multiple of every block size, large enough to outweigh the cost of a task.
const WEIGHTS_PER_TASK: usize = 1 << 14;

/// As [`WEIGHTS_PER_TASK`], for decoders, which are many times faster.
const WEIGHTS_PER_DECODE: usize = 1 << 16;

/// Importance of the columns of a row, block by block.
type Importance<'a, const W: usize> = Option<&'a [[f32; W]]>;

/// One block type of `W` weights. The unit of thought of every codec file.
trait BlockCodec<const W: usize> {
    /// What a block is stored as.
    type Block: Pod;

    /// The largest magnitude that a stored weight can have: largest scale times largest code. Beyond it the
    /// sums of the search overflow, and can end in a block of zeros instead of an infinite scale.
    const MAX: f32;

    /// Writes blocks of whole rows and says whether their scales are finite.
    fn encode<V: Vector>(
        weights: &[[f32; W]],
        importance: Importance<'_, W>,
        blocks: &mut [Self::Block],
    ) -> bool;

    /// Reads one block.
    fn decode<V: Vector>(block: &Self::Block, weights: &mut [f32; W]);
}

/// The bits of the largest magnitude, which are ordered as the magnitudes are: above those of infinity for NaN.
#[inline(always)]
fn largest_magnitude(weights: &[f32]) -> u32 {
    weights.iter().fold(0, |max, weight| max.max(weight.abs().to_bits()))
}

/// Writes `d * code - m` for each code.
#[inline(always)]
fn scale_codes<V: Vector>(d: f32, m: f32, codes: &[u8], weights: &mut [f32]) {
    let (d, m) = (V::splat(d), V::splat(m));
    for (codes, weights) in codes.chunks_exact(V::LANES).zip(weights.chunks_exact_mut(V::LANES)) {
        (d * V::from_bytes(codes) - m).store(weights);
    }
}

/// Writes `d * (code - zero)` for each code.
#[inline(always)]
fn scale_centered_codes<V: Vector>(d: f32, zero: f32, codes: &[u8], weights: &mut [f32]) {
    let (d, zero) = (V::splat(d), V::splat(zero));
    for (codes, weights) in codes.chunks_exact(V::LANES).zip(weights.chunks_exact_mut(V::LANES)) {
        (d * (V::from_bytes(codes) - zero)).store(weights);
    }
}

/// Writes what `value` makes of codes of 4 bits: of those in the low nibbles of `bytes` to `low`, of those in the high
/// nibbles to `high`. All three have the same length.
#[inline(always)]
fn map_nibbles<V: Vector>(
    bytes: &[u8],
    low: &mut [f32],
    high: &mut [f32],
    read: impl Fn(&[u8]) -> (V, V),
    value: impl Fn((V, V)) -> (V, V),
) {
    let bytes = bytes.chunks_exact(V::LANES);
    for ((bytes, low), high) in bytes.zip(low.chunks_exact_mut(V::LANES)).zip(high.chunks_exact_mut(V::LANES))
    {
        let (a, b) = value(read(bytes));
        a.store(low);
        b.store(high);
    }
}

/// Writes `d * code - m` for codes of 4 bits: those in the low nibbles of `bytes`, with the first `d` and `m`, to the
/// first half of `weights`, those in the high nibbles, with the second, to the other half.
#[inline(always)]
fn scale_nibbles<V: Vector>(d: [f32; 2], m: [f32; 2], bytes: &[u8], weights: &mut [f32]) {
    let (d, m) = (d.map(V::splat), m.map(V::splat));
    let (low, high) = weights.split_at_mut(bytes.len());
    map_nibbles(bytes, low, high, V::from_nibbles, |(a, b)| (d[0] * a - m[0], d[1] * b - m[1]));
}

/// As [`scale_nibbles`], but `d * (code - zero)`.
#[inline(always)]
fn scale_centered_nibbles<V: Vector>(d: f32, zero: f32, bytes: &[u8; 16], weights: &mut [f32; 32]) {
    let (d, zero) = (V::splat(d), V::splat(zero));
    let (low, high) = weights.split_at_mut(16);
    map_nibbles(bytes, low, high, V::from_nibbles, |(a, b)| (d * (a - zero), d * (b - zero)));
}

/// As [`scale_nibbles`], but `d * value` for the value of IQ4's codebook that each code stands for.
#[inline(always)]
fn scale_kvalues<V: Vector>(d: f32, bytes: &[u8; 16], weights: &mut [f32; 32]) {
    let d = V::splat(d);
    let (low, high) = weights.split_at_mut(16);
    map_nibbles(bytes, low, high, V::kvalues, |(a, b)| (d * a, d * b));
}

/// A block type as a codec of rows.
struct Blocks<C, const W: usize>(PhantomData<C>);

impl<C: BlockCodec<W>, const W: usize> RowCodec for Blocks<C, W> {
    #[inline(always)]
    fn encode<V: Vector>(weights: &[f32], imatrix: Option<&[f32]>, bytes: &mut [u8]) -> bool {
        if largest_magnitude(weights) > C::MAX.to_bits() {
            return false;
        }
        let importance = imatrix.map(|imatrix| imatrix.as_chunks::<W>().0);
        C::encode::<V>(weights.as_chunks().0, importance, bytemuck::cast_slice_mut(bytes))
    }

    #[inline(always)]
    fn decode<V: Vector>(bytes: &[u8], weights: &mut [f32]) {
        let blocks: &[C::Block] = bytemuck::cast_slice(bytes);
        for (block, weights) in blocks.iter().zip(weights.as_chunks_mut::<W>().0) {
            C::decode::<V>(block, weights);
        }
    }
}

/// Encoder and decoder of a type, and `None` for types without a codec.
fn codec(ty: GgmlType, isa: Isa) -> Option<(Encode, Decode)> {
    Some(match ty {
        GgmlType::F32 => kernels::<float::F32>(isa),
        GgmlType::F16 => kernels::<float::F16>(isa),
        GgmlType::BF16 => kernels::<float::Bf16>(isa),
        GgmlType::Q4_0 => kernels::<Blocks<q4_0::Q4_0, _>>(isa),
        GgmlType::Q4_1 => kernels::<Blocks<q4_1::Q4_1, _>>(isa),
        GgmlType::Q5_0 => kernels::<Blocks<q5_0::Q5_0, _>>(isa),
        GgmlType::Q5_1 => kernels::<Blocks<q5_1::Q5_1, _>>(isa),
        GgmlType::Q8_0 => kernels::<Blocks<q8_0::Q8_0, _>>(isa),
        GgmlType::Q2_K => kernels::<Blocks<q2_k::Q2K, _>>(isa),
        GgmlType::Q3_K => kernels::<Blocks<q3_k::Q3K, _>>(isa),
        GgmlType::Q4_K => kernels::<Blocks<q4_k::Q4K, _>>(isa),
        GgmlType::Q5_K => kernels::<Blocks<q5_k::Q5K, _>>(isa),
        GgmlType::Q6_K => kernels::<Blocks<q6_k::Q6K, _>>(isa),
        GgmlType::IQ4_NL => kernels::<Blocks<iq4_nl::Iq4Nl, _>>(isa),
        GgmlType::IQ4_XS => kernels::<Blocks<iq4_xs::Iq4Xs, _>>(isa),
        _ => return None,
    })
}

/// `sum x^2` of each super-block of a group, in the order of its weights. The sums run side by side, because each of
/// them waits for its own last term.
#[inline(always)]
fn sums_of_squares(weights: &[[f32; QK_K]]) -> [f32; GROUP] {
    let mut sums = [0.0; GROUP];
    for (some, sums) in weights.chunks(4).zip(sums.as_chunks_mut::<4>().0) {
        if let [a, b, c, d] = some {
            for i in 0..QK_K {
                sums[0] += a[i] * a[i];
                sums[1] += b[i] * b[i];
                sums[2] += c[i] * c[i];
                sums[3] += d[i] * d[i];
            }
        } else {
            for (sum, weights) in sums.iter_mut().zip(some) {
                *sum = weights.iter().fold(0.0, |sum, x| sum + x * x);
            }
        }
    }
    sums
}

/// Encodes a row-major matrix `[rows, n_per_row]`, row after row, without padding.
///
/// The bytes are those of `ggml_quantize_chunk` built without contraction of floating-point operations (what
/// every stock x86-64 build of llama.cpp does), on any number of threads.
///
/// `imatrix` has one weight per column, the mean squared activation, and stands for all rows. The types with a search
/// minimise the error that it weights: the K types, the IQ4 types, and Q4_0 to Q5_1, which have a search only with
/// it. Q8_0, F16, BF16 and F32 ignore it.
///
/// ```
/// use ramp_gguf::{GgmlType, decode, encode};
/// let weights: Vec<f32> = (0..512).map(|i| (i as f32 * 0.1).sin()).collect();
/// let importance = vec![1.0; 256];
/// let bytes = encode(GgmlType::Q4_K, &weights, 256, Some(&importance))?;
/// assert_eq!(bytes.len(), 2 * 144);
///
/// let mut decoded = vec![0.0; 512];
/// decode(GgmlType::Q4_K, &bytes, &mut decoded)?;
/// assert!(weights.iter().zip(&decoded).all(|(a, b)| (a - b).abs() < 0.1));
/// # Ok::<(), ramp_gguf::Error>(())
/// ```
///
/// # Errors
/// [`Error::CannotEncode`], [`Error::NotWholeRows`], [`Error::RowNotBlockMultiple`]; [`Error::ImatrixLength`] and
/// [`Error::ImatrixValue`]; [`Error::NonFiniteWeight`] and [`Error::WeightRange`] for the first row that cannot
/// be stored.
pub fn encode(ty: GgmlType, src: &[f32], n_per_row: usize, imatrix: Option<&[f32]>) -> Result<Vec<u8>> {
    let rows = check_source(ty, src, n_per_row, imatrix)?;
    let bytes = usize::try_from(ty.tensor_bytes(rows, n_per_row)?)
        .map_err(|_| Error::SizeOverflow { what: "the bytes of a tensor" })?;
    let mut dst = vec![0; bytes];
    encode_rows(ty, src, n_per_row, imatrix, &mut dst)?;
    Ok(dst)
}

/// As [`encode`], into a buffer that the caller keeps between tensors.
///
/// # Errors
/// As [`encode`], and [`Error::EncodedLength`] when `dst` has another length than the rows need. After an error
/// the contents of `dst` are unspecified.
pub fn encode_into(
    ty: GgmlType,
    src: &[f32],
    n_per_row: usize,
    imatrix: Option<&[f32]>,
    dst: &mut [u8],
) -> Result<()> {
    let rows = check_source(ty, src, n_per_row, imatrix)?;
    let (expected, found) = (ty.tensor_bytes(rows, n_per_row)?, dst.len() as u64);
    if expected != found {
        return Err(Error::EncodedLength { ty, expected, found });
    }
    encode_rows(ty, src, n_per_row, imatrix, dst)
}

/// Decodes whole blocks into `dst`, one value per weight, on any number of threads.
///
/// Scales are taken as they are: a block whose stored scale is infinite or NaN decodes to such values.
///
/// # Errors
/// [`Error::CannotDecode`]; [`Error::RowNotBlockMultiple`] when `dst` is not whole blocks;
/// [`Error::EncodedLength`] when `bytes` has another length than `dst` needs.
pub fn decode(ty: GgmlType, bytes: &[u8], dst: &mut [f32]) -> Result<()> {
    let (expected, found) = (ty.row_bytes(dst.len())? as u64, bytes.len() as u64);
    if expected != found {
        return Err(Error::EncodedLength { ty, expected, found });
    }
    let (_, decode) = codec(ty, Isa::best()).ok_or(Error::CannotDecode { ty })?;
    let bytes_per_task = WEIGHTS_PER_DECODE / ty.block_size() * ty.type_size();
    dst.par_chunks_mut(WEIGHTS_PER_DECODE)
        .zip(bytes.par_chunks(bytes_per_task))
        .for_each(|(weights, bytes)| decode(bytes, weights));
    Ok(())
}

/// Checks everything but the weights themselves and returns the number of rows.
fn check_source(ty: GgmlType, src: &[f32], n_per_row: usize, imatrix: Option<&[f32]>) -> Result<usize> {
    if !ty.can_encode() {
        return Err(Error::CannotEncode { ty });
    }
    if n_per_row == 0 || !src.len().is_multiple_of(n_per_row) {
        return Err(Error::NotWholeRows { len: src.len(), n_per_row });
    }
    ty.row_bytes(n_per_row)?;
    if let Some(imatrix) = imatrix {
        if imatrix.len() != n_per_row {
            return Err(Error::ImatrixLength { expected: n_per_row, found: imatrix.len() });
        }
        let bad = imatrix.iter().enumerate().find(|(_, value)| !value.is_finite() || **value < 0.0);
        if let Some((column, &value)) = bad {
            return Err(Error::ImatrixValue { column, value });
        }
    }
    Ok(src.len() / n_per_row)
}

fn encode_rows(
    ty: GgmlType,
    src: &[f32],
    n_per_row: usize,
    imatrix: Option<&[f32]>,
    dst: &mut [u8],
) -> Result<()> {
    let (encode, _) = codec(ty, Isa::best()).ok_or(Error::CannotEncode { ty })?;
    let rows_per_task = (WEIGHTS_PER_TASK / n_per_row).max(1);
    let row_bytes = ty.row_bytes(n_per_row)?;
    // The first failing task, so that the error does not depend on the order of the threads.
    src.par_chunks(n_per_row * rows_per_task)
        .zip(dst.par_chunks_mut(row_bytes * rows_per_task))
        .enumerate()
        .find_map_first(|(task, (weights, bytes))| {
            if encode(weights, imatrix, bytes) {
                return None;
            }
            let rows = weights.chunks(n_per_row).zip(bytes.chunks_mut(row_bytes));
            rows.enumerate().find_map(|(row, (weights, bytes))| {
                row_error(ty, encode, task * rows_per_task + row, weights, imatrix, bytes)
            })
        })
        .map_or(Ok(()), Err)
}

/// What is wrong with a row, if anything: its first weight that is no number, or its first block that does not fit.
fn row_error(
    ty: GgmlType,
    encode: Encode,
    row: usize,
    weights: &[f32],
    imatrix: Option<&[f32]>,
    bytes: &mut [u8],
) -> Option<Error> {
    if let Some(column) = weights.iter().position(|weight| !weight.is_finite()) {
        return Some(Error::NonFiniteWeight { row, column, value: weights[column] });
    }
    if encode(weights, imatrix, bytes) {
        return None;
    }
    // A block alone as a row of its own. Where the scale of a block depends on the whole row, the row as a whole.
    let (w, b) = (ty.block_size(), ty.type_size());
    let column = (0..weights.len()).step_by(w).zip(bytes.chunks_mut(b)).find_map(|(column, bytes)| {
        let imatrix = imatrix.map(|imatrix| &imatrix[column..column + w]);
        (!encode(&weights[column..column + w], imatrix, bytes)).then_some(column)
    });
    Some(Error::WeightRange { ty, row, column: column.unwrap_or(0) })
}

#[cfg(test)]
mod golden_tests;
#[cfg(test)]
mod oracle;
#[cfg(test)]
mod tests;
