//! The layers of one model to their stored bytes.

use std::sync::Arc;

use ramp_model::{CalibrationStats, Gram, LayerId};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{
    error::Result,
    format::Format,
    gptq::{GptqConfig, Hessian, gptq},
    quantize::{Quantized, check_length, quantize},
};

/// How codes are chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rounding {
    /// As `llama-quantize` does with an importance matrix, each block for itself.
    #[default]
    Nearest,
    /// With error feedback ([`gptq`]). Needs the Gram matrices of the calibration pass; a layer that has none (the
    /// embedding) and a type without a grid are rounded to nearest.
    Gptq(GptqConfig),
}

impl Rounding {
    /// The name in files, reports and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nearest => "nearest",
            Self::Gptq(_) => "gptq",
        }
    }
}

/// Quantizes layers with the statistics of their inputs.
///
/// Layers with the same input share one factored Hessian when they come one after the other, as they do in
/// execution order.
#[derive(Debug)]
pub struct LayerQuantizer<'a> {
    stats: &'a CalibrationStats,
    rounding: Rounding,
    last: Option<(Arc<Gram>, usize, Hessian)>,
}

impl<'a> LayerQuantizer<'a> {
    /// A quantizer for the model that `stats` was gathered from.
    #[must_use]
    pub const fn new(stats: &'a CalibrationStats, rounding: Rounding) -> Self {
        Self { stats, rounding, last: None }
    }

    /// Quantizes one layer, row-major `[out, in]`.
    ///
    /// # Errors
    /// As [`quantize`] and [`gptq`]; the error names the layer.
    pub fn quantize(
        &mut self,
        id: LayerId,
        weight: &[f32],
        shape: [usize; 2],
        format: Format,
    ) -> Result<Quantized> {
        self.try_quantize(id, weight, shape, format).map_err(|error| error.in_tensor(id))
    }

    fn try_quantize(
        &mut self,
        id: LayerId,
        weight: &[f32],
        shape: [usize; 2],
        format: Format,
    ) -> Result<Quantized> {
        if let (Rounding::Gptq(config), Format::Ggml(ty), Some(gram)) =
            (self.rounding, format, self.stats.gram(id))
            && ramp_gguf::has_grid(ty)
        {
            return gptq(weight, shape, ty, self.hessian(gram, ty.block_size(), &config)?, &config);
        }
        quantize(weight, shape, format, imatrix(self.stats, id).as_deref())
    }

    /// Squared error of a layer's output relative to the output itself: [`LayerQuantizer::output_energy`] of `W - Ŵ` over
    /// that of `W`.
    ///
    /// # Errors
    /// When the lengths are not the shape's, or the Hessian cannot be factored.
    pub fn relative_error(
        &mut self,
        id: LayerId,
        weight: &[f32],
        dequantized: &[f32],
        shape: [usize; 2],
    ) -> Result<f64> {
        let norm = self.output_energy(id, weight, shape)?;
        self.relative_error_to(norm, id, weight, dequantized, shape)
    }

    /// As [`LayerQuantizer::relative_error`], for several approximations of a matrix whose energy, `norm`, is known.
    ///
    /// # Errors
    /// As [`LayerQuantizer::relative_error`].
    pub fn relative_error_to(
        &mut self,
        norm: f64,
        id: LayerId,
        weight: &[f32],
        dequantized: &[f32],
        shape: [usize; 2],
    ) -> Result<f64> {
        check_length(weight, shape)?;
        check_length(dequantized, shape)?;
        let difference: Vec<f32> = weight.par_iter().zip(dequantized).map(|(w, q)| w - q).collect();
        let error = self.output_energy(id, &difference, shape)?;
        Ok(if norm > 0.0 { error / norm } else { 0.0 })
    }

    /// Mean of `|W x|²` over the calibration tokens, up to a factor, for `weight` `[out, in]`.
    ///
    /// With GPTQ rounding this is `tr(W H Wᵀ)`, otherwise the same with the diagonal of `H` alone: `Σ_j E[x_j²] |W_j|²`, what
    /// the imatrix weights. The embedding has no input; its weights count alike.
    ///
    /// # Errors
    /// When the length is not the shape's, or the Hessian cannot be factored.
    pub fn output_energy(&mut self, id: LayerId, weight: &[f32], shape: [usize; 2]) -> Result<f64> {
        check_length(weight, shape)?;
        if let (Rounding::Gptq(config), Some(gram)) = (self.rounding, self.stats.gram(id)) {
            // The matrix is the same for any block length, so take one that is factored already.
            let block = match &self.last {
                Some((last, block, _)) if Arc::ptr_eq(last, gram) => *block,
                _ => shape[1],
            };
            let hessian = self.hessian(gram, block, &config).map_err(|error| error.in_tensor(id))?;
            return Ok(hessian.loss(weight));
        }
        let imatrix = imatrix(self.stats, id);
        let square = |x: &f32| f64::from(*x) * f64::from(*x);
        let row = |row: &[f32]| -> f64 {
            match &imatrix {
                Some(imatrix) => row.iter().zip(imatrix).map(|(x, i)| f64::from(*i) * square(x)).sum(),
                None => row.iter().map(square).sum(),
            }
        };
        // Rows in their order, whichever thread summed them.
        Ok(weight.par_chunks_exact(shape[1]).map(row).collect::<Vec<_>>().iter().sum())
    }

    fn hessian(&mut self, gram: &Arc<Gram>, block: usize, config: &GptqConfig) -> Result<&Hessian> {
        let known = |(last, n, _): &(Arc<Gram>, usize, Hessian)| Arc::ptr_eq(last, gram) && *n == block;
        let last = match self.last.take().filter(known) {
            Some(last) => last,
            None => (gram.clone(), block, Hessian::new(gram, block, config)?),
        };
        Ok(&self.last.insert(last).2)
    }
}

/// The imatrix that codecs get for a layer: mean squared activation per input channel.
///
/// `None` for the embedding, whose rows are looked up and not multiplied, as in llama.cpp.
#[must_use]
pub fn imatrix(stats: &CalibrationStats, id: LayerId) -> Option<Vec<f32>> {
    let imatrix = stats.imatrix(id)?;
    // A channel that never fired says nothing; an all-zero imatrix would let the codec ignore the matrix.
    imatrix.iter().any(|&x| x > 0.0).then_some(imatrix)
}
