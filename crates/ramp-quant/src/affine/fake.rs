//! Quantizing and dequantizing in one go, for speed.

use ramp_gguf::{Vectorize, vectorized};
use rayon::prelude::*;

use super::{
    AffineConfig, Layout,
    grid::{Grid, Range},
    matrix::{first_non_finite, scale_range},
};
use crate::{error::Result, quantize::check_length};

/// Weights that one thread takes at least, so that small matrices do not wait for threads.
const LEAST: usize = 1 << 15;

/// Weights whose grids are found before they are rounded: enough groups that their chains of divisions run side by side,
/// few enough that the weights are still in the first cache when they are read again.
const PIECE: usize = 1024;

/// Groups of a piece, at most.
const GRIDS: usize = 16;

/// Quantizes and dequantizes a row-major matrix `[out, in]` into `out`: the same bits as
/// [`super::AffineMatrix::quantize`] and [`super::AffineMatrix::dequantize`], without codes in between.
///
/// # Errors
/// As [`super::AffineMatrix::quantize`]; `out` must have the shape's length, too.
pub fn fake_quantize_slice(
    weight: &[f32],
    shape: [usize; 2],
    config: AffineConfig,
    out: &mut [f32],
) -> Result<()> {
    let layout = config.layout(shape)?;
    check_length(weight, shape)?;
    check_length(out, shape)?;
    let whole = (layout.group == weight.len()).then(|| {
        // Ranges do not depend on the order in which they are united.
        let range = weight.par_chunks(LEAST).map(Range::of).reduce(|| Range::EMPTY, Range::and);
        usable(range, config)
    });
    if whole == Some(None) {
        return explain(weight, shape, layout, config);
    }
    let whole = whole.flatten();
    let rows = chunk_rows(layout);
    let failed = weight
        .par_chunks(rows)
        .zip(out.par_chunks_mut(rows))
        .any(|(weight, out)| !vectorized(Rows { weight, out, whole, layout, config }));
    if failed { explain(weight, shape, layout, config) } else { Ok(()) }
}

/// Whole rows on their way; gives whether all could be quantized.
struct Rows<'a> {
    weight: &'a [f32],
    out: &'a mut [f32],
    /// The grid of all, where there is one for all.
    whole: Option<Grid>,
    layout: Layout,
    config: AffineConfig,
}

impl Vectorize for Rows<'_> {
    type Output = bool;

    #[inline(always)]
    fn run(self) -> bool {
        let Self { weight, out, whole, layout, config } = self;
        if let Some(grid) = whole {
            grid.fill(weight, out);
            return true;
        }
        let piece = layout.group * (PIECE / layout.group).clamp(1, GRIDS);
        let mut grids = [Grid::new(1.0, 0.0, 0.0); GRIDS];
        for (weight, out) in weight.chunks(layout.len).zip(out.chunks_mut(layout.len)) {
            for (weight, out) in weight.chunks(piece).zip(out.chunks_mut(piece)) {
                for (grid, weight) in grids.iter_mut().zip(weight.chunks(layout.group)) {
                    let Some(usable) = usable(Range::of(weight), config) else { return false };
                    *grid = usable;
                }
                let groups = weight.chunks(layout.group).zip(out.chunks_mut(layout.group));
                for (grid, (weight, out)) in grids.iter().zip(groups) {
                    grid.fill(weight, out);
                }
            }
        }
        true
    }
}

/// The grid of a range; `None` when a weight may not be finite or the scale cannot be stored.
#[inline(always)]
fn usable(range: Range, config: AffineConfig) -> Option<Grid> {
    let grid = Grid::of_range(range.min, range.max, config);
    (range.is_finite() && grid.fits()).then_some(grid)
}

/// Weights of the whole rows that a thread takes; a matrix that is one group is cut anywhere.
fn chunk_rows(layout: Layout) -> usize {
    if layout.rows == 1 && layout.group == layout.len {
        LEAST
    } else {
        layout.len * LEAST.div_ceil(layout.len)
    }
}

/// The first weight that is not finite, or else the first group whose scale cannot be stored. There is one of the two:
/// weights whose sum overflows are too large for any scale, because the sum of fewer than `2^64` weights must
/// reach `2^127`, while scales end at `2^16` and codes at `2^8`.
fn explain(weight: &[f32], shape: [usize; 2], layout: Layout, config: AffineConfig) -> Result<()> {
    first_non_finite(weight, shape)?;
    let bad = weight.par_chunks(layout.len).enumerate().find_map_first(|(row, weight)| {
        let mut groups = weight.chunks(layout.group).enumerate();
        groups.find_map(|(group, weight)| scale_range(&Grid::of(weight, config), row, group).err())
    });
    bad.map_or(Ok(()), Err)
}
