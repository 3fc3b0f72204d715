//! Methods that learn all matrices of a block together.

use ramp_model::{CalibrationStats, CausalLm, LayerId};

use super::{Applied, LrqConfig, Matrix, Outcome, lrq_by, model::in_layer};
use crate::{
    error::Result,
    format::Format,
    gptq::GptqConfig,
    layer_quantizer::{LayerQuantizer, Rounding},
    learned::{LearnConfig, LearnStart, LearnedLayer, learn_rounding},
    reconstruction::{BlockOutput, reconstruct},
};

/// LRQ on every block, for its output.
pub(super) fn lrq_blocks(
    model: &mut CausalLm,
    windows: &[&[u32]],
    config: &LrqConfig,
    progress: impl FnMut(usize, usize) -> bool,
) -> Result<Applied> {
    let base = model.clone(); // handles only
    let shapes = model.config().clone();
    let mut applied = Applied::default();
    let quantize = |layers: &[LayerId], output: &BlockOutput<'_>| {
        let weights: Vec<Vec<f32>> =
            layers.iter().map(|&id| base.weight_data(id)).collect::<Result<_, _>>()?;
        let matrices = layers.iter().zip(&weights);
        let matrices: Vec<Matrix<'_>> = matrices
            .map(|(&id, weight)| Matrix::new(weight, shapes.shape(id)).map_err(in_layer(id)))
            .collect::<Result<_>>()?;
        let slope = |step: usize, weights: &[Vec<f32>]| output.slope(step..step + 1, weights);
        let error = |weights: &[Vec<f32>]| output.error(weights, windows.len());
        let outcomes = lrq_by(&matrices, config, slope, error).map_err(in_layer(layers[0]))?;
        let outcomes = layers.iter().zip(outcomes);
        Ok(outcomes.map(|(&id, outcome)| applied.note(id, outcome)).collect())
    };
    reconstruct(model, windows, quantize, progress)?;
    Ok(applied)
}

/// Codes that begin with GPTQ rounding on the unquantized model's inputs, as files have it, and are learned.
pub(super) fn learned_blocks(
    model: &mut CausalLm,
    stats: &CalibrationStats,
    windows: &[&[u32]],
    format: Format,
    progress: impl FnMut(usize, usize) -> bool,
) -> Result<Applied> {
    let base = model.clone(); // handles only
    let shapes = model.config().clone();
    let mut quantizer = LayerQuantizer::new(stats, Rounding::Gptq(GptqConfig::default()));
    let mut applied = Applied::default();
    let start = |id: LayerId| {
        let (weight, shape) = (base.weight_data(id)?, shapes.shape(id));
        let format = format.fallback(shape[1]);
        let quantized = quantizer.quantize(id, &weight, shape, format)?;
        Ok(LearnStart { weight, format, quantized })
    };
    let done = |LearnedLayer { id, quantized, .. }: LearnedLayer| {
        applied.note(id, Outcome::new(quantized.dequantized, quantized.bytes.len() as u64));
    };
    learn_rounding(model, windows, &LearnConfig::default(), start, done, progress)?;
    Ok(applied)
}
