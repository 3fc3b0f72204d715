//! Rounding with feedback, some rows at a time.

use pulp::Arch;
use ramp_gguf::{BlockGrid, GgmlType, block_grid, has_grid, set_codes};
use rayon::prelude::*;

use super::{GptqConfig, Lane, ROWS, factor::Hessian, lanes, refine::refine};
use crate::{
    error::{Error, Result},
    quantize::{Quantized, check_length},
};

/// Quantizes a row-major matrix `[out, in]` to a ggml type with GPTQ rounding.
///
/// The result does not depend on the number of threads. Types for which [`ramp_gguf::has_grid`] is false cannot
/// be rounded this way.
///
/// # Errors
/// When the slice does not have the shape's length, the Hessian is of another width, the type has no grid, or
/// its rows are no whole blocks; when a weight is not finite or beyond the type's range.
pub fn gptq(
    weight: &[f32],
    shape: [usize; 2],
    ty: GgmlType,
    hessian: &Hessian,
    config: &GptqConfig,
) -> Result<Quantized> {
    check_length(weight, shape)?;
    let [_, n] = shape;
    if hessian.width() != n {
        return Err(Error::HessianWidth { width: hessian.width(), block: n });
    }
    if let Some(at) = weight.iter().position(|weight| !weight.is_finite()) {
        let (row, column, value) = (at / n, at % n, weight[at]);
        return Err(ramp_gguf::Error::NonFiniteWeight { row, column, value }.into());
    }
    if !has_grid(ty) {
        return Err(ramp_gguf::Error::NoGrid { ty }.into());
    }
    let row_bytes = ty.row_bytes(n)?;
    let mut bytes = vec![0; shape[0] * row_bytes];
    let mut dequantized = vec![0.0; weight.len()];
    let chunks = weight.par_chunks(ROWS * n).zip(bytes.par_chunks_mut(ROWS * row_bytes));
    // The first failing rows, so that the error does not depend on the order of the threads.
    let error = chunks.zip(dequantized.par_chunks_mut(ROWS * n)).enumerate().find_map_first(
        |(at, ((weight, bytes), dequantized))| {
            let chunk = Chunk::new(weight, at * ROWS, ty, hessian);
            // Lanes are as wide as the CPU's registers; each is for itself, so that the bits are the same on all.
            let rounded = Arch::new().dispatch(|| chunk.run(config, bytes));
            rounded.and_then(|()| Ok(ramp_gguf::decode(ty, bytes, dequantized)?)).err()
        },
    );
    error.map_or(Ok(Quantized { bytes, dequantized }), Err)
}

/// Names the row and column of the whole matrix.
fn shifted(error: ramp_gguf::Error, rows: usize, columns: usize) -> Error {
    match error {
        ramp_gguf::Error::WeightRange { ty, row, column } => {
            ramp_gguf::Error::WeightRange { ty, row: row + rows, column: column + columns }.into()
        }
        other => other.into(),
    }
}

/// Up to [`ROWS`] rows on their way.
struct Chunk<'a> {
    ty: GgmlType,
    hessian: &'a Hessian,
    first_row: usize,
    rows: usize,
    /// By column; rows that are missing are zero.
    weight: Vec<Lane>,
    /// `w - q`, by column, zero where not rounded yet.
    error: Vec<Lane>,
    /// By column.
    codes: Vec<[u8; ROWS]>,
    /// By super-block, then by row.
    grids: Vec<Vec<BlockGrid>>,
}

impl<'a> Chunk<'a> {
    fn new(weight: &[f32], first_row: usize, ty: GgmlType, hessian: &'a Hessian) -> Self {
        let n = hessian.width();
        let columns = lanes(weight, n);
        Self {
            ty,
            hessian,
            first_row,
            rows: weight.len() / n,
            error: vec![[0.0; ROWS]; n],
            codes: vec![[0; ROWS]; n],
            grids: vec![Vec::new(); n / ty.block_size()],
            weight: columns,
        }
    }

    #[inline(always)]
    fn run(mut self, config: &GptqConfig, bytes: &mut [u8]) -> Result<()> {
        let block = self.ty.block_size();
        let order = &self.hessian.order;
        for done in (0..order.len()).step_by(block) {
            self.round_block(done, bytes)?;
        }
        let (grids, codes) = (&self.grids, &mut self.codes);
        refine(
            self.hessian,
            &self.weight,
            &mut self.error,
            self.rows,
            config.refine_passes,
            |i, row, target| {
                let grid = &grids[i / block][row];
                codes[i][row] = grid.nearest(i % block, target);
                grid.weight(i % block, codes[i][row])
            },
        );

        let (n_blocks, size) = (self.grids.len(), self.ty.type_size());
        for (at, encoded) in bytes.chunks_exact_mut(size).enumerate() {
            let (row, b) = (at / n_blocks, at % n_blocks);
            let codes: Vec<u8> =
                self.codes[b * block..(b + 1) * block].iter().map(|codes| codes[row]).collect();
            set_codes(self.ty, &codes, encoded)?;
        }
        Ok(())
    }

    /// Rounds the super-block whose first column in the order is number `done`.
    #[inline(always)]
    fn round_block(&mut self, done: usize, bytes: &mut [u8]) -> Result<()> {
        let Hessian { order, mean_sq, .. } = self.hessian;
        let block = self.ty.block_size();
        let columns = &order[done..done + block];
        let b = columns[0] / block;

        // What the super-blocks before it have lost.
        let mut corrected: Vec<Lane> = (done..done + block)
            .map(|i| {
                let mut w = self.weight[order[i]];
                self.hessian.add_feedback(&mut w, &self.error, i, 0..done);
                w
            })
            .collect();

        // ggml's own scales for the corrected weights.
        let mut rows = vec![0.0; self.rows * block];
        for (corrected, column) in corrected.iter().zip(columns) {
            for (row, weights) in rows.chunks_exact_mut(block).enumerate() {
                weights[column % block] = corrected[row];
            }
        }
        let importance = &mean_sq[b * block..(b + 1) * block];
        let importance = importance.iter().any(|&x| x > 0.0).then_some(importance);
        let encoded = ramp_gguf::encode(self.ty, &rows, block, importance)
            .map_err(|error| shifted(error, self.first_row, b * block))?;
        let (size, row_bytes) = (self.ty.type_size(), self.grids.len() * self.ty.type_size());
        let mut grids = Vec::with_capacity(self.rows);
        for (encoded, row) in encoded.chunks_exact(size).zip(bytes.chunks_exact_mut(row_bytes)) {
            row[b * size..(b + 1) * size].copy_from_slice(encoded);
            grids.push(block_grid(self.ty, encoded)?);
        }

        for (i, corrected) in (done..).zip(&mut corrected) {
            self.hessian.add_feedback(corrected, &self.error, i, done..i);
            let column = order[i];
            for (row, grid) in grids.iter().enumerate() {
                let code = grid.nearest(column % block, corrected[row]);
                self.codes[column][row] = code;
                self.error[column][row] = self.weight[column][row] - grid.weight(column % block, code);
            }
        }
        self.grids[b] = grids;
        Ok(())
    }
}
