//! The essentials of QuIP#: incoherence by random rotations, and LDLQ rounding.

use ramp_model::Gram;
use serde::{Deserialize, Serialize};

use super::{
    Calibration, GptqAffineConfig, Matrix, Outcome, gptq_affine,
    random::SplitMix,
    rotation::{Rotation, transposed},
};
use crate::{
    affine::{AffineConfig, ClipSearch},
    error::Result,
};

/// How QuIP# rounds, on an affine grid in place of its lattice.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QuipConfig {
    /// The grid.
    pub affine: AffineConfig,
    /// Added to the diagonal of the Hessian, as a share of its mean (`sigma_reg`). Above 0.
    pub damping: f64,
    /// Search for the range of a group: rotated weights are nearly normal, and their tails not worth their codes.
    pub clip: Option<ClipSearch>,
    /// Passes of coordinate descent (`quip_tune_iters`).
    pub tune_passes: usize,
    /// Seed of the signs.
    pub seed: u64,
}

impl Default for QuipConfig {
    fn default() -> Self {
        Self {
            affine: AffineConfig::per_group(4, 128),
            damping: 0.01,
            clip: Some(ClipSearch::default()),
            tune_passes: 10,
            seed: 0,
        }
    }
}

/// Rotates both sides of the matrix by random orthogonal transforms, rounds with feedback, and rotates back.
///
/// `W̃ = V W Uᵀ` and `H̃ = U H Uᵀ` with random `U` and `V`; `Ŵ = Vᵀ LDLQ(W̃, H̃) U`. No weight is then much larger than the
/// others, and no direction of the input lies in a few channels. An inference engine rotates the layer's input and output
/// on the way.
///
/// # Source
/// Tseng et al., "QuIP#" (arXiv 2402.10147), section 3 and Algorithm 1; Chee et al., "QuIP" (arXiv 2307.13304). Their E8
/// lattice and the fine-tuning are not here.
///
/// # Errors
/// As [`gptq_affine`].
pub fn quip(matrix: Matrix<'_>, calibration: &Calibration<'_>, config: &QuipConfig) -> Result<Outcome> {
    calibration.check(&matrix)?;
    let Matrix { weight, shape: shape @ [out, inp] } = matrix;
    let mut random = SplitMix(config.seed);
    let (u, v) = (Rotation::new(inp, &mut random), Rotation::new(out, &mut random));

    // W̃ = V W Uᵀ: rows first, then columns.
    let mut w: Vec<f64> = weight.iter().map(|w| f64::from(*w)).collect();
    Rotation::rows(&mut w, inp, |row| u.apply(row));
    let mut w = transposed(&w, inp);
    Rotation::rows(&mut w, out, |column| v.apply(column));
    let rotated: Vec<f32> = transposed(&w, out).into_iter().map(|w| w as f32).collect();

    let mut h: Vec<f64> = (0..inp * inp).map(|k| calibration.gram.mean(k / inp, k % inp)).collect();
    Rotation::rows(&mut h, inp, |row| u.apply(row));
    let mut h = transposed(&h, inp);
    Rotation::rows(&mut h, inp, |row| u.apply(row));
    let mut gram = Gram::zeros(inp);
    // Symmetric again, to the last bit.
    let h: Vec<f32> = (0..inp * inp).map(|k| (0.5 * (h[k] + h[k % inp * inp + k / inp])) as f32).collect();
    gram.add(&h, 1);

    let gptq = GptqAffineConfig {
        affine: config.affine,
        damping: config.damping,
        act_order: false,
        static_groups: true,
        clip: config.clip,
        refine_passes: config.tune_passes,
    };
    let rounded = gptq_affine(Matrix { weight: &rotated, shape }, &gptq.hessian(&gram)?, &gptq)?;

    let w: Vec<f64> = rounded.dequantized.iter().map(|w| f64::from(*w)).collect();
    let mut w = transposed(&w, inp);
    Rotation::rows(&mut w, out, |column| v.undo(column));
    let mut w = transposed(&w, out);
    Rotation::rows(&mut w, inp, |row| u.undo(row));
    Ok(Outcome {
        dequantized: w.into_iter().map(|w| w as f32).collect(),
        // A bit for each sign.
        bytes: rounded.bytes + out.div_ceil(8) as u64 + inp.div_ceil(8) as u64,
        ..rounded
    })
}
