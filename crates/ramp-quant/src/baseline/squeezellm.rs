//! SqueezeLLM: dense and sparse.

use half::f16;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Matrix, Outcome, kmeans::kmeans};
use crate::{
    affine::AffineConfig,
    error::{Error, Result},
};

/// How SqueezeLLM quantizes. The default is 4 bits with 0.45 % outliers and 0.05 % sensitive weights kept.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SqueezellmConfig {
    /// Bits of a code, 2 to 8: a row has a table of `2^bits` values.
    pub bits: u8,
    /// Share of the weights that are kept because they are large, 0 to 1.
    pub outliers: f64,
    /// Share of the weights that are kept because much depends on them, 0 to 1.
    pub sensitive: f64,
}

impl Default for SqueezellmConfig {
    fn default() -> Self {
        Self { bits: 4, outliers: 0.0045, sensitive: 0.0005 }
    }
}

impl SqueezellmConfig {
    /// Bytes of a matrix: packed codes and a table of f16 a row; with kept weights, for each its value in f16 and its
    /// column in 16 bits (32 where rows are longer), and 32 bits for each row's start.
    fn bytes(&self, [out, inp]: [usize; 2], kept: usize) -> u64 {
        let row = (inp * usize::from(self.bits)).div_ceil(8) + (2usize << self.bits);
        let column = if inp <= 1 << 16 { 2 } else { 4 };
        let sparse = if kept > 0 { kept * (2 + column) + 4 * (out + 1) } else { 0 };
        (out * row + sparse) as u64
    }
}

/// A table of values for each row, found by k-means weighted with the Fisher information, and a few weights kept apart.
///
/// Without gradients, the Fisher information of `W_ij`, `E[(g_i x_j)²]`, is taken as `E[g_i²] E[x_j²]` (gradient of the
/// output and input independent). A row's factor `E[g_i²]` changes nothing in the k-means of that row, so `fisher`,
/// `[in]`, is the mean of x². For the kept weights, which the published program ranks by the Fisher information alone,
/// that would rank whole columns; they are ranked by `E[x_j²] W_ij²`, what it costs to lose them.
///
/// The threshold for outliers is the one that keeps `outliers` of the weights: the published one has a free factor that
/// is tuned for that. Clusters are optimal (see `kmeans.rs`).
///
/// # Source
/// Kim et al., "SqueezeLLM" (arXiv 2306.07629), sections 4.1 and 4.2.
///
/// # Errors
/// When the configuration is out of range, `fisher` does not fit or is no statistic, or a weight is beyond f16.
pub fn squeezellm(matrix: Matrix<'_>, fisher: &[f32], config: &SqueezellmConfig) -> Result<Outcome> {
    let Matrix { weight, shape: shape @ [out, inp] } = matrix;
    if !(AffineConfig::MIN_BITS..=AffineConfig::MAX_BITS).contains(&config.bits) {
        return Err(Error::Bits { bits: config.bits });
    }
    for (field, value) in [("outliers", config.outliers), ("sensitive", config.sensitive)] {
        if !(0.0..=1.0).contains(&value) {
            return Err(Error::Setting { method: "SqueezeLLM", field, value, expected: "0 to 1" });
        }
    }
    crate::affine::check_importance(fisher, inp)?;
    let largest = f32::from(f16::MAX);
    if let Some(at) = weight.iter().position(|w| w.abs() > largest) {
        return Err(Error::ScaleRange { row: at / inp, group: 0, value: weight[at] });
    }
    // All channels silent: all weights alike.
    let ones = vec![1.0; inp];
    let fisher = if fisher.iter().any(|f| *f > 0.0) { fisher } else { &ones };

    let kept = kept(weight, fisher, config);
    let mut dequantized = vec![0.0; weight.len()];
    dequantized.par_chunks_mut(inp).enumerate().for_each(|(row, out)| {
        let (weights, kept) = (&weight[row * inp..][..inp], &kept[row * inp..][..inp]);
        quantize_row(weights, kept, fisher, 1 << config.bits, out);
    });
    let n_kept = kept.iter().filter(|kept| **kept).count();
    debug_assert_eq!(dequantized.len(), out * inp);
    Ok(Outcome::new(dequantized, config.bytes(shape, n_kept)))
}

/// Which weights go to the sparse matrix.
fn kept(weight: &[f32], fisher: &[f32], config: &SqueezellmConfig) -> Vec<bool> {
    let mut kept = vec![false; weight.len()];
    let mut keep = |share: f64, score: &dyn Fn(usize) -> f64| {
        let n = (share * weight.len() as f64).round() as usize;
        let mut open: Vec<usize> = (0..weight.len()).filter(|&at| !kept[at]).collect();
        // The first of equals, so that the choice is one and the same on every run.
        open.sort_by(|&a, &b| score(b).total_cmp(&score(a)).then(a.cmp(&b)));
        open.iter().take(n).for_each(|&at| kept[at] = true);
    };
    keep(config.outliers, &|at| f64::from(weight[at].abs()));
    keep(config.sensitive, &|at| f64::from(fisher[at % fisher.len()]) * f64::from(weight[at]).powi(2));
    kept
}

fn quantize_row(weights: &[f32], kept: &[bool], fisher: &[f32], k: usize, out: &mut [f32]) {
    let dense = |floor: f64| -> Vec<(f64, f64)> {
        let all = weights.iter().zip(kept).zip(fisher);
        let mut points: Vec<(f64, f64)> = all
            .filter(|((_, kept), _)| !**kept)
            .map(|((&w, _), &f)| (f64::from(w), f64::from(f).max(floor)))
            .filter(|(_, f)| *f > 0.0)
            .collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        points
    };
    let mut points = dense(0.0);
    if points.is_empty() {
        points = dense(1.0);
    }
    let mut table: Vec<f32> = kmeans(&points, k).into_iter().map(|c| f16::from_f64(c).to_f32()).collect();
    if table.is_empty() {
        table.push(0.0);
    }
    let nearest = |w: f32| {
        let distance = |c: &f32| f64::from(w - c).abs();
        let best = table.iter().copied().min_by(|a, b| distance(a).total_cmp(&distance(b)));
        best.unwrap_or(0.0)
    };
    let zero = nearest(0.0);
    for ((out, &w), &kept) in out.iter_mut().zip(weights).zip(kept) {
        // The sparse matrix is added to the dense one, which has its value nearest to 0 there.
        *out = if kept { zero + f16::from_f32(w - zero).to_f32() } else { nearest(w) };
    }
}
