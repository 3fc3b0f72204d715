//! Round to nearest.

use super::{Matrix, Outcome};
use crate::{
    affine::{AffineConfig, fake_quantize_slice},
    error::Result,
};

/// Every weight to its nearest code: `Ŵ = s (clamp(round(W / s + z)) - z)`.
///
/// # Source
/// Eq. 10 of the paper; Jacob et al., "Quantization and Training of Neural Networks for Efficient
/// Integer-Arithmetic-Only Inference" (arXiv 1712.05877).
///
/// # Errors
/// As [`crate::affine::AffineMatrix::quantize`].
pub fn rtn(matrix: Matrix<'_>, config: AffineConfig) -> Result<Outcome> {
    let Matrix { weight, shape } = matrix;
    let mut dequantized = vec![0.0; weight.len()];
    fake_quantize_slice(weight, shape, config, &mut dequantized)?;
    Ok(Outcome::new(dequantized, config.bytes(shape)?))
}
