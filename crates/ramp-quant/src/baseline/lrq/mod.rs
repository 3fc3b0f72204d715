//! LRQ: low-rank weight-scaling matrices, learned.

mod adam;
mod state;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use self::state::{Forward, State};
use super::{Calibration, Matrix, Outcome, OutputError};
use crate::{
    affine::AffineConfig,
    error::{Error, Result},
};

/// How LRQ learns.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LrqConfig {
    /// The grid.
    pub affine: AffineConfig,
    /// Rank of the scaling matrix, or the matrix's smaller side where that is less. The paper has 1024 for layers of
    /// 4096: a quarter.
    pub rank: usize,
    /// Steps of Adam.
    pub steps: usize,
    /// Adam's step size.
    pub learning_rate: f64,
    /// Seed of `U`.
    pub seed: u64,
}

impl Default for LrqConfig {
    fn default() -> Self {
        Self { affine: AffineConfig::per_group(4, 128), rank: 64, steps: 200, learning_rate: 2e-3, seed: 0 }
    }
}

impl LrqConfig {
    fn validate(&self) -> Result<()> {
        if self.learning_rate > 0.0 && self.learning_rate.is_finite() {
            return Ok(());
        }
        let (field, value) = ("learning_rate", self.learning_rate);
        Err(Error::Setting { method: "LRQ", field, value, expected: "a number above 0" })
    }
}

/// Learns by how much each weight is scaled before it is rounded.
///
/// `Ŵ = s (clamp(round(W / (s ∘ exp(L U + r + c)) + z)) - z)`: a low-rank matrix `L U`, `L` `[out, rank]` and `U`
/// `[rank, in]`, and a vector for rows `r` and columns `c` say where a weight crosses to the next code. They and the
/// steps `s` are learned by Adam, the gradient of rounding taken as 1 (straight through). `L`, `r` and `c` begin at 0,
/// which is RTN, and the best of all steps is kept. Only codes, scales and zero points are stored.
///
/// The published program minimizes the error of a block's output on batches, as [`lrq_by`] can; this minimizes that of the
/// layer's output, `tr(E H Eᵀ)`, whose gradient is exact from the Gram matrix.
///
/// # Source
/// Lee et al., "LRQ" (arXiv 2407.11534), Eq. 4; Lee et al., "FlexRound" (arXiv 2306.00317), which it refines.
///
/// # Errors
/// When matrix and statistics do not fit, the configuration is out of range, or a scale is beyond f16.
pub fn lrq(matrix: Matrix<'_>, calibration: &Calibration<'_>, config: &LrqConfig) -> Result<Outcome> {
    calibration.check(&matrix)?;
    let Matrix { weight, shape } = matrix;
    config.validate()?;
    let error = OutputError::new(calibration.gram)?;
    let norm = error.of(weight);
    let mut state = State::new(weight, shape, config)?;
    let mut best = (f64::INFINITY, Vec::new());
    for step in 0..=config.steps {
        let forward = state.forward();
        let e: Vec<f32> = forward.dequantized.iter().zip(weight).map(|(q, w)| q - w).collect();
        let product = error.times(&e);
        let loss: f64 = rows_in_order(&e, shape[1], |at, e| {
            e.iter().zip(&product[at..]).map(|(&e, &p)| f64::from(e) * f64::from(p)).sum()
        });
        let gradient_scale = if norm > 0.0 { (2.0 / norm) as f32 } else { 0.0 };
        if loss < best.0 {
            best = (loss, forward.dequantized.clone());
        }
        if step < config.steps && gradient_scale > 0.0 {
            let gradient: Vec<f32> = product.iter().map(|p| p * gradient_scale).collect();
            state.step(&forward, &gradient, config.learning_rate);
        }
    }
    Ok(Outcome::new(best.1, config.affine.bytes(shape)?))
}

/// Learns the matrices of a block together, for the error of its output.
///
/// `slope` is given a step's number and the dequantized matrices, and gives the derivatives of a batch's error in each of
/// their weights. `error` gives the error of dequantized matrices on all windows; it is asked ten times, from the
/// beginning on, and the matrices with the least error are kept.
///
/// # Errors
/// When the configuration is out of range, a scale is beyond f16, or `slope` or `error` fail.
pub fn lrq_by(
    matrices: &[Matrix<'_>],
    config: &LrqConfig,
    mut slope: impl FnMut(usize, &[Vec<f32>]) -> Result<Vec<Vec<f32>>>,
    mut error: impl FnMut(&[Vec<f32>]) -> Result<f64>,
) -> Result<Vec<Outcome>> {
    config.validate()?;
    let states = matrices.iter().map(|matrix| State::new(matrix.weight, matrix.shape, config));
    let mut states: Vec<State<'_>> = states.collect::<Result<_>>()?;
    let every = config.steps.div_ceil(CHECKS).max(1);
    let mut best = (f64::INFINITY, Vec::new());
    for step in 0..=config.steps {
        let forwards: Vec<Forward> = states.iter().map(State::forward).collect();
        let dequantized: Vec<Vec<f32>> = forwards.iter().map(|forward| forward.dequantized.clone()).collect();
        if step % every == 0 || step == config.steps {
            let error = error(&dequantized)?;
            if error < best.0 {
                best = (error, dequantized.clone());
            }
        }
        if step < config.steps {
            let slopes = slope(step, &dequantized)?;
            for ((state, forward), slope) in states.iter_mut().zip(&forwards).zip(&slopes) {
                state.step(forward, slope, config.learning_rate);
            }
        }
    }
    if !best.0.is_finite() {
        return Err(Error::BlockError { method: "LRQ", value: best.0 });
    }
    let outcomes = best.1.into_iter().zip(matrices);
    outcomes
        .map(|(dequantized, matrix)| Ok(Outcome::new(dequantized, config.affine.bytes(matrix.shape)?)))
        .collect()
}

/// How often [`lrq_by`] looks at the error, about.
const CHECKS: usize = 10;

/// A sum over rows that does not depend on the number of threads.
fn rows_in_order(values: &[f32], n: usize, sum: impl Fn(usize, &[f32]) -> f64 + Sync) -> f64 {
    let rows: Vec<f64> = values.par_chunks(n).enumerate().map(|(row, values)| sum(row * n, values)).collect();
    rows.into_iter().sum()
}
