//! GPTQ rounding into ggml's blocks: a column's rounding error is made good by the columns that follow.
//!
//! # Source
//! Frantar et al., "GPTQ" (arXiv 2210.17323), in the form of LDLQ (Chee et al., "QuIP", arXiv 2307.13304,
//! Theorem 6: the two are the same). With `E = W - Q` and the Hessian of the output error `H = E[x xᵀ]` factored
//! as `U D Uᵀ`, `U` unit upper triangular, `tr(E H Eᵀ) = Σ_i D_i |η_i|²`, where `η_i` is what the rounding of
//! `w_i + Σ_{j<i} e_j U_ji` loses. The scales are those that ggml's own search finds for the corrected weights of
//! a super-block; only the codes are chosen otherwise, so that the file has the type's ordinary layout.

mod factor;
mod form;
mod refine;
mod round;

pub use self::{factor::Hessian, round::gptq};
pub(crate) use self::{
    form::quadratic_form,
    refine::{product, refine},
};

/// Rows that are rounded together: a column of them fills whole registers.
pub(crate) const ROWS: usize = 32;

/// One value for each of the rows that are rounded together.
pub(crate) type Lane = [f32; ROWS];

/// Up to [`ROWS`] rows of `n` values, by column; rows that are missing are zero.
pub(crate) fn lanes(rows: &[f32], n: usize) -> Vec<Lane> {
    let mut columns = vec![[0.0; ROWS]; n];
    for (row, values) in rows.chunks_exact(n).enumerate() {
        for (column, &value) in columns.iter_mut().zip(values) {
            column[row] = value;
        }
    }
    columns
}

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// How to round with error feedback.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GptqConfig {
    /// Added to the diagonal of the Hessian, as a share of its mean (`percdamp`). GPTQ has 0.01; a short calibration
    /// text wants more. Above 0.
    pub damping: f64,
    /// Columns of large mean square first, as far as super-blocks allow (GPTQ's `--act-order`).
    pub act_order: bool,
    /// Passes of coordinate descent over the codes afterwards, each code set to its best value given all others
    /// (QuantEase, arXiv 2309.01885). Their loss never rises. 0 is GPTQ as published.
    pub refine_passes: usize,
}

impl Default for GptqConfig {
    fn default() -> Self {
        Self { damping: 0.05, act_order: true, refine_passes: 4 }
    }
}

impl GptqConfig {
    /// Checks the numbers.
    ///
    /// # Errors
    /// When the damping is not a number above 0.
    pub fn validate(&self) -> Result<()> {
        if self.damping > 0.0 && self.damping.is_finite() {
            return Ok(());
        }
        Err(Error::Damping { value: self.damping })
    }
}

#[cfg(test)]
mod tests;
