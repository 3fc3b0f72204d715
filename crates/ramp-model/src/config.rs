//! `config.json`, the older and the newer form, reduced to what the forward pass needs.

use std::{fs, path::Path};

use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    layer::{LayerId, Role},
};

/// llama.cpp refuses models with more blocks than this (`LLAMA_MAX_LAYERS`).
const MAX_BLOCKS: usize = 512;
/// Far above any published model; keeps products of dimensions far from overflow.
const MAX_DIM: usize = 1 << 24;

/// Families of decoder-only models.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Architecture {
    /// Llama 1, 2 and 3.
    Llama,
    /// Mistral: Llama with a sliding window. GGUF files call it `llama`, too.
    Mistral,
}

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
    /// Epsilon of RMSNorm.
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
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
    /// Reads a `config.json`.
    ///
    /// # Errors
    /// When the file cannot be read, is not JSON, names another architecture, or holds values that no model
    /// can have; the error names the key and the value.
    pub fn from_file(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).map_err(Error::io(path))?;
        let raw: HfConfig =
            serde_json::from_str(&text).map_err(|source| Error::Json { path: path.to_owned(), source })?;
        raw.into_config(path)
    }

    /// Every quantizable matrix, in execution order.
    #[must_use]
    pub fn layers(&self) -> Vec<LayerId> {
        let blocks = (0..self.n_blocks)
            .flat_map(|block| Role::ALL.into_iter().map(move |role| LayerId::Block { block, role }));
        let head = (!self.tie_word_embeddings).then_some(LayerId::Output);
        std::iter::once(LayerId::TokenEmbd).chain(blocks).chain(head).collect()
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
                Role::O => [hidden, self.n_heads * self.head_dim],
                Role::Gate | Role::Up => [self.intermediate_size, hidden],
                Role::Down => [hidden, self.intermediate_size],
            },
        }
    }

    /// Number of weights in a matrix.
    #[must_use]
    pub const fn n_weights(&self, id: LayerId) -> usize {
        let [out, inp] = self.shape(id);
        out * inp
    }

    /// Number of parameters of the whole model, norms included.
    #[must_use]
    pub fn n_params(&self) -> usize {
        let matrices: usize = self.layers().into_iter().map(|id| self.n_weights(id)).sum();
        matrices + (2 * self.n_blocks + 1) * self.hidden_size
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
        if !self.head_dim.is_multiple_of(2) {
            return fail("head_dim", format!("is {}, rotary embedding needs an even number", self.head_dim));
        }
        if !(self.rms_norm_eps > 0.0 && self.rms_norm_eps < 1.0) {
            return fail("rms_norm_eps", format!("is {}, expected above 0 and below 1", self.rms_norm_eps));
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

/// The keys of `config.json` that matter, as they stand there.
#[derive(Deserialize)]
struct HfConfig {
    model_type: Option<String>,
    hidden_size: Option<usize>,
    intermediate_size: Option<usize>,
    num_hidden_layers: Option<usize>,
    num_attention_heads: Option<usize>,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    vocab_size: Option<usize>,
    max_position_embeddings: Option<usize>,
    rms_norm_eps: Option<f64>,
    hidden_act: Option<String>,
    rope_theta: Option<f64>,
    rope_scaling: Option<HfRope>,
    rope_parameters: Option<HfRope>,
    sliding_window: Option<usize>,
    #[serde(default)]
    tie_word_embeddings: bool,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    bos_token_id: Option<TokenIds>,
    eos_token_id: Option<TokenIds>,
}

/// `rope_scaling` of the older form; the newer `rope_parameters` holds `rope_theta`, too.
#[derive(Deserialize)]
struct HfRope {
    rope_type: Option<String>,
    /// The older name of `rope_type`; some files carry both.
    r#type: Option<String>,
    rope_theta: Option<f64>,
    factor: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    original_max_position_embeddings: Option<f64>,
}

/// One id, or the list that Llama 3 has for `eos_token_id`.
#[derive(Deserialize)]
#[serde(untagged)]
enum TokenIds {
    One(u32),
    Many(Vec<u32>),
}

impl TokenIds {
    fn first(&self) -> Option<u32> {
        match self {
            Self::One(id) => Some(*id),
            Self::Many(ids) => ids.first().copied(),
        }
    }
}

impl HfConfig {
    fn into_config(self, path: &Path) -> Result<ModelConfig> {
        let model_type = self.model_type.as_deref().unwrap_or("");
        let architecture = match model_type {
            "llama" => Architecture::Llama,
            "mistral" => Architecture::Mistral,
            other => {
                let found = if other.is_empty() { "no model_type" } else { other };
                return Err(Error::UnsupportedArchitecture { path: path.to_owned(), found: found.into() });
            }
        };
        for (key, set) in [("attention_bias", self.attention_bias), ("mlp_bias", self.mlp_bias)] {
            if set {
                return Err(Error::config(path, key, "is true, models with biases are not supported"));
            }
        }
        if let Some(act) = self.hidden_act.as_deref().filter(|act| *act != "silu") {
            return Err(Error::config(path, "hidden_act", format!("is `{act}`, supported: silu")));
        }
        let need =
            |key: &str, value: Option<usize>| value.ok_or_else(|| Error::config(path, key, "is missing"));
        let hidden_size = need("hidden_size", self.hidden_size)?;
        let n_heads = need("num_attention_heads", self.num_attention_heads)?;
        let head_dim = match self.head_dim {
            Some(dim) => dim,
            None if n_heads > 0 && hidden_size.is_multiple_of(n_heads) => hidden_size / n_heads,
            None => {
                let why = format!("is {n_heads}, not a divisor of hidden_size {hidden_size}");
                return Err(Error::config(path, "num_attention_heads", why));
            }
        };
        let newer = self.rope_parameters.as_ref();
        let rope_theta = newer.and_then(|rope| rope.rope_theta).or(self.rope_theta).unwrap_or(10_000.0);
        let rope_scaling = match newer.or(self.rope_scaling.as_ref()) {
            Some(rope) => rope.scaling(path)?,
            None => None,
        };
        ModelConfig {
            architecture,
            hidden_size,
            intermediate_size: need("intermediate_size", self.intermediate_size)?,
            n_blocks: need("num_hidden_layers", self.num_hidden_layers)?,
            n_heads,
            n_kv_heads: self.num_key_value_heads.unwrap_or(n_heads),
            head_dim,
            vocab_size: need("vocab_size", self.vocab_size)?,
            max_position_embeddings: self.max_position_embeddings.unwrap_or(2048),
            rms_norm_eps: self.rms_norm_eps.unwrap_or(1e-6),
            rope_theta,
            rope_scaling,
            // Llama checkpoints may carry the key; only Mistral's forward pass has a window.
            sliding_window: self.sliding_window.filter(|_| architecture == Architecture::Mistral),
            tie_word_embeddings: self.tie_word_embeddings,
            bos_token_id: self.bos_token_id.as_ref().and_then(TokenIds::first),
            eos_token_id: self.eos_token_id.as_ref().and_then(TokenIds::first),
        }
        .validate(path)
    }
}

impl HfRope {
    fn scaling(&self, path: &Path) -> Result<Option<RopeScaling>> {
        let need = |key: &str, value: Option<f64>| match value {
            Some(v) if v.is_finite() && v > 0.0 => Ok(v),
            Some(v) => Err(Error::config(path, key, format!("is {v}, expected a number above 0"))),
            None => Err(Error::config(path, key, "is missing from the rope scaling")),
        };
        match self.rope_type.as_ref().or(self.r#type.as_ref()).map_or("default", String::as_str) {
            "default" => Ok(None),
            "linear" => Ok(Some(RopeScaling::Linear { factor: need("factor", self.factor)? })),
            "llama3" => {
                let low_freq_factor = need("low_freq_factor", self.low_freq_factor)?;
                let high_freq_factor = need("high_freq_factor", self.high_freq_factor)?;
                if low_freq_factor >= high_freq_factor {
                    let why = format!("is {low_freq_factor}, not below high_freq_factor {high_freq_factor}");
                    return Err(Error::config(path, "low_freq_factor", why));
                }
                Ok(Some(RopeScaling::Llama3 {
                    factor: need("factor", self.factor)?,
                    low_freq_factor,
                    high_freq_factor,
                    original_context: need(
                        "original_max_position_embeddings",
                        self.original_max_position_embeddings,
                    )?,
                }))
            }
            other => {
                let why = format!("is `{other}` (supported: default, linear, llama3)");
                Err(Error::config(path, "rope_type", why))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<ModelConfig> {
        let path = Path::new("config.json");
        let raw: HfConfig =
            serde_json::from_str(json).map_err(|source| Error::Json { path: path.to_owned(), source })?;
        raw.into_config(path)
    }

    const OLDER: &str = r#"{"model_type":"llama","hidden_size":64,"intermediate_size":96,
        "num_hidden_layers":2,"num_attention_heads":4,"vocab_size":32,"rms_norm_eps":1e-5,
        "rope_theta":500000.0,"rope_scaling":{"rope_type":"llama3","factor":8.0,"low_freq_factor":1.0,
        "high_freq_factor":4.0,"original_max_position_embeddings":8192},"eos_token_id":[7,8]}"#;

    #[test]
    fn older_and_newer_rope_keys_agree() {
        let older = parse(OLDER).unwrap();
        let newer = OLDER.replace(
            "\"rope_theta\":500000.0,\"rope_scaling\":{",
            "\"rope_parameters\":{\"rope_theta\":500000.0,",
        );
        assert_eq!(older, parse(&newer.replace("\"rope_theta\":500000.0,\n", "")).unwrap());
        assert_eq!(older.rope_theta, 500_000.0);
        assert!(matches!(older.rope_scaling, Some(RopeScaling::Llama3 { factor: 8.0, .. })));
        assert_eq!((older.head_dim, older.n_kv_heads, older.eos_token_id), (16, 4, Some(7)));
    }

    #[test]
    fn both_names_of_the_rope_type_may_stand_together() {
        let both = OLDER.replace("\"rope_type\":\"llama3\"", "\"rope_type\":\"llama3\",\"type\":\"llama3\"");
        let older = OLDER.replace("\"rope_type\"", "\"type\"");
        assert_eq!(parse(&both).unwrap(), parse(OLDER).unwrap());
        assert_eq!(parse(&older).unwrap(), parse(OLDER).unwrap());
    }

    #[test]
    fn each_broken_value_is_named() {
        for (from, to, expected) in [
            ("\"llama\"", "\"gemma\"", "unsupported architecture `gemma`"),
            ("\"num_hidden_layers\":2", "\"num_hidden_layers\":0", "`num_hidden_layers` is 0"),
            ("\"vocab_size\":32,", "", "`vocab_size` is missing"),
            ("\"num_attention_heads\":4", "\"num_attention_heads\":5", "not a divisor of hidden_size 64"),
            ("\"hidden_size\":64", "\"hidden_size\":60", "`head_dim` is 15"),
            ("\"rope_type\":\"llama3\"", "\"rope_type\":\"yarn\"", "`rope_type` is `yarn`"),
            ("\"rms_norm_eps\":1e-5", "\"rms_norm_eps\":-1.0", "`rms_norm_eps` is -1"),
            ("\"vocab_size\":32", "\"vocab_size\":32,\"attention_bias\":true", "`attention_bias` is true"),
        ] {
            let text = OLDER.replace(from, to);
            assert_ne!(text, OLDER, "{from}");
            let message = parse(&text).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn shapes_cover_every_parameter() {
        let config = parse(OLDER).unwrap();
        assert_eq!(config.layers().len(), 2 * 7 + 2);
        let per_block = 4 * 64 * 64 + 3 * 64 * 96 + 2 * 64;
        assert_eq!(config.n_params(), 2 * per_block + 2 * 32 * 64 + 64);
    }
}
