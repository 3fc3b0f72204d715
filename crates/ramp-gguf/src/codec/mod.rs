//! Block codecs: weights to stored bytes and back, exactly as ggml does it.

mod affine;
mod float;
mod grid;
mod lanes;
mod q3_k;
mod q4_k;
mod q5_k;
mod q6_k;
mod q8_0;
mod scale_search;

pub use grid::{BlockGrid, block_grid, has_grid, set_codes};
use rayon::prelude::*;

use crate::{Error, GgmlType, Result};

/// Weights per super-block of the K types (`QK_K`).
const QK_K: usize = 256;

/// The largest number of binary16.
const F16_MAX: f32 = 65504.0;

/// One block type: `W` weights in `B` bytes. The unit of thought of every codec file.
trait BlockCodec<const W: usize, const B: usize> {
    /// The largest magnitude that a stored weight can have: largest scale times largest code. Beyond it the
    /// sums of the search overflow, and can end in a block of zeros instead of an infinite scale.
    const MAX: f32;

    /// Writes one block and says whether its scales are finite. `importance` has one value per weight.
    fn encode(weights: &[f32; W], importance: Option<&[f32; W]>, block: &mut [u8; B]) -> bool;

    /// Reads one block.
    fn decode(block: &[u8; B], weights: &mut [f32; W]);
}

/// Encodes a row-major matrix `[rows, n_per_row]`, row after row, without padding.
///
/// The bytes are those of `ggml_quantize_chunk` built without contraction of floating-point operations (what
/// every stock x86-64 build of llama.cpp does), on any number of threads.
///
/// `imatrix` has one weight per column, the mean squared activation, and stands for all rows. Q3_K to Q6_K
/// minimise the error that it weights; the other types ignore it.
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
    let decode_blocks = match ty {
        GgmlType::F32 => float::decode_f32,
        GgmlType::F16 => float::decode_f16,
        GgmlType::BF16 => float::decode_bf16,
        GgmlType::Q8_0 => decode_blocks::<q8_0::Q8_0, _, _>,
        GgmlType::Q3_K => decode_blocks::<q3_k::Q3K, _, _>,
        GgmlType::Q4_K => decode_blocks::<q4_k::Q4K, _, _>,
        GgmlType::Q5_K => decode_blocks::<q5_k::Q5K, _, _>,
        GgmlType::Q6_K => decode_blocks::<q6_k::Q6K, _, _>,
        _ => return Err(Error::CannotDecode { ty }),
    };
    // A multiple of every block size, large enough to outweigh the cost of a task.
    const WEIGHTS_PER_TASK: usize = 1 << 14;
    let bytes_per_task = WEIGHTS_PER_TASK / ty.block_size() * ty.type_size();
    dst.par_chunks_mut(WEIGHTS_PER_TASK)
        .zip(bytes.par_chunks(bytes_per_task))
        .for_each(|(weights, bytes)| decode_blocks(bytes, weights));
    Ok(())
}

fn decode_blocks<C: BlockCodec<W, B>, const W: usize, const B: usize>(bytes: &[u8], weights: &mut [f32]) {
    let ((blocks, _), (weights, _)) = (bytes.as_chunks::<B>(), weights.as_chunks_mut::<W>());
    for (block, weights) in blocks.iter().zip(weights) {
        C::decode(block, weights);
    }
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

/// Encodes one row; the error is the first column of the block that does not fit the type.
type EncodeRow = fn(&[f32], Option<&[f32]>, &mut [u8]) -> std::result::Result<(), usize>;

fn encode_rows(
    ty: GgmlType,
    src: &[f32],
    n_per_row: usize,
    imatrix: Option<&[f32]>,
    dst: &mut [u8],
) -> Result<()> {
    let encode_row: EncodeRow = match ty {
        GgmlType::F32 => float::encode_f32,
        GgmlType::F16 => float::encode_f16,
        GgmlType::BF16 => float::encode_bf16,
        GgmlType::Q8_0 => encode_blocks::<q8_0::Q8_0, _, _>,
        GgmlType::Q3_K => encode_blocks::<q3_k::Q3K, _, _>,
        GgmlType::Q4_K => encode_blocks::<q4_k::Q4K, _, _>,
        GgmlType::Q5_K => encode_blocks::<q5_k::Q5K, _, _>,
        GgmlType::Q6_K => encode_blocks::<q6_k::Q6K, _, _>,
        _ => return Err(Error::CannotEncode { ty }),
    };
    // The first failing row, so that the error does not depend on the order of the threads.
    src.par_chunks(n_per_row)
        .zip(dst.par_chunks_mut(ty.row_bytes(n_per_row)?))
        .enumerate()
        .find_map_first(|(row, (weights, bytes))| {
            if let Some(column) = weights.iter().position(|weight| !weight.is_finite()) {
                return Some(Error::NonFiniteWeight { row, column, value: weights[column] });
            }
            let column = encode_row(weights, imatrix, bytes).err()?;
            Some(Error::WeightRange { ty, row, column })
        })
        .map_or(Ok(()), Err)
}

fn encode_blocks<C: BlockCodec<W, B>, const W: usize, const B: usize>(
    weights: &[f32],
    imatrix: Option<&[f32]>,
    bytes: &mut [u8],
) -> std::result::Result<(), usize> {
    let ((weights, _), (blocks, _)) = (weights.as_chunks::<W>(), bytes.as_chunks_mut::<B>());
    let importance = imatrix.map(|imatrix| imatrix.as_chunks::<W>().0);
    for (at, (weights, block)) in weights.iter().zip(blocks).enumerate() {
        let fits = weights.iter().all(|weight| weight.abs() <= C::MAX);
        if !fits || !C::encode(weights, importance.map(|importance| &importance[at]), block) {
            return Err(at * W);
        }
    }
    Ok(())
}

#[cfg(test)]
mod golden_tests;
#[cfg(test)]
mod tests;
