//! `config.json`, the older and the newer form.

use std::{fs, path::Path};

use serde::Deserialize;

use crate::{
    architecture::Architecture,
    config::{ModelConfig, RopeScaling},
    error::{Error, Result},
};

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
    use_sliding_window: Option<bool>,
    max_window_layers: Option<usize>,
    tie_word_embeddings: Option<bool>,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    bos_token_id: Option<TokenIds>,
    eos_token_id: Option<TokenIds>,
    // GPT-2 has names of its own.
    n_embd: Option<usize>,
    n_inner: Option<usize>,
    n_layer: Option<usize>,
    n_head: Option<usize>,
    n_positions: Option<usize>,
    layer_norm_epsilon: Option<f64>,
    activation_function: Option<String>,
    scale_attn_weights: Option<bool>,
    #[serde(default)]
    scale_attn_by_inverse_layer_idx: bool,
    #[serde(default)]
    add_cross_attention: bool,
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
    beta_fast: Option<f64>,
    beta_slow: Option<f64>,
    attention_factor: Option<f64>,
    mscale: Option<f64>,
    mscale_all_dim: Option<f64>,
    truncate: Option<bool>,
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
        let architecture = Architecture::ALL.into_iter().find(|known| known.hf_name() == model_type);
        match architecture {
            Some(Architecture::Gpt2) => self.into_gpt2(path),
            Some(architecture) => self.into_llama(architecture, path),
            None => {
                let found = if model_type.is_empty() { "no model_type" } else { model_type };
                Err(Error::UnsupportedArchitecture { path: path.to_owned(), found: found.into() })
            }
        }
    }

    /// Llama and what differs from it in details.
    fn into_llama(self, architecture: Architecture, path: &Path) -> Result<ModelConfig> {
        // The q, k and v biases of Qwen 2 are not optional, and have no key.
        for (key, set) in [("attention_bias", self.attention_bias), ("mlp_bias", self.mlp_bias)] {
            if set {
                return Err(Error::config(path, key, "is true, such biases are not supported"));
            }
        }
        if let Some(act) = self.hidden_act.as_deref().filter(|act| *act != "silu") {
            return Err(Error::config(path, "hidden_act", format!("is `{act}`, supported: silu")));
        }
        let hidden_size = need(path, "hidden_size", self.hidden_size)?;
        let n_heads = need(path, "num_attention_heads", self.num_attention_heads)?;
        let head_dim = match (self.head_dim, architecture) {
            (Some(dim), _) => dim,
            // The default of its configuration class.
            (None, Architecture::Qwen3) => 128,
            (None, _) => whole_heads(path, "num_attention_heads", n_heads, "hidden_size", hidden_size)?,
        };
        let n_blocks = need(path, "num_hidden_layers", self.num_hidden_layers)?;
        let mut max_position_embeddings = self.max_position_embeddings.unwrap_or(2048);
        let newer = self.rope_parameters.as_ref();
        let rope_theta = newer.and_then(|rope| rope.rope_theta).or(self.rope_theta).unwrap_or(10_000.0);
        let rope = newer.or(self.rope_scaling.as_ref());
        let rope_scaling = match rope {
            Some(rope) => rope.scaling(path, max_position_embeddings)?,
            None => None,
        };
        if let (Some(RopeScaling::Dynamic { .. }), Some(rope)) = (&rope_scaling, rope) {
            let original = rope.original_max_position_embeddings.map_or(usize::MAX, |tokens| tokens as usize);
            max_position_embeddings = max_position_embeddings.min(original);
        }
        ModelConfig {
            architecture,
            hidden_size,
            intermediate_size: need(path, "intermediate_size", self.intermediate_size)?,
            n_blocks,
            n_heads,
            n_kv_heads: self.num_key_value_heads.unwrap_or(n_heads),
            head_dim,
            vocab_size: need(path, "vocab_size", self.vocab_size)?,
            max_position_embeddings,
            norm_eps: self.rms_norm_eps.unwrap_or(1e-6),
            rope_theta,
            rope_scaling,
            sliding_window: self.sliding_window(architecture, n_blocks, path)?,
            tie_word_embeddings: self.tie_word_embeddings.unwrap_or(architecture.ties_by_default()),
            bos_token_id: self.bos_token_id.as_ref().and_then(TokenIds::first),
            eos_token_id: self.eos_token_id.as_ref().and_then(TokenIds::first),
        }
        .validate(path)
    }

    /// The key stands in many files whose model has no window.
    fn sliding_window(
        &self,
        architecture: Architecture,
        n_blocks: usize,
        path: &Path,
    ) -> Result<Option<usize>> {
        match architecture {
            Architecture::Mistral => Ok(self.sliding_window),
            Architecture::Qwen2 | Architecture::Qwen3 if self.use_sliding_window == Some(true) => {
                // The first `max_window_layers` blocks have none.
                if self.sliding_window.is_none() || self.max_window_layers.unwrap_or(0) >= n_blocks {
                    return Ok(None);
                }
                let why = "is true, a window in some of the blocks is not supported";
                Err(Error::config(path, "use_sliding_window", why))
            }
            _ => Ok(None),
        }
    }

    fn into_gpt2(self, path: &Path) -> Result<ModelConfig> {
        // GELU in its tanh form, under the names that transformers has for it.
        let activation = self.activation_function.as_deref().unwrap_or("gelu_new");
        if !["gelu_new", "gelu_pytorch_tanh", "gelu_fast"].contains(&activation) {
            let why = format!("is `{activation}`, supported: gelu_new");
            return Err(Error::config(path, "activation_function", why));
        }
        for (key, set) in [
            ("scale_attn_by_inverse_layer_idx", self.scale_attn_by_inverse_layer_idx),
            ("add_cross_attention", self.add_cross_attention),
        ] {
            if set {
                return Err(Error::config(path, key, "is true, which is not supported"));
            }
        }
        if self.scale_attn_weights == Some(false) {
            return Err(Error::config(path, "scale_attn_weights", "is false, which is not supported"));
        }
        let hidden_size = need(path, "n_embd", self.n_embd.or(self.hidden_size))?;
        let n_heads = need(path, "n_head", self.n_head.or(self.num_attention_heads))?;
        let head_dim = whole_heads(path, "n_head", n_heads, "n_embd", hidden_size)?;
        ModelConfig {
            architecture: Architecture::Gpt2,
            hidden_size,
            intermediate_size: self.n_inner.unwrap_or(hidden_size.saturating_mul(4)),
            n_blocks: need(path, "n_layer", self.n_layer.or(self.num_hidden_layers))?,
            n_heads,
            n_kv_heads: n_heads,
            head_dim,
            vocab_size: need(path, "vocab_size", self.vocab_size)?,
            max_position_embeddings: need(
                path,
                "n_positions",
                self.n_positions.or(self.max_position_embeddings),
            )?,
            norm_eps: self.layer_norm_epsilon.unwrap_or(1e-5),
            rope_theta: 10_000.0,
            rope_scaling: None,
            sliding_window: None,
            tie_word_embeddings: self.tie_word_embeddings.unwrap_or(Architecture::Gpt2.ties_by_default()),
            bos_token_id: self.bos_token_id.as_ref().and_then(TokenIds::first),
            eos_token_id: self.eos_token_id.as_ref().and_then(TokenIds::first),
        }
        .validate(path)
    }
}

