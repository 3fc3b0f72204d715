//! A method on every matrix of a model's blocks.

use ramp_model::{Architecture, CalibrationStats, CausalLm, LayerId, ModelConfig, Role, SubBlock};
use serde::Serialize;

use super::{
    AwqConfig, Calibration, GptqAffineConfig, Inputs, Kind, LrqConfig, Matrix, Method, Outcome, QuipConfig,
    SmoothquantConfig, SqueezellmConfig, awq, awq_by,
    blockwise::{learned_blocks, lrq_blocks},
    gptq_affine, lrq, mean_sq, quip, rtn, smoothquant, squeezellm,
};
use crate::{
    affine::{AffineConfig, ZeroPoint},
    error::{Error, Result},
    format::Format,
    layer_quantizer::{LayerQuantizer, Rounding, imatrix},
    reconstruction::{Reference, Stream},
};

/// What a method did to a model.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Applied {
    /// The matrices, in execution order.
    pub layers: Vec<AppliedLayer>,
}

impl Applied {
    /// Notes what a method leaves of a matrix, and gives its weights.
    pub(super) fn note(&mut self, id: LayerId, outcome: Outcome) -> Vec<f32> {
        self.layers.push(AppliedLayer {
            id,
            weights: outcome.dequantized.len() as u64,
            bytes: outcome.bytes,
            raised_damping: outcome.raised_damping,
        });
        outcome.dequantized
    }

    /// Bytes of all matrices.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.layers.iter().map(|layer| layer.bytes).sum()
    }

    /// Bits per weight over all matrices.
    #[must_use]
    pub fn bits_per_weight(&self) -> f64 {
        let weights: u64 = self.layers.iter().map(|layer| layer.weights).sum();
        8.0 * self.bytes() as f64 / weights.max(1) as f64
    }
}

/// A matrix.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct AppliedLayer {
    /// Which.
    pub id: LayerId,
    /// Weights.
    pub weights: u64,
    /// Bytes stored.
    pub bytes: u64,
    /// The damping of its Hessian, where it had to be raised because the Hessian is singular.
    pub raised_damping: Option<f64>,
}

