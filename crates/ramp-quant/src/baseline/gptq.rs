//! GPTQ onto an affine grid.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Matrix, Outcome};
use crate::{
    affine::{AffineConfig, ClipSearch, Granularity, Grid, scale_range},
    error::{Error, Result},
    gptq::{GptqConfig, Hessian, Lane, ROWS, lanes, refine},
};

/// Columns whose feedback is added together when no group ends in between; GPTQ's `blocksize`. The sums are the same
/// for any number.
const BLOCK: usize = 128;

/// How GPTQ rounds onto an affine grid. The default is GPTQ with act-order and static groups.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GptqAffineConfig {
    /// The grid.
    pub affine: AffineConfig,
    /// Added to the diagonal of the Hessian, as a share of its mean (`percdamp`). Above 0.
    pub damping: f64,
    /// Columns of large mean square first.
    pub act_order: bool,
    /// Grids from the original weights. Otherwise a group's grid is found when its first column is reached, from
    /// weights that hold the errors of the columns before; with `act_order` a group is then so many columns in that
    /// order, and the file needs the group of each column.
    pub static_groups: bool,
    /// Search for the range of a group, weighted by the imatrix.
    pub clip: Option<ClipSearch>,
    /// Passes of coordinate descent afterwards; 0 is GPTQ as published.
    pub refine_passes: usize,
}

impl Default for GptqAffineConfig {
    fn default() -> Self {
        Self {
            affine: AffineConfig::per_group(4, 128),
            damping: 0.01,
            act_order: true,
            static_groups: true,
            clip: None,
            refine_passes: 0,
        }
    }
}

impl GptqAffineConfig {
    /// The factored Hessian of an input; layers with the same input can share it.
    ///
    /// # Errors
    /// As [`Hessian::new`].
    pub fn hessian(&self, gram: &ramp_model::Gram) -> Result<Hessian> {
        let config = GptqConfig {
            damping: self.damping,
            act_order: self.act_order,
            refine_passes: self.refine_passes,
        };
        // One block of all columns: any order is allowed.
        Hessian::new(gram, gram.width(), &config)
    }

    /// Bytes of a matrix: with groups in the order of rounding, each column has a 32-bit group index (`g_idx`).
    pub(super) fn bytes(&self, shape: [usize; 2]) -> Result<u64> {
        let grouped = matches!(self.affine.granularity, Granularity::Group(_));
        let index = if grouped && self.act_order && !self.static_groups { 4 * shape[1] as u64 } else { 0 };
        Ok(self.affine.bytes(shape)? + index)
    }
}

/// Rounds column by column; the error of a column is made good by those that follow.
///
/// `q_i = quant(w_i)`, `w_j += (w_i - q_i) U_ij` for `j > i`, where `H = U D Uᵀ` in the order of rounding: the
/// published `w_j -= err [H⁻¹]_ij / [H⁻¹]_ii` (Theorem 6 of QuIP). An input that never fires leaves its column to
/// rounding to nearest, where GPTQ's program sets it to zero.
///
/// # Source
/// Frantar et al., "GPTQ" (arXiv 2210.17323), Algorithm 1; act-order, static groups and damping as in IST-DASLab's
/// program.
///
/// # Errors
/// When the matrix and the Hessian do not fit, the configuration is out of range, or a scale is beyond f16.
pub fn gptq_affine(matrix: Matrix<'_>, hessian: &Hessian, config: &GptqAffineConfig) -> Result<Outcome> {
    let Matrix { weight, shape } = matrix;
    let n = shape[1];
    if hessian.width() != n {
        return Err(Error::HessianWidth { width: hessian.width(), block: n });
    }
    if let Some(clip) = &config.clip {
        clip.validate()?;
    }
    let layout = config.affine.layout(shape)?;
    // One grid for all rows cannot change on the way.
    let whole = (config.affine.granularity == Granularity::Tensor)
        .then(|| checked(Grid::of(weight, config.affine), 0, 0))
        .transpose()?;
    let run = Run { hessian, config, group: layout.group.min(n), whole };
    let mut dequantized = vec![0.0; weight.len()];
    weight
        .par_chunks(ROWS * n)
        .zip(dequantized.par_chunks_mut(ROWS * n))
        .enumerate()
        .find_map_first(|(at, (weight, out))| run.rows(weight, at * ROWS, out).err())
        .map_or(Ok(()), Err)?;
    let mut outcome = Outcome::new(dequantized, config.bytes(shape)?);
    outcome.raised_damping = (hessian.damping() > config.damping).then_some(hessian.damping());
    Ok(outcome)
}

