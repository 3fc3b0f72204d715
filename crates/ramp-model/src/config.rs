//! Shape and constants of a model: what the forward pass needs of `config.json` or of a GGUF file's metadata.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{
    architecture::{Architecture, NormKind},
    error::{Error, Result},
    layer::{LayerId, Role},
    parameter::{NormId, Parameter},
};

/// llama.cpp refuses models with more blocks than this (`LLAMA_MAX_LAYERS`).
const MAX_BLOCKS: usize = 512;
/// Far above any published model; keeps products of dimensions far from overflow.
const MAX_DIM: usize = 1 << 24;

/// How rotary frequencies are stretched for long contexts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum RopeScaling {
    /// Positions are divided by `factor`.
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// Llama 3.1: long wavelengths are divided by `factor`, short ones kept, a smooth step between.
    Llama3 {
        /// Divisor of the long wavelengths.
        factor: f64,
        /// Wavelengths above `original_context / low_freq_factor` are divided.
        low_freq_factor: f64,
        /// Wavelengths below `original_context / high_freq_factor` are kept.
        high_freq_factor: f64,
        /// Context length of the first training, in tokens.
        original_context: f64,
    },
    /// Positions within the context of the first training are not stretched at all; beyond it the base would grow
    /// with each token. GGUF has no key for it, and a model with a growing base has no one set of activations, so
    /// that such models are read, run and written up to `max_position_embeddings` tokens.
    Dynamic {
        /// How far the context could be stretched.
        factor: f64,
    },
    /// YaRN (arXiv 2309.00071) with its defaults: long wavelengths are divided by `factor`, short ones kept, a ramp
    /// between (beta 32 and 1), and cosines and sines are multiplied by `1 + 0.1 ln factor`.
    Yarn {
        /// Divisor of the long wavelengths.
        factor: f64,
        /// Context length of the first training, in tokens.
        original_context: f64,
    },
    /// One divisor for each rotary frequency, `[head_dim / 2]`: what a GGUF file keeps of Llama-3 scaling, as
    /// `rope_freqs.weight`.
    Divisors(Vec<f32>),
}

/// Shape and constants of a decoder-only model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelConfig {
    /// Family.
    pub architecture: Architecture,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the feed-forward network.
    pub intermediate_size: usize,
    /// Number of transformer blocks.
    pub n_blocks: usize,
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads; a divisor of `n_heads`.
    pub n_kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Longest context trained, in tokens.
    pub max_position_embeddings: usize,
    /// Epsilon of the norms.
    pub norm_eps: f64,
    /// Base of the rotary frequencies; without a meaning where positions are learned.
    pub rope_theta: f64,
    /// Stretching of the rotary frequencies.
    pub rope_scaling: Option<RopeScaling>,
    /// Keys seen by a query, itself included; `None` is full causal attention.
    pub sliding_window: Option<usize>,
    /// The head is the embedding.
    pub tie_word_embeddings: bool,
    /// Beginning-of-sequence token.
    pub bos_token_id: Option<u32>,
    /// End-of-sequence token.
    pub eos_token_id: Option<u32>,
}

impl ModelConfig {
    /// Every quantizable matrix, in execution order.
    #[must_use]
    pub fn layers(&self) -> Vec<LayerId> {
        let matrix = |parameter| match parameter {
            Parameter::Matrix(id) => Some(id),
            _ => None,
        };
        self.parameters().into_iter().filter_map(matrix).collect()
    }

    /// Everything that the model learned, in the order of a GGUF file.
    #[must_use]
    pub fn parameters(&self) -> Vec<Parameter> {
        let architecture = self.architecture;
        let norm = |id: NormId| {
            let bias = (architecture.norm_kind() == NormKind::Layer).then_some(Parameter::NormBias(id));
            std::iter::once(Parameter::Norm(id)).chain(bias)
        };
        let matrix = |id: LayerId| {
            let bias = architecture.has_bias(id).then_some(Parameter::Bias(id));
            std::iter::once(Parameter::Matrix(id)).chain(bias)
        };
        let mut all = vec![Parameter::Matrix(LayerId::TokenEmbd)];
        all.extend((!architecture.is_rotary()).then_some(Parameter::PositionEmbd));
        for block in 0..self.n_blocks {
            let (attention, feed_forward): (Vec<Role>, Vec<Role>) =
                architecture.roles().iter().partition(|role| role.is_attention());
            all.extend(norm(NormId::Attn(block)));
            if architecture.norms_heads() {
                all.extend(norm(NormId::QHead(block)).chain(norm(NormId::KHead(block))));
            }
            all.extend(attention.into_iter().flat_map(|role| matrix(LayerId::Block { block, role })));
            all.extend(norm(NormId::Ffn(block)));
            all.extend(feed_forward.into_iter().flat_map(|role| matrix(LayerId::Block { block, role })));
        }
        all.extend(norm(NormId::Output));
        if !self.tie_word_embeddings {
            all.extend(matrix(LayerId::Output));
        }
        all
    }