/// Replaces the matrices of the blocks by what a method leaves of them; embedding and head stay, as in the methods'
/// papers.
///
/// `stats` are those of the unquantized model. Methods with [`Inputs::Quantized`] gather their own, from `windows`, matrix by
/// matrix: never more than the Gram matrix of one input, and the residual stream of the windows. AWQ runs halves of blocks
/// on windows, too, because it searches for the least error behind them, and LRQ learns the matrices of a block together, for
/// its output. Other methods need no windows.
///
/// Channel scales (AWQ, SmoothQuant) are not folded into the layer in front: `Q(W diag(s)) diag(s)⁻¹` on the input as it
/// is computes the same. A scale that would fold into a matrix divides that matrix's rows, and an affine quantizer does
/// the same to a row and to its multiple, up to the rounding of scales to f16. Where no layer could take the inverse
/// (grouped queries, GELU), none is searched.
///
/// `progress` is told the matrices done and their number, and may stop by returning `false`.
///
/// # Errors
/// When statistics or windows are missing or of another model, a method cannot quantize a matrix (the error names it), or
/// [`ramp_model::Error::Interrupted`].
pub fn apply(
    method: Method,
    model: &mut CausalLm,
    stats: &CalibrationStats,
    windows: &[&[u32]],
    mut progress: impl FnMut(usize, usize) -> bool,
) -> Result<Applied> {
    let config = model.config().clone();
    let total = config.n_blocks * config.architecture.roles().len();
    let base = model.clone(); // handles only
    let searches_outputs = matches!(method, Method::Published { kind: Kind::Awq, .. });
    let sequential = method.inputs() == Inputs::Quantized;
    if (searches_outputs || sequential) && windows.is_empty() {
        return Err(Error::MissingWindows { method: method.to_string() });
    }
    if let Method::Published { kind: Kind::Lrq, bits, group, inputs: Inputs::Quantized } = method {
        let affine = AffineConfig::per_group(bits, group);
        return lrq_blocks(model, windows, &LrqConfig { affine, ..LrqConfig::default() }, progress);
    }
    if let Method::Learned { format } = method {
        return learned_blocks(model, stats, windows, format, progress);
    }
    let mut stream = match searches_outputs || sequential {
        true => Some(Stream::new(model, windows)?),
        false => None,
    };
    let mut applied = Applied::default();
    for (block, half) in (0..config.n_blocks).flat_map(|block| SubBlock::ALL.map(|half| (block, half))) {
        let reference = match &stream {
            Some(stream) if searches_outputs => Some(stream.reference(&base, block, half)?),
            _ => None,
        };
        for site in Site::of(&config, block, half) {
            let gathered = match &stream {
                Some(stream) if sequential => Some(stream.gather(model, block, half, &site.layers)?),
                _ => None,
            };
            let stats = gathered.as_ref().unwrap_or(stats);
            let weights: Vec<Vec<f32>> =
                site.layers.iter().map(|&id| model.weight_data(id)).collect::<Result<_, _>>()?;
            let outcomes = match method {
                Method::Format { format, rounding, .. } => {
                    site.format(&config, &weights, stats, format, rounding)?
                }
                // Went its own way above.
                Method::Learned { .. } => Vec::new(),
                Method::Published { kind, bits, group, .. } => {
                    let affine = AffineConfig::per_group(bits, group);
                    site.published(&config, &weights, stats, kind, affine, reference.as_ref())?
                }
            };
            for (&id, outcome) in site.layers.iter().zip(outcomes) {
                let weight = model.place(id, applied.note(id, outcome), config.shape(id));
                model.set_weight(id, weight)?;
            }
            if !progress(applied.layers.len(), total) {
                return Err(ramp_model::Error::Interrupted.into());
            }
        }
        if let Some(stream) = &mut stream {
            stream.advance(if sequential { model } else { &base }, block, half)?;
        }
    }
    Ok(applied)
}

/// Names the layer of an error.
pub(super) fn in_layer(layer: LayerId) -> impl FnOnce(Error) -> Error {
    move |error| Error::InLayer { layer, source: Box::new(error) }
}

/// Matrices that read one input.
struct Site {
    layers: Vec<LayerId>,
    /// What is in front, and could take the inverse of a channel scale.
    before: Before,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    Norm,
    /// A matrix whose rows are the input's channels.
    Matrix,
    /// Nothing that could take it.
    Other,
}

impl Site {
    /// Those of a half of a block, in execution order.
    fn of(config: &ModelConfig, block: usize, half: SubBlock) -> [Self; 2] {
        let architecture = config.architecture;
        let gated = architecture != Architecture::Gpt2;
        let per_head = config.shape(LayerId::Block { block, role: Role::O })[1];
        // With grouped queries several channels of the input come from one row of v.
        let own_values = gated && config.shape(LayerId::Block { block, role: Role::V })[0] == per_head;
        let after = |possible: bool| if possible { Before::Matrix } else { Before::Other };
        let site = |roles: &[Role], before| Self {
            layers: roles.iter().map(|&role| LayerId::Block { block, role }).collect(),
            before,
        };
        match half {
            SubBlock::Attention => {
                [site(architecture.attn_inputs(), Before::Norm), site(&[Role::O], after(own_values))]
            }
            SubBlock::FeedForward => {
                [site(architecture.ffn_inputs(), Before::Norm), site(&[Role::Down], after(gated))]
            }
        }
    }

    /// Each matrix by itself.
    fn format(
        &self,
        config: &ModelConfig,
        weights: &[Vec<f32>],
        stats: &CalibrationStats,
        format: Format,
        rounding: Rounding,
    ) -> Result<Vec<Outcome>> {
        let mut quantizer = LayerQuantizer::new(stats, rounding);
        let layers = self.layers.iter().zip(weights);
        layers
            .map(|(&id, weight)| {
                let shape = config.shape(id);
                if let Some(found) =
                    imatrix(stats, id).map(|imatrix| imatrix.len()).filter(|n| *n != shape[1])
                {
                    return Err(Error::StatsWidth { layer: id.to_string(), expected: shape[1], found });
                }
                let quantized = quantizer.quantize(id, weight, shape, format.fallback(shape[1]))?;
                Ok(Outcome::new(quantized.dequantized, quantized.bytes.len() as u64))
            })
            .collect()
    }

