//! Weights from packed K-quants, and affine quantization.

use burn::tensor::{DType, Shape};
use burn_cubecl::tensor::CubeTensor;

use super::{AffineGroups, KQuant, require};
use crate::{
    engine::{self, Arg},
    error::Result,
    tensor::{Buffer, empty, ordinal, row_major},
};

/// Weights of a super-block.
const BLOCK: usize = 256;

pub(super) fn decode(blocks: CubeTensor, kind: KQuant, shape: [usize; 2], out: DType) -> Result<CubeTensor> {
    let blocks = row_major(blocks);
    let from = Buffer::of(&blocks)?;
    let n = shape[0] * shape[1];
    require(
        from.dtype == DType::U8 && n % BLOCK == 0 && from.rows * from.columns == n / BLOCK * kind.bytes(),
        "blocks and the shape of their weights",
    )?;
    let weights = empty(&blocks, Shape::new(shape), out);
    let to = Buffer::of(&weights)?;
    engine::run(ordinal(&blocks)?, |engine| {
        let kernel = engine.kernels.of(kind.kernel(), to.float()?)?;
        // SAFETY: a block of threads for each super-block, of which both buffers have as many.
        unsafe { engine.launch(&kernel, n / BLOCK, BLOCK as u32, &[Arg::At(from.at), Arg::At(to.at)]) }
    })?;
    Ok(weights)
}

/// The weights that remain, and whether one was not finite or a scale beyond f16, `[1]`.
pub(super) fn affine(x: CubeTensor, groups: AffineGroups) -> Result<(CubeTensor, CubeTensor)> {
    const LANES: usize = 32;
    const GROUP: usize = 128;
    let x = row_major(x);
    let from = Buffer::of(&x)?;
    let AffineGroups { group, max_code, zero_point } = groups;
    require(from.dtype == DType::F32 && group > 0, "weights and their groups")?;
    let (out, bad) = (
        empty(&x, Shape::new([from.rows, from.columns]), DType::F32),
        empty(&x, Shape::new([1]), DType::F32),
    );
    let (to, flag) = (Buffer::of(&out)?, Buffer::of(&bad)?);
    let per_row = from.columns.div_ceil(group);
    let even = group == GROUP && from.columns % GROUP == 0 && from.ld == from.columns && from.at % 16 == 0;
    engine::run(ordinal(&x)?, |engine| {
        // SAFETY: one thread, which writes the one element of `bad`.
        unsafe { engine.launch(&engine.kernels.get("clear")?, 1, 1, &[Arg::At(flag.at)])? };
        let (code, kind) = (Arg::Float(f32::from(max_code)), Arg::Int(zero_point as i32));
        let threads = from.rows * per_row * LANES;
        if even {
            let args = [
                Arg::At(from.at),
                Arg::At(to.at),
                Arg::At(flag.at),
                Arg::long(from.rows * per_row),
                code,
                kind,
            ];
            // SAFETY: a thread for each four weights; both buffers have 128 for each group, at addresses that four may be
            // read from.
            return unsafe { engine.elements(&engine.kernels.get("affine_128")?, threads, &args) };
        }
        let args = [
            Arg::At(from.at),
            Arg::long(from.ld),
            Arg::At(to.at),
            Arg::At(flag.at),
            Arg::int(from.rows),
            Arg::int(from.columns),
            Arg::int(group),
            code,
            kind,
        ];
        // SAFETY: a warp for each group, which stays within its row in both buffers.
        unsafe { engine.elements(&engine.kernels.get("affine")?, threads, &args) }
    })?;
    Ok((out, bad))
}
