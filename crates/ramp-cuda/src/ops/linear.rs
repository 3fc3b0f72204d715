//! Linear layers.

use burn::tensor::{DType, Shape};
use burn_cubecl::tensor::CubeTensor;

use super::require;
use crate::{
    blas::{Second, Shape as Product},
    engine,
    error::Result,
    tensor::{Buffer, empty, ordinal, row_major},
};

pub(super) fn linear(x: CubeTensor, w: CubeTensor, out: DType) -> Result<CubeTensor> {
    let (x, w) = (row_major(x), row_major(w));
    let (a, b) = (Buffer::of(&x)?, Buffer::of(&w)?);
    require(a.columns == b.columns && a.dtype == b.dtype, "the factors of a product")?;
    let y = empty(&x, Shape::new([a.rows, b.rows]), out);
    let c = Buffer::of(&y)?;
    let shape = Product { m: a.rows, n: b.rows, k: a.columns, batch: 1 };
    engine::run(ordinal(&x)?, |engine| {
        // SAFETY: the matrices are the whole buffers, which live until the call has been queued, and later work of
        // Burn's, which may reuse their memory, waits for it.
        unsafe { engine.blas.product(a.matrix()?, b.matrix()?, Second::Transposed, c.matrix()?, shape, 1.0) }
    })?;
    Ok(y)
}
