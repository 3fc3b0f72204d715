//! Running sums in f64, as their bits in `i64`.

use burn::tensor::{DType, Shape};
use burn_cubecl::tensor::CubeTensor;

use super::require;
use crate::{
    engine::{self, Arg},
    error::Result,
    tensor::{Buffer, empty, ordinal, row_major},
};

/// Threads of a block of `channel_sums`, and the columns that it has.
const THREADS: u32 = 256;
const COLUMNS: usize = 32;

/// `sum + x`, `[rows, columns]`.
pub(super) fn add(sum: CubeTensor, x: CubeTensor) -> Result<CubeTensor> {
    let (sum, x) = (row_major(sum), row_major(x));
    let (before, values) = (Buffer::of(&sum)?, Buffer::of(&x)?);
    require(
        [before.dtype, values.dtype] == [DType::I64, DType::F32]
            && (before.rows, before.columns) == (values.rows, values.columns)
            && [before.ld, values.ld] == [values.columns; 2],
        "a sum and what is added",
    )?;
    let out = empty(&sum, Shape::new([before.rows, before.columns]), DType::I64);
    let to = Buffer::of(&out)?;
    let n = before.rows * before.columns;
    engine::run(ordinal(&sum)?, |engine| {
        let args = [Arg::At(before.at), Arg::At(values.at), Arg::At(to.at), Arg::long(n)];
        // SAFETY: one thread for each element, of which all three have as many.
        unsafe { engine.elements(&engine.kernels.get("add_f64")?, n, &args) }
    })?;
    Ok(out)
}

/// `[3, columns]` of the columns of `x`, over those in `before`.
pub(super) fn channels(before: CubeTensor, x: CubeTensor) -> Result<CubeTensor> {
    let (before, x) = (row_major(before), row_major(x));
    let (sums, values) = (Buffer::of(&before)?, Buffer::of(&x)?);
    require(
        [sums.dtype, values.dtype] == [DType::I64, DType::F32]
            && (sums.rows, sums.columns, sums.ld) == (3, values.columns, values.columns),
        "sums of channels and rows",
    )?;
    let out = empty(&before, Shape::new([3, values.columns]), DType::I64);
    let to = Buffer::of(&out)?;
    engine::run(ordinal(&x)?, |engine| {
        let args = [
            Arg::At(values.at),
            Arg::long(values.ld),
            Arg::At(sums.at),
            Arg::At(to.at),
            Arg::int(values.rows),
            Arg::int(values.columns),
        ];
        let kernel = engine.kernels.get("channel_sums")?;
        // SAFETY: a thread reads rows of its column, and the first of a column writes three numbers of 8 bytes.
        unsafe { engine.launch(&kernel, values.columns.div_ceil(COLUMNS), THREADS, &args) }
    })?;
    Ok(out)
}