fn need(path: &Path, key: &str, value: Option<usize>) -> Result<usize> {
    value.ok_or_else(|| Error::config(path, key, "is missing"))
}

/// Width of a head where the heads fill the hidden state.
fn whole_heads(path: &Path, key: &str, n_heads: usize, of: &str, hidden_size: usize) -> Result<usize> {
    if n_heads > 0 && hidden_size.is_multiple_of(n_heads) {
        return Ok(hidden_size / n_heads);
    }
    Err(Error::config(path, key, format!("is {n_heads}, not a divisor of {of} {hidden_size}")))
}

impl HfRope {
    fn scaling(&self, path: &Path, max_positions: usize) -> Result<Option<RopeScaling>> {
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
            "dynamic" => Ok(Some(RopeScaling::Dynamic { factor: need("factor", self.factor)? })),
            "yarn" => {
                self.refuse_unusual_yarn(path)?;
                let factor = need("factor", self.factor)?;
                if factor < 1.0 {
                    return Err(Error::config(path, "factor", format!("is {factor}, expected at least 1")));
                }
                let original = self.original_max_position_embeddings.unwrap_or(max_positions as f64);
                let original_context = need("original_max_position_embeddings", Some(original))?;
                Ok(Some(RopeScaling::Yarn { factor, original_context }))
            }
            other => {
                let why = format!("is `{other}` (supported: default, linear, dynamic, llama3, yarn)");
                Err(Error::config(path, "rope_type", why))
            }
        }
    }

    /// llama.cpp computes YaRN with its defaults. Another value would run here and not there.
    fn refuse_unusual_yarn(&self, path: &Path) -> Result<()> {
        let default = |factor: Option<f64>| factor.map(|factor| 0.1 * factor.ln() + 1.0);
        for (key, found, expected) in [
            ("beta_fast", self.beta_fast, Some(32.0)),
            ("beta_slow", self.beta_slow, Some(1.0)),
            ("attention_factor", self.attention_factor, default(self.factor)),
            ("mscale", self.mscale, None),
            ("mscale_all_dim", self.mscale_all_dim, None),
        ] {
            let same = match (found, expected) {
                (None, _) => true,
                (Some(found), Some(expected)) => (found - expected).abs() < 1e-6,
                (Some(_), None) => false,
            };
            if !same {
                let why =
                    format!("is {}, YaRN is supported with its defaults only", found.unwrap_or(f64::NAN));
                return Err(Error::config(path, key, why));
            }
        }
        if self.truncate == Some(false) {
            return Err(Error::config(
                path,
                "truncate",
                "is false, YaRN is supported with its defaults only",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
