//! Steps that work on rows.

use burn::tensor::{DType, Shape};
use burn_cubecl::tensor::CubeTensor;

use super::require;
use crate::{
    engine::{self, Arg},
    error::Result,
    tensor::{Buffer, empty, ordinal, row_major},
};

pub(super) fn rope(x: CubeTensor, cos: CubeTensor, sin: CubeTensor, seq: usize) -> Result<CubeTensor> {
    let (x, cos, sin) = (row_major(x), row_major(cos), row_major(sin));
    let (from, c, s) = (Buffer::of(&x)?, Buffer::of(&cos)?, Buffer::of(&sin)?);
    let half = c.columns;
    let heads = from.columns / (2 * half);
    require(
        heads * 2 * half == from.columns
            && s.columns == half
            && [c.ld, s.ld] == [half; 2]
            && seq > 0
            && c.rows.min(s.rows) >= seq
            && [c.dtype, s.dtype] == [DType::F32; 2],
        "heads and the tables of their rotations",
    )?;
    let out = empty(&x, Shape::new([from.rows, from.columns]), x.dtype);
    let to = Buffer::of(&out)?;
    engine::run(ordinal(&x)?, |engine| {
        let kernel = engine.kernels.of("rope", from.float()?)?;
        let args = [
            Arg::At(from.at),
            Arg::long(from.ld),
            Arg::At(to.at),
            Arg::At(c.at),
            Arg::At(s.at),
            Arg::int(from.rows),
            Arg::int(heads),
            Arg::int(half),
            Arg::int(seq),
        ];
        // SAFETY: one thread for each pair of channels of `from`, which `to` has as many of; positions are below `seq`,
        // up to which both tables go.
        unsafe { engine.elements(&kernel, from.rows * heads * half, &args) }
    })?;
    Ok(out)
}

pub(super) fn norm(
    x: CubeTensor,
    weight: CubeTensor,
    bias: Option<CubeTensor>,
    eps: f32,
    out: DType,
) -> Result<CubeTensor> {
    let (x, weight, bias) = (row_major(x), row_major(weight), bias.map(row_major));
    let (from, scale) = (Buffer::of(&x)?, Buffer::of(&weight)?);
    let shift = bias.as_ref().map(Buffer::of).transpose()?;
    let vectors = [Some(&scale), shift.as_ref()];
    require(
        from.dtype == DType::F32
            && vectors.into_iter().flatten().all(|v| v.columns == from.columns && v.dtype == DType::F32),
        "rows and the weights of a norm",
    )?;
    let normed = empty(&x, Shape::new([from.rows, from.columns]), out);
    let to = Buffer::of(&normed)?;
    engine::run(ordinal(&x)?, |engine| {
        let family = if shift.is_some() { "layer_norm" } else { "rms_norm" };
        let kernel = engine.kernels.of(family, to.float()?)?;
        let mut args = vec![Arg::At(from.at), Arg::long(from.ld), Arg::At(scale.at)];
        args.extend(shift.as_ref().map(|shift| Arg::At(shift.at)));
        args.extend([Arg::At(to.at), Arg::int(from.columns), Arg::Float(eps)]);
        // SAFETY: a block of threads for each row, which reads and writes `columns` elements of each buffer.
        unsafe { engine.rows(&kernel, from.rows, from.columns, &args) }
    })?;
    Ok(normed)
}

pub(super) fn swiglu(gate: CubeTensor, up: CubeTensor) -> Result<CubeTensor> {
    let (gate, up) = (row_major(gate), row_major(up));
    let (g, u) = (Buffer::of(&gate)?, Buffer::of(&up)?);
    require((g.rows, g.columns, g.dtype) == (u.rows, u.columns, u.dtype), "gate and up")?;
    let out = empty(&gate, Shape::new([g.rows, g.columns]), gate.dtype);
    let to = Buffer::of(&out)?;
    engine::run(ordinal(&gate)?, |engine| {
        let kernel = engine.kernels.of("swiglu", g.float()?)?;
        let args = [
            Arg::At(g.at),
            Arg::long(g.ld),
            Arg::At(u.at),
            Arg::long(u.ld),
            Arg::At(to.at),
            Arg::int(g.rows),
            Arg::int(g.columns),
        ];
        // SAFETY: one thread for each element, of which all three buffers have as many.
        unsafe { engine.elements(&kernel, g.rows * g.columns, &args) }
    })?;
    Ok(out)
}

pub(super) fn log_sum_exp(x: CubeTensor) -> Result<CubeTensor> {
    let x = row_major(x);
    let from = Buffer::of(&x)?;
    require(from.dtype == DType::F32, "ln sum exp and its type")?;
    let out = empty(&x, Shape::new([from.rows, 1]), DType::F32);
    let to = Buffer::of(&out)?;
    engine::run(ordinal(&x)?, |engine| {
        let kernel = engine.kernels.get("log_sum_exp")?;
        let args = [Arg::At(from.at), Arg::long(from.ld), Arg::At(to.at), Arg::int(from.columns)];
        // SAFETY: a block of threads for each row, which reads `columns` elements and writes one.
        unsafe { engine.rows(&kernel, from.rows, from.columns, &args) }
    })?;
    Ok(out)
}

/// For each row three f64, as their bits in `i64`, `[rows, 3]`.
pub(super) fn divergence(log_p: CubeTensor, x: CubeTensor, log_sum_exp: CubeTensor) -> Result<CubeTensor> {
    let (log_p, x, log_sum_exp) = (row_major(log_p), row_major(x), row_major(log_sum_exp));
    let (base, from, shift) = (Buffer::of(&log_p)?, Buffer::of(&x)?, Buffer::of(&log_sum_exp)?);
    require(
        [base.dtype, from.dtype, shift.dtype] == [DType::F32; 3]
            && (base.rows, base.columns) == (from.rows, from.columns)
            && shift.rows * shift.columns == from.rows
            && (shift.rows == 1 || shift.ld == shift.columns),
        "two distributions",
    )?;
    let out = empty(&x, Shape::new([from.rows, 3]), DType::I64);
    let to = Buffer::of(&out)?;
    engine::run(ordinal(&x)?, |engine| {
        let args = [
            Arg::At(base.at),
            Arg::long(base.ld),
            Arg::At(from.at),
            Arg::long(from.ld),
            Arg::At(shift.at),
            Arg::At(to.at),
            Arg::int(from.columns),
        ];
        // SAFETY: a block of threads for each row, which reads `columns` elements of each and writes three numbers of 8 bytes.
        unsafe { engine.rows(&engine.kernels.get("divergence")?, from.rows, from.columns.min(256), &args) }
    })?;
    Ok(out)
}
