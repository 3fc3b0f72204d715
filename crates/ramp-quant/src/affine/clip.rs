//! A narrower range, where its error is less.

use serde::{Deserialize, Serialize};

use super::{AffineConfig, Grid, grid::Range};
use crate::error::{Error, Result};

/// Search for the range of a group: both ends are moved towards 0 together, step by step, and the range with the least
/// squared error is kept. The whole range is the first candidate, so that clipping never makes a group worse.
///
/// # Source
/// GPTQ's `Quantizer.find_params` with `mse`, and AWQ's `auto_clip`, whose defaults these are: 10 of 20 steps down to
/// half of the range. The error is squared and may be weighted by the imatrix.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClipSearch {
    /// Narrower ranges to try, at least 1.
    pub steps: usize,
    /// Share of the range that the last of them has lost, above 0 and below 1.
    pub max_shrink: f32,
}

impl Default for ClipSearch {
    fn default() -> Self {
        Self { steps: 10, max_shrink: 0.5 }
    }
}

impl ClipSearch {
    /// Checks the numbers.
    ///
    /// # Errors
    /// When there is no step, or the largest shrinkage is not between 0 and 1.
    pub fn validate(&self) -> Result<()> {
        let Self { steps, max_shrink } = *self;
        if steps > 0 && max_shrink > 0.0 && max_shrink < 1.0 {
            return Ok(());
        }
        Err(Error::ClipSearch { steps, max_shrink })
    }

    /// What is left of the range at each candidate, the whole range first.
    pub(crate) fn shares(&self) -> impl Iterator<Item = f32> + use<> {
        let Self { steps, max_shrink } = *self;
        (0..=steps).map(move |step| 1.0 - max_shrink * step as f32 / steps as f32)
    }

    /// The best grid for finite weights; `importance` weights the squared error of each.
    pub(crate) fn grid(&self, weights: &[f32], importance: Option<&[f32]>, config: AffineConfig) -> Grid {
        let error = |grid: &Grid| -> f64 {
            let squares = weights.iter().map(|&w| f64::from(w - grid.nearest(w)).powi(2));
            match importance {
                Some(importance) => squares.zip(importance).map(|(square, &h)| square * f64::from(h)).sum(),
                None => squares.sum(),
            }
        };
        let Range { min, max, .. } = Range::of(weights);
        let mut best: Option<(f64, Grid)> = None;
        for share in self.shares() {
            let grid = Grid::of_range(min * share, max * share, config);
            let error = error(&grid);
            if best.as_ref().is_none_or(|(least, _)| error < *least) {
                best = Some((error, grid));
            }
        }
        best.map_or_else(|| Grid::of_range(min, max, config), |(_, grid)| grid)
    }
}