    fn published(
        &self,
        config: &ModelConfig,
        weights: &[Vec<f32>],
        stats: &CalibrationStats,
        kind: Kind,
        affine: AffineConfig,
        reference: Option<&Reference>,
    ) -> Result<Vec<Outcome>> {
        let Some(&first) = self.layers.first() else { return Ok(Vec::new()) };
        let mut matrices = Vec::new();
        for (&id, weight) in self.layers.iter().zip(weights) {
            matrices.push(Matrix::new(weight, config.shape(id)).map_err(in_layer(id))?);
        }
        let each = |quantize: &dyn Fn(Matrix<'_>) -> Result<Outcome>| -> Result<Vec<Outcome>> {
            let layers = self.layers.iter().zip(&matrices);
            layers.map(|(&id, matrix)| quantize(*matrix).map_err(in_layer(id))).collect()
        };
        if kind == Kind::Rtn {
            return each(&|matrix| rtn(matrix, affine));
        }
        let (Some(channels), Some(gram)) = (stats.get(first), stats.gram(first)) else {
            return Err(Error::MissingGram { layer: first.to_string() });
        };
        let calibration = Calibration::of(channels, gram).map_err(in_layer(first))?;
        let (expected, found) = (config.shape(first)[1], gram.width());
        if expected != found {
            return Err(Error::StatsWidth { layer: first.to_string(), expected, found });
        }
        match kind {
            Kind::Rtn => each(&|matrix| rtn(matrix, affine)),
            Kind::Gptq => {
                let gptq = GptqAffineConfig { affine, ..GptqAffineConfig::default() };
                let hessian = gptq.hessian(gram).map_err(in_layer(first))?;
                each(&|matrix| gptq_affine(matrix, &hessian, &gptq))
            }
            Kind::Awq => {
                let affine = affine.with_zero_point(ZeroPoint::Clamped);
                let scale = self.before != Before::Other;
                let awq_config = AwqConfig { affine, scale, ..AwqConfig::default() };
                // Queries and keys are multiplied with each other: clipping them does harm.
                let clipped = |at: usize| match self.layers[at].role() {
                    Some(role) => !matches!(role, Role::Q | Role::K | Role::Qkv),
                    None => true,
                };
                // o and down end their half: the error of its output is that of their own.
                let found = match reference.filter(|_| self.before == Before::Norm) {
                    Some(reference) => awq_by(&matrices, &calibration, &awq_config, clipped, |weights| {
                        reference.error(&self.layers, weights)
                    }),
                    None => awq(&matrices, &calibration, &awq_config, clipped),
                };
                Ok(found.map_err(in_layer(first))?.outcomes)
            }
            Kind::Smoothquant if self.before != Before::Norm => each(&|matrix| rtn(matrix, affine)),
            Kind::Smoothquant => {
                let config = SmoothquantConfig { affine, ..SmoothquantConfig::default() };
                Ok(smoothquant(&matrices, &calibration, &config).map_err(in_layer(first))?.outcomes)
            }
            Kind::Squeezellm => {
                let config = SqueezellmConfig { bits: affine.bits, ..SqueezellmConfig::default() };
                let fisher = mean_sq(gram).map_err(in_layer(first))?;
                each(&|matrix| squeezellm(matrix, &fisher, &config))
            }
            Kind::Quip => {
                let config = QuipConfig { affine, ..QuipConfig::default() };
                each(&|matrix| quip(matrix, &calibration, &config))
            }
            Kind::Lrq => {
                let config = LrqConfig { affine, ..LrqConfig::default() };
                each(&|matrix| lrq(matrix, &calibration, &config))
            }
        }
    }
}
