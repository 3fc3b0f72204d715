//! Packed K-quants from weights, and what they lose.

use burn::tensor::{DType, Shape};
use burn_cubecl::tensor::CubeTensor;

use super::{KQuant, require};
use crate::{
    engine::{self, Arg},
    error::{Error, Result},
    tensor::{Buffer, empty, ordinal, row_major},
};

/// Weights of a super-block.
const BLOCK: usize = 256;
/// Threads of a block of threads; each has a sub-block.
const THREADS: usize = 64;

/// The blocks, `u8`, and whether a weight or a scale was not finite, `[1]`.
pub(super) fn encode(
    x: CubeTensor,
    importance: Option<CubeTensor>,
    kind: KQuant,
) -> Result<(CubeTensor, CubeTensor)> {
    let (x, importance) = (row_major(x), importance.map(row_major));
    let from = Buffer::of(&x)?;
    let weights = importance.as_ref().map(Buffer::of).transpose()?;
    let (kernel, sub_blocks) =
        kind.encoder().ok_or_else(|| Error::Buffer(format!("{kind:?} has no encoder on GPUs")))?;
    require(
        from.dtype == DType::F32
            && from.columns % BLOCK == 0
            && weights.as_ref().is_none_or(|w| w.dtype == DType::F32 && w.columns == from.columns),
        "weights and their importance",
    )?;
    let per_row = from.columns / BLOCK;
    let blocks = from.rows * per_row;
    let out = empty(&x, Shape::new([blocks * kind.bytes()]), DType::U8);
    let bad = empty(&x, Shape::new([1]), DType::F32);
    let (to, flag) = (Buffer::of(&out)?, Buffer::of(&bad)?);
    engine::run(ordinal(&x)?, |engine| {
        // SAFETY: one thread, which writes the one element of `bad`.
        unsafe { engine.launch(&engine.kernels.get("clear")?, 1, 1, &[Arg::At(flag.at)])? };
        let args = [
            Arg::At(from.at),
            Arg::long(from.ld),
            Arg::At(weights.as_ref().map_or(0, |weights| weights.at)),
            Arg::At(to.at),
            Arg::At(flag.at),
            Arg::long(blocks),
            Arg::int(per_row),
        ];
        let side = THREADS / sub_blocks;
        // SAFETY: every thread has a sub-block of `from`; the blocks are as many as `to` has room for; `importance` is null
        // or has a number for each column.
        unsafe {
            engine.launch(&engine.kernels.encoder(kernel)?, blocks.div_ceil(side), THREADS as u32, &args)
        }
    })?;
    Ok((out, bad))
}

/// For each row three f64, as their bits in `i64`, `[rows, 3]`.
pub(super) fn errors(a: CubeTensor, b: CubeTensor, importance: Option<CubeTensor>) -> Result<CubeTensor> {
    let (a, b, importance) = (row_major(a), row_major(b), importance.map(row_major));
    let (left, right) = (Buffer::of(&a)?, Buffer::of(&b)?);
    let weights = importance.as_ref().map(Buffer::of).transpose()?;
    require(
        [left.dtype, right.dtype] == [DType::F32; 2]
            && (left.rows, left.columns) == (right.rows, right.columns)
            && weights.as_ref().is_none_or(|w| w.dtype == DType::F32 && w.columns == left.columns),
        "two matrices and the importance of their columns",
    )?;
    let out = empty(&a, Shape::new([left.rows, 3]), DType::I64);
    let to = Buffer::of(&out)?;
    engine::run(ordinal(&a)?, |engine| {
        let args = [
            Arg::At(left.at),
            Arg::long(left.ld),
            Arg::At(right.at),
            Arg::long(right.ld),
            Arg::At(weights.as_ref().map_or(0, |weights| weights.at)),
            Arg::At(to.at),
            Arg::int(left.columns),
        ];
        // SAFETY: a block of threads for each row, which reads `columns` elements of each and writes three numbers of 8 bytes.
        unsafe { engine.rows(&engine.kernels.get("errors")?, left.rows, left.columns.min(256), &args) }
    })?;
    Ok(out)
}
