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

/// `Q(W') diag(s)⁻¹` of `W' = W diag(s)`: what the original input sees of a matrix with scaled channels.
pub(super) fn rtn_scaled(
    scaled: &[f32],
    shape: [usize; 2],
    scale: &[f32],
    affine: AffineConfig,
) -> Result<Vec<f32>> {
    let mut dequantized = vec![0.0; scaled.len()];
    fake_quantize_slice(scaled, shape, affine, &mut dequantized)?;
    dequantized.iter_mut().zip(scale.iter().cycle()).for_each(|(w, s)| *w /= s);
    Ok(dequantized)
}
