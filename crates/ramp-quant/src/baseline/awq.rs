//! AWQ: activation-aware weight quantization.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Calibration, Matrix, Outcome, OutputError, output_error::dot, rtn::rtn_scaled};
use crate::{
    affine::{AffineConfig, ClipSearch, Granularity, Grid, ZeroPoint, scale_range},
    error::{Error, Result},
};

/// How AWQ quantizes. The default is llm-awq's, at 4 bits and groups of 128.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AwqConfig {
    /// The grid.
    pub affine: AffineConfig,
    /// Search for channel scales. They can only be used where the layer in front takes their inverse.
    pub scale: bool,
    /// Exponents `0, 1/n, .. (n - 1)/n` that are tried.
    pub n_grid: usize,
    /// Divide by the weights' own size, too (AutoAWQ's `duo_scaling`): `s = x̄^α / (w̄^(1-α) + 1e-4)`.
    pub duo_scaling: bool,
    /// Search for the range of each group afterwards. AWQ leaves queries and keys alone.
    pub clip: Option<ClipSearch>,
}

impl Default for AwqConfig {
    fn default() -> Self {
        let affine = AffineConfig::per_group(4, 128).with_zero_point(ZeroPoint::Clamped);
        Self { affine, scale: true, n_grid: 20, duo_scaling: false, clip: Some(ClipSearch::default()) }
    }
}

/// What AWQ found for the matrices that read one input.
#[derive(Clone, Debug, PartialEq)]
pub struct Awq {
    /// `s`, `[in]`: the stored matrices are those of `W diag(s)`, and the layer in front divides by `s`. All 1 without
    /// a scale.
    pub scale: Vec<f32>,
    /// The exponent that was best.
    pub ratio: f64,
    /// The matrices, as seen by the original input: `Q(W diag(s)) diag(s)⁻¹`.
    pub outcomes: Vec<Outcome>,
}