/// A grid whose scale can be stored.
fn checked(grid: Grid, row: usize, group: usize) -> Result<Grid> {
    scale_range(&grid, row, group).map(|()| grid)
}

struct Run<'a> {
    hessian: &'a Hessian,
    config: &'a GptqAffineConfig,
    /// Columns of a group.
    group: usize,
    whole: Option<Grid>,
}

impl Run<'_> {
    /// Rounds up to [`ROWS`] rows.
    fn rows(&self, weight: &[f32], first_row: usize, out: &mut [f32]) -> Result<()> {
        let Hessian { order, .. } = self.hessian;
        let n = self.hessian.width();
        let rows = weight.len() / n;
        let is_static = self.whole.is_some() || self.config.static_groups;
        let w = lanes(weight, n);
        let mut error: Vec<Lane> = vec![[0.0; ROWS]; n];
        let mut grids: Vec<Vec<Grid>> = Vec::new();
        if is_static {
            for start in (0..n).step_by(self.group) {
                let columns: Vec<usize> = (start..(start + self.group).min(n)).collect();
                let values: Vec<Lane> = columns.iter().map(|&column| w[column]).collect();
                grids.push(self.grids(&values, &columns, rows, (first_row, grids.len()))?);
            }
        }
        // Which grid a column has: groups follow the columns or the order of rounding.
        let mut grid_of: Vec<usize> = (0..n).map(|column| column / self.group).collect();
        let step = if is_static { BLOCK } else { self.group };
        for done in (0..n).step_by(step) {
            let end = (done + step).min(n);
            let mut corrected: Vec<Lane> = (done..end)
                .map(|i| {
                    let mut w = w[order[i]];
                    self.hessian.add_feedback(&mut w, &error, i, 0..done);
                    w
                })
                .collect();
            if !is_static {
                // The weights as updated so far: what is not rounded yet has moved and lost nothing.
                let mut updated = corrected.clone();
                for (i, updated) in (done..).zip(&mut updated) {
                    self.hessian.add_feedback(updated, &error, i, done..i);
                    let column = order[i];
                    error[column] = std::array::from_fn(|row| w[column][row] - updated[row]);
                }
                let place = (first_row, grids.len());
                let found = self.grids(&updated, &order[done..end], rows, place)?;
                order[done..end].iter().for_each(|&column| grid_of[column] = grids.len());
                grids.push(found);
            }
            for (i, corrected) in (done..).zip(&mut corrected) {
                self.hessian.add_feedback(corrected, &error, i, done..i);
                let column = order[i];
                for row in 0..rows {
                    let q = grids[grid_of[column]][row].nearest(corrected[row]);
                    error[column][row] = w[column][row] - q;
                    out[row * n + column] = q;
                }
            }
        }
        refine(self.hessian, &w, &mut error, rows, self.config.refine_passes, |column, row, target| {
            let q = grids[grid_of[column]][row].nearest(target);
            out[row * n + column] = q;
            q
        });
        Ok(())
    }

    /// The grid of each row for the values of some columns.
    fn grids(
        &self,
        values: &[Lane],
        columns: &[usize],
        rows: usize,
        (first_row, group): (usize, usize),
    ) -> Result<Vec<Grid>> {
        if let Some(whole) = self.whole {
            return Ok(vec![whole; rows]);
        }
        let importance: Vec<f32> = columns.iter().map(|&column| self.hessian.mean_sq[column]).collect();
        let importance = importance.iter().any(|h| *h > 0.0).then_some(importance);
        (0..rows)
            .map(|row| {
                let weights: Vec<f32> = values.iter().map(|lane| lane[row]).collect();
                let grid = match &self.config.clip {
                    Some(clip) => clip.grid(&weights, importance.as_deref(), self.config.affine),
                    None => Grid::of(&weights, self.config.affine),
                };
                checked(grid, first_row + row, group)
            })
            .collect()
    }
}