    /// `[out, in]` of a matrix: rows are output channels, a row is what a codec sees at once.
    #[must_use]
    pub const fn shape(&self, id: LayerId) -> [usize; 2] {
        let hidden = self.hidden_size;
        match id {
            LayerId::TokenEmbd | LayerId::Output => [self.vocab_size, hidden],
            LayerId::Block { role, .. } => match role {
                Role::Q => [self.n_heads * self.head_dim, hidden],
                Role::K | Role::V => [self.n_kv_heads * self.head_dim, hidden],
                Role::Qkv => [(self.n_heads + 2 * self.n_kv_heads) * self.head_dim, hidden],
                Role::O => [hidden, self.n_heads * self.head_dim],
                Role::Gate | Role::Up => [self.intermediate_size, hidden],
                Role::Down => [hidden, self.intermediate_size],
            },
        }
    }

    /// Shape of any parameter, row-major; a matrix is `[out, in]`.
    #[must_use]
    pub fn parameter_shape(&self, parameter: Parameter) -> Vec<usize> {
        match parameter {
            Parameter::Matrix(id) => self.shape(id).to_vec(),
            Parameter::Bias(id) => vec![self.shape(id)[0]],
            Parameter::Norm(id) | Parameter::NormBias(id) => vec![self.norm_width(id)],
            Parameter::PositionEmbd => vec![self.max_position_embeddings, self.hidden_size],
        }
    }

    /// Channels of a norm.
    #[must_use]
    pub const fn norm_width(&self, id: NormId) -> usize {
        match id {
            NormId::QHead(_) | NormId::KHead(_) => self.head_dim,
            NormId::Attn(_) | NormId::Ffn(_) | NormId::Output => self.hidden_size,
        }
    }

    /// Number of weights in a matrix.
    #[must_use]
    pub const fn n_weights(&self, id: LayerId) -> usize {
        let [out, inp] = self.shape(id);
        out * inp
    }

    /// Number of parameters of the whole model: matrices, biases, norms, positions.
    #[must_use]
    pub fn n_params(&self) -> usize {
        let size = |parameter| self.parameter_shape(parameter).into_iter().product::<usize>();
        self.parameters().into_iter().map(size).sum()
    }

    /// Most tokens of a forward pass, where the model has a hard end: a table of positions, or rotary frequencies
    /// that would change with the number of tokens.
    #[must_use]
    pub const fn max_tokens(&self) -> Option<usize> {
        let hard =
            !self.architecture.is_rotary() || matches!(self.rope_scaling, Some(RopeScaling::Dynamic { .. }));
        if hard { Some(self.max_position_embeddings) } else { None }
    }

    /// Checks what the forward pass relies on. `path` is for the message.
    pub(crate) fn validate(self, path: &Path) -> Result<Self> {
        let fail = |key: &str, why: String| Err(Error::config(path, key, why));
        for (key, value) in [
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_attention_heads", self.n_heads),
            ("num_key_value_heads", self.n_kv_heads),
            ("head_dim", self.head_dim),
            ("vocab_size", self.vocab_size),
            ("max_position_embeddings", self.max_position_embeddings),
        ] {
            if value == 0 || value > MAX_DIM {
                return fail(key, format!("is {value}, expected 1 to {MAX_DIM}"));
            }
        }
        if self.n_blocks == 0 || self.n_blocks > MAX_BLOCKS {
            return fail("num_hidden_layers", format!("is {}, expected 1 to {MAX_BLOCKS}", self.n_blocks));
        }
        if !self.n_heads.is_multiple_of(self.n_kv_heads) {
            return fail(
                "num_key_value_heads",
                format!("is {}, expected a divisor of the {} query heads", self.n_kv_heads, self.n_heads),
            );
        }
        if self.architecture.is_rotary() && !self.head_dim.is_multiple_of(2) {
            return fail("head_dim", format!("is {}, rotary embedding needs an even number", self.head_dim));
        }
        if !(self.norm_eps > 0.0 && self.norm_eps < 1.0) {
            let key = match self.architecture.norm_kind() {
                NormKind::Rms => "rms_norm_eps",
                NormKind::Layer => "layer_norm_epsilon",
            };
            return fail(key, format!("is {}, expected above 0 and below 1", self.norm_eps));
        }
        if !(self.rope_theta > 1.0 && self.rope_theta.is_finite()) {
            return fail("rope_theta", format!("is {}, expected a number above 1", self.rope_theta));
        }
        if self.sliding_window == Some(0) {
            return fail("sliding_window", "is 0, expected null or at least 1".into());
        }
        Ok(self)
    }
}