/// Scales input channels by a power of their activation, so that the channels that matter get finer steps, and
/// clips. The error is that of the matrices' own outputs, summed, known from the Gram matrix.
///
/// `s = x̄^α / sqrt(max s · min s)` with the `α` that gives the least squared error. `clipped` says which matrices may be
/// clipped.
///
/// # Source
/// Lin et al., "AWQ" (arXiv 2306.00978), and the constants of `auto_scale.py` and `auto_clip.py` of mit-han-lab's program.
/// That program measures the error behind attention or the feed-forward network where matrices do not end one: with
/// [`awq_by`], as [`super::apply`] does.
///
/// # Errors
/// When matrices and statistics do not fit, the configuration is out of range, or a scale is beyond f16.
pub fn awq(
    matrices: &[Matrix<'_>],
    calibration: &Calibration<'_>,
    config: &AwqConfig,
    clipped: impl Fn(usize) -> bool,
) -> Result<Awq> {
    for matrix in matrices {
        calibration.check(matrix)?;
    }
    let error = OutputError::new(calibration.gram)?;
    awq_by(matrices, calibration, config, clipped, |dequantized| {
        Ok(matrices.iter().zip(dequantized).map(|(matrix, q)| error.between(matrix.weight, q)).sum())
    })
}

/// As [`awq`], where `loss` measures what the dequantized matrices, in the order of `matrices`, do to an output.
///
/// # Errors
/// As [`awq`], and those of `loss`.
pub fn awq_by(
    matrices: &[Matrix<'_>],
    calibration: &Calibration<'_>,
    config: &AwqConfig,
    clipped: impl Fn(usize) -> bool,
    loss: impl FnMut(&[Vec<f32>]) -> Result<f64>,
) -> Result<Awq> {
    if config.n_grid == 0 {
        return Err(Error::Setting { method: "AWQ", field: "n_grid", value: 0.0, expected: "1 or more" });
    }
    if let Some(clip) = &config.clip {
        clip.validate()?;
    }
    for matrix in matrices {
        calibration.check(matrix)?;
    }
    let error = OutputError::new(calibration.gram)?;
    let (ratio, scale) = if config.scale {
        search(matrices, calibration, config, loss)?
    } else {
        (0.0, vec![1.0; error.width()])
    };
    let outcomes = matrices.iter().enumerate().map(|(at, matrix)| {
        let mut scaled = matrix.times_columns(&scale);
        if let Some(clip) = config.clip.as_ref().filter(|_| clipped(at)) {
            clip_groups(&mut scaled, matrix.shape, &error, &scale, clip, config.affine)?;
        }
        let dequantized = rtn_scaled(&scaled, matrix.shape, &scale, config.affine)?;
        Ok(Outcome::new(dequantized, config.affine.bytes(matrix.shape)?))
    });
    let outcomes = outcomes.collect::<Result<_>>()?;
    Ok(Awq { scale, ratio, outcomes })
}

/// The best exponent and its scales.
fn search(
    matrices: &[Matrix<'_>],
    calibration: &Calibration<'_>,
    config: &AwqConfig,
    mut loss: impl FnMut(&[Vec<f32>]) -> Result<f64>,
) -> Result<(f64, Vec<f32>)> {
    let weight_size = config.duo_scaling.then(|| weight_size(matrices, config.affine));
    let mut best: Option<(f64, f64, Vec<f32>)> = None;
    for k in 0..config.n_grid {
        let ratio = k as f64 / config.n_grid as f64;
        let scale = scales(calibration.mean_abs, weight_size.as_deref(), ratio);
        let dequantized = matrices
            .iter()
            .map(|matrix| rtn_scaled(&matrix.times_columns(&scale), matrix.shape, &scale, config.affine));
        let loss = loss(&dequantized.collect::<Result<Vec<_>>>()?)?;
        if best.as_ref().is_none_or(|(least, ..)| loss < *least) {
            best = Some((loss, ratio, scale));
        }
    }
    let none = || (0.0, vec![1.0; calibration.gram.width()]);
    Ok(best.map_or_else(none, |(_, ratio, scale)| (ratio, scale)))
}

/// `s` for one exponent.
fn scales(mean_abs: &[f32], weight_size: Option<&[f64]>, ratio: f64) -> Vec<f32> {
    let powers: Vec<f64> = mean_abs
        .iter()
        .enumerate()
        .map(|(j, &x)| {
            let s = f64::from(x).powf(ratio);
            let s = match weight_size {
                Some(size) => s / (size[j].powf(1.0 - ratio) + 1e-4),
                None => s,
            };
            s.max(1e-4)
        })
        .collect();
    let max = powers.iter().copied().fold(f64::MIN, f64::max);
    let min = powers.iter().copied().fold(f64::MAX, f64::min);
    let middle = (max * min).sqrt();
    let usable = |s: f64| Some((s / middle) as f32).filter(|s| s.is_normal()).unwrap_or(1.0);
    powers.into_iter().map(usable).collect()
}

/// Mean over the rows of all matrices of `|W|` relative to the largest of its group.
fn weight_size(matrices: &[Matrix<'_>], affine: AffineConfig) -> Vec<f64> {
    let inp = matrices.first().map_or(0, |matrix| matrix.shape[1]);
    let group = match affine.granularity {
        Granularity::Group(group) => group,
        _ => inp,
    };
    let mut sum = vec![0.0; inp];
    let mut rows = 0.0;
    for row in matrices.iter().flat_map(|matrix| matrix.weight.chunks_exact(inp)) {
        rows += 1.0;
        for (weights, sum) in row.chunks(group).zip(sum.chunks_mut(group)) {
            let largest = weights.iter().fold(0.0f32, |a, w| a.max(w.abs()));
            for (sum, w) in sum.iter_mut().zip(weights) {
                *sum += f64::from(w.abs()) / (f64::from(largest) + 1e-6);
            }
        }
    }
    sum.iter().map(|sum| sum / rows).collect()
}

/// Clips each group of `W' = W diag(s)` at the magnitude that gives the least squared error of its part of the output,
/// for inputs `x / s`.
fn clip_groups(
    scaled: &mut [f32],
    shape: [usize; 2],
    error: &OutputError,
    scale: &[f32],
    clip: &ClipSearch,
    affine: AffineConfig,
) -> Result<()> {
    let [_, inp] = shape;
    let layout = affine.layout(shape)?;
    if layout.rows != shape[0] {
        return Ok(()); // one range for the whole matrix: nothing to choose for a group
    }
    // Of n steps the last is not reached, as in the published loop.
    let shares: Vec<f32> = clip.shares().take(clip.steps).collect();
    let starts: Vec<usize> = (0..inp).step_by(layout.group).collect();
    for (group, &start) in starts.iter().enumerate() {
        let len = layout.group.min(inp - start);
        let h: Vec<Vec<f32>> = error
            .block(start, len)
            .enumerate()
            .map(|(i, row)| {
                let s_i = scale[start + i];
                row.iter().zip(&scale[start..]).map(|(h, s_j)| h / (s_i * s_j)).collect()
            })
            .collect();
        scaled
            .par_chunks_mut(inp)
            .enumerate()
            .find_map_first(|(row, weights)| {
                let weights = &mut weights[start..start + len];
                if let Err(error) = scale_range(&Grid::of(weights, affine), row, group) {
                    return Some(error);
                }
                let limit = best_limit(weights, &h, &shares, affine);
                weights.iter_mut().for_each(|w| *w = w.clamp(-limit, limit));
                None
            })
            .map_or(Ok(()), Err)?;
    }
    Ok(())
}

fn best_limit(weights: &[f32], h: &[Vec<f32>], shares: &[f32], affine: AffineConfig) -> f32 {
    let largest = weights.iter().fold(0.0f32, |a, w| a.max(w.abs()));
    let mut best = (f64::INFINITY, largest);
    for share in shares {
        let limit = largest * share;
        let clipped: Vec<f32> = weights.iter().map(|w| w.clamp(-limit, limit)).collect();
        let grid = Grid::of(&clipped, affine);
        let e: Vec<f32> = weights.iter().zip(&clipped).map(|(w, c)| w - grid.nearest(*c)).collect();
        let rows = h.iter().zip(&e).map(|(h, &e_i)| f64::from(e_i) * f64::from(dot(h, &e)));
        let loss: f64 = rows.sum();
        if loss < best.0 {
            best = (loss, limit);
        }
    }
    best.1
}
