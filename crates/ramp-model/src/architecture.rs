//! Families of models and what their blocks are made of.

use serde::{Deserialize, Serialize};

use crate::layer::{LayerId, Role};

/// Families of decoder-only models.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Architecture {
    /// Llama 1, 2 and 3.
    Llama,
    /// Mistral: Llama with a sliding window. GGUF files call it `llama`, too.
    Mistral,
    /// Qwen 1.5, 2 and 2.5: Llama with biases on q, k and v.
    Qwen2,
    /// Qwen 3: Llama with a norm of each query and key head.
    Qwen3,
    /// GPT-2 and DistilGPT-2: LayerNorm, learned positions, one matrix for q, k and v, GELU, biases everywhere.
    Gpt2,
}

/// What stands in front of attention, feed-forward network and head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NormKind {
    /// `x / rms(x) * weight`.
    Rms,
    /// `(x - mean(x)) / std(x) * weight + bias`.
    Layer,
}

impl Architecture {
    /// Every architecture.
    pub const ALL: [Self; 5] = [Self::Llama, Self::Mistral, Self::Qwen2, Self::Qwen3, Self::Gpt2];

    /// `model_type` of `config.json`.
    #[must_use]
    pub const fn hf_name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Mistral => "mistral",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
            Self::Gpt2 => "gpt2",
        }
    }

    /// `general.architecture` of a GGUF file.
    #[must_use]
    pub const fn gguf_name(self) -> &'static str {
        match self {
            Self::Llama | Self::Mistral => "llama",
            other => other.hf_name(),
        }
    }

    /// The matrices of a block, in execution order.
    #[must_use]
    pub const fn roles(self) -> &'static [Role] {
        match self {
            Self::Llama | Self::Mistral | Self::Qwen2 | Self::Qwen3 => {
                &[Role::Q, Role::K, Role::V, Role::O, Role::Gate, Role::Up, Role::Down]
            }
            Self::Gpt2 => &[Role::Qkv, Role::O, Role::Up, Role::Down],
        }
    }

    /// The matrices that read the attention norm: what a scale of its channels folds into.
    #[must_use]
    pub const fn attn_inputs(self) -> &'static [Role] {
        match self {
            Self::Gpt2 => &[Role::Qkv],
            _ => &[Role::Q, Role::K, Role::V],
        }
    }

    /// The matrices that read the feed-forward norm.
    #[must_use]
    pub const fn ffn_inputs(self) -> &'static [Role] {
        match self {
            Self::Gpt2 => &[Role::Up],
            _ => &[Role::Gate, Role::Up],
        }
    }

    /// Whether a bias is added behind a matrix.
    #[must_use]
    pub const fn has_bias(self, id: LayerId) -> bool {
        match (self, id) {
            (Self::Gpt2, LayerId::Block { .. }) => true,
            (Self::Qwen2, LayerId::Block { role, .. }) => matches!(role, Role::Q | Role::K | Role::V),
            _ => false,
        }
    }

    /// Whether positions turn queries and keys. Otherwise they are a learned table, added to the embedding.
    #[must_use]
    pub const fn is_rotary(self) -> bool {
        !matches!(self, Self::Gpt2)
    }

    /// Whether GGUF files hold the rows of q and k in interleaved order (ggml's `LLAMA_ROPE_TYPE_NORM`); the other
    /// rotary architectures keep Hugging Face's (`LLAMA_ROPE_TYPE_NEOX`).
    pub(crate) const fn interleaves_rope_rows(self) -> bool {
        matches!(self, Self::Llama | Self::Mistral)
    }

    /// Whether each head of q and k has a norm.
    pub(crate) const fn norms_heads(self) -> bool {
        matches!(self, Self::Qwen3)
    }

    pub(crate) const fn norm_kind(self) -> NormKind {
        match self {
            Self::Gpt2 => NormKind::Layer,
            _ => NormKind::Rms,
        }
    }

    /// Whether a checkpoint without the key `tie_word_embeddings` has no head of its own.
    pub(crate) const fn ties_by_default(self) -> bool {
        matches!(self, Self::Gpt2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_in_execution_order_and_contain_the_folded_ones() {
        for architecture in Architecture::ALL {
            let roles = architecture.roles();
            assert!(roles.is_sorted(), "{architecture:?}");
            let inputs = [architecture.attn_inputs(), architecture.ffn_inputs()].concat();
            assert!(inputs.iter().all(|role| roles.contains(role)), "{architecture:?}");
            let json = serde_json::to_string(&architecture).unwrap();
            assert_eq!(json, format!("\"{}\"", architecture.hf_name()));
        }
    }
}
