//! SmoothQuant, on weights.

use serde::{Deserialize, Serialize};

use super::{Calibration, Matrix, Outcome, rtn::rtn_scaled};
use crate::{
    affine::AffineConfig,
    error::{Error, Result},
};

/// How SmoothQuant scales.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SmoothquantConfig {
    /// The grid.
    pub affine: AffineConfig,
    /// How much of the activations' range moves into the weights, 0 to 1.
    pub alpha: f64,
}

impl Default for SmoothquantConfig {
    fn default() -> Self {
        Self { affine: AffineConfig::per_group(4, 128), alpha: 0.5 }
    }
}

/// What SmoothQuant found for the matrices that read one input.
#[derive(Clone, Debug, PartialEq)]
pub struct Smoothed {
    /// `s`, `[in]`: the stored matrices are those of `W diag(s)`, and the norm in front is divided by `s`.
    pub scale: Vec<f32>,
    /// The matrices, as seen by the original input: `Q(W diag(s)) diag(s)⁻¹`.
    pub outcomes: Vec<Outcome>,
}

/// Moves the range of the activations into the weights, and rounds those to nearest.
///
/// `s_j = max|X_j|^α / max|W_j|^(1-α)`, the weights' maximum over all matrices that read the input. The method is made
/// for 8-bit activations, which this project does not quantize: what is measured here is what it does to weights.
///
/// # Source
/// Xiao et al., "SmoothQuant" (arXiv 2211.10438), Eq. 4; lower bounds of 1e-5 as in mit-han-lab's `smooth.py`.
///
/// # Errors
/// When matrices and statistics do not fit, the configuration is out of range, or a scale is beyond f16.
pub fn smoothquant(
    matrices: &[Matrix<'_>],
    calibration: &Calibration<'_>,
    config: &SmoothquantConfig,
) -> Result<Smoothed> {
    let SmoothquantConfig { affine, alpha } = *config;
    if !(0.0..=1.0).contains(&alpha) {
        let (method, field) = ("SmoothQuant", "alpha");
        return Err(Error::Setting { method, field, value: alpha, expected: "0 to 1" });
    }
    let mut max_w = vec![1e-5f32; calibration.max_abs.len()];
    for matrix in matrices {
        calibration.check(matrix)?;
        for row in matrix.weight.chunks_exact(max_w.len()) {
            max_w.iter_mut().zip(row).for_each(|(max, w)| *max = max.max(w.abs()));
        }
    }
    let scale: Vec<f32> = calibration
        .max_abs
        .iter()
        .zip(&max_w)
        .map(|(&x, &w)| (f64::from(x).powf(alpha) / f64::from(w).powf(1.0 - alpha)).max(1e-5) as f32)
        .collect();
    let outcomes = matrices.iter().map(|matrix| {
        let dequantized = rtn_scaled(&matrix.times_columns(&scale), matrix.shape, &scale, affine)?;
        Ok(Outcome::new(dequantized, affine.bytes(matrix.shape)?))
    });
    Ok(Smoothed { outcomes: outcomes.collect::<Result<_>>()?, scale })
}
