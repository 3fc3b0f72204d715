//! Codes of ggml's blocks, learned for the output of the model's blocks.
//!
//! GPTQ rounds each matrix for its own output. Here the codes of all matrices of a block move together, along the gradient of
//! the error of the block's output; sizes, scales and layouts stay, so that the file is one of its types.
//!
//! # Source
//! Cheng et al., "Optimize Weight Rounding via Signed Gradient Descent" (arXiv 2309.05516), Eq. 3 and 4, on the grids that
//! ggml's encoders find instead of on learned ranges, and begun at any codes instead of the nearest.

mod codes;

use ramp_model::{CausalLm, LayerId};
use serde::{Deserialize, Serialize};

use self::codes::Codes;
use crate::{
    error::{Error, Result},
    format::Format,
    quantize::Quantized,
    reconstruction::{BlockOutput, reconstruct},
};

/// How codes are learned.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LearnConfig {
    /// Steps of descent for each block. 0 leaves the codes as they are.
    pub steps: usize,
    /// Windows of text that a step looks at.
    pub batch: usize,
    /// How far the first step shifts a weight, in steps of its grid; falls to 0 in a line.
    pub learning_rate: f64,
}

impl Default for LearnConfig {
    fn default() -> Self {
        Self { steps: 200, batch: 1, learning_rate: 0.005 }
    }
}

impl LearnConfig {
    /// Checks the numbers.
    ///
    /// # Errors
    /// When a step looks at no window, or the learning rate is not a number above 0.
    pub fn validate(&self) -> Result<()> {
        let refuse = |field, value, expected| {
            Err(Error::Setting { method: "learned rounding", field, value, expected })
        };
        if self.batch == 0 {
            return refuse("batch", 0.0, "at least 1");
        }
        if !(self.learning_rate > 0.0 && self.learning_rate.is_finite()) {
            return refuse("learning_rate", self.learning_rate, "a number above 0");
        }
        Ok(())
    }
}

/// A matrix to begin with.
#[derive(Clone, Debug, PartialEq)]
pub struct LearnStart {
    /// Its weights, row-major `[out, in]`.
    pub weight: Vec<f32>,
    /// What it is stored as.
    pub format: Format,
    /// Its scales, which stay, and its codes: those of [`crate::quantize`] or better those of [`crate::gptq`].
    pub quantized: Quantized,
}

/// A matrix whose codes were learned.
#[derive(Clone, Debug, PartialEq)]
pub struct LearnedLayer {
    /// Which.
    pub id: LayerId,
    /// What it is stored as.
    pub format: Format,
    /// What a file holds: [`Format::bytes`] bytes, row after row.
    pub quantized: Quantized,
}

/// How far a block came.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LearnedBlock {
    /// Number of the block.
    pub block: usize,
    /// Sum of squared errors of its output at the codes that it began with, on the windows that judge.
    pub before: f64,
    /// The same at the codes that were kept: no more than before.
    pub after: f64,
}

/// Learns the codes of every matrix of the model's blocks, and leaves the model with what they stand for.
///
/// `start` gives what to begin with. Matrices of formats without a grid ([`ramp_gguf::has_grid`]) stay as they come. Embedding
/// and head are not asked for.
///
/// `windows` are tokens to calibrate on; each step takes the next [`LearnConfig::batch`] of them. Four times on the way, up to
/// [`JUDGES`] of them judge, and the best codes stay. `done` gets each finished matrix; `progress` is told the matrices done
/// and their number, and may stop by returning `false`.
///
/// Besides the model and what `done` keeps, memory holds the residual streams of the windows twice, f32, and a block's weights
/// about six times.
///
/// # Errors
/// When the configuration is out of range, there are no windows, `start` fails or gives another shape, the output of a block is
/// not finite, the device fails, or [`ramp_model::Error::Interrupted`].
pub fn learn_rounding(
    model: &mut CausalLm,
    windows: &[&[u32]],
    config: &LearnConfig,
    mut start: impl FnMut(LayerId) -> Result<LearnStart>,
    mut done: impl FnMut(LearnedLayer),
    progress: impl FnMut(usize, usize) -> bool,
) -> Result<Vec<LearnedBlock>> {
    config.validate()?;
    if windows.is_empty() {
        return Err(Error::MissingWindows { method: "learned rounding".into() });
    }
    let shapes = model.config().clone();
    let mut blocks = Vec::with_capacity(shapes.n_blocks);
    let quantize = |layers: &[LayerId], output: &BlockOutput<'_>| {
        let codes = layers
            .iter()
            .map(|&id| Codes::new(start(id)?, shapes.shape(id)).map_err(|error| error.in_tensor(id)));
        let mut codes = codes.collect::<Result<Vec<_>>>()?;
        let (before, after) = learn(&mut codes, output, config)?;
        blocks.push(LearnedBlock { block: output.block(), before, after });
        let finished = layers.iter().zip(codes);
        let finished = finished.map(|(&id, codes)| {
            let (format, quantized) = codes.finish()?;
            let weights = quantized.dequantized.clone();
            done(LearnedLayer { id, format, quantized });
            Ok(weights)
        });
        finished.collect()
    };
    reconstruct(model, windows, quantize, progress)?;
    Ok(blocks)
}

/// Windows that judge, at most.
pub const JUDGES: usize = 16;

/// How often they do, the beginning not counted.
const CHECKS: usize = 4;

/// One block; gives its error before and after.
fn learn(codes: &mut [Codes], output: &BlockOutput<'_>, config: &LearnConfig) -> Result<(f64, f64)> {
    let every = config.steps.div_ceil(CHECKS).max(1);
    let (mut first, mut best) = (f64::NAN, f64::INFINITY);
    for step in 0..=config.steps {
        let weights: Vec<Vec<f32>> = codes.iter().map(Codes::dequantized).collect();
        if step % every == 0 || step == config.steps {
            let error = output.error(&weights, JUDGES)?;
            if step == 0 {
                first = error;
            }
            if error < best {
                best = error;
                codes.iter_mut().for_each(Codes::keep);
            }
        }
        if step == config.steps {
            break;
        }
        let slopes = output.slope(step * config.batch..(step + 1) * config.batch, &weights)?;
        let left = 1.0 - step as f64 / config.steps as f64;
        for (codes, slope) in codes.iter_mut().zip(&slopes) {
            codes.step(slope, (config.learning_rate * left) as f32);
        }
    }
    if !best.is_finite() {
        return Err(Error::BlockError { method: "learned rounding", value: first });
    }
    Ok((first, best))
}
