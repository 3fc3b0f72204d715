//! Everything that a model learned, under the names of both file formats.

use crate::{
    architecture::Architecture,
    layer::{LayerId, Role},
};

/// Which norm of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NormId {
    /// `blk.N.attn_norm`, in front of q, k and v.
    Attn(usize),
    /// `blk.N.attn_q_norm`, on each query head (Qwen 3).
    QHead(usize),
    /// `blk.N.attn_k_norm`, on each key head (Qwen 3).
    KHead(usize),
    /// `blk.N.ffn_norm`, in front of the feed-forward network.
    Ffn(usize),
    /// `output_norm`, in front of the head.
    Output,
}

impl NormId {
    /// The GGUF name of its weight.
    #[must_use]
    pub fn gguf_name(self) -> String {
        match self {
            Self::Attn(block) => format!("blk.{block}.attn_norm.weight"),
            Self::QHead(block) => format!("blk.{block}.attn_q_norm.weight"),
            Self::KHead(block) => format!("blk.{block}.attn_k_norm.weight"),
            Self::Ffn(block) => format!("blk.{block}.ffn_norm.weight"),
            Self::Output => "output_norm.weight".into(),
        }
    }
}

/// One learned tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Parameter {
    /// A quantizable matrix, `[out, in]`.
    Matrix(LayerId),
    /// The bias of a matrix, `[out]`.
    Bias(LayerId),
    /// The weight of a norm, `[channels]`.
    Norm(NormId),
    /// The bias of a norm, `[channels]`.
    NormBias(NormId),
    /// The table of learned positions, `[positions, hidden]`. It stays in f32, as in llama.cpp.
    PositionEmbd,
}

impl Parameter {
    /// Its name in a GGUF file.
    #[must_use]
    pub fn gguf_name(self) -> String {
        match self {
            Self::Matrix(id) => id.to_string(),
            Self::Bias(id) => as_bias(&id.to_string()),
            Self::Norm(id) => id.gguf_name(),
            Self::NormBias(id) => as_bias(&id.gguf_name()),
            Self::PositionEmbd => "position_embd.weight".into(),
        }
    }

    /// Its name in a Hugging Face checkpoint.
    #[must_use]
    pub fn hf_name(self, architecture: Architecture) -> String {
        match self {
            Self::Matrix(id) => format!("{}.weight", hf_layer(architecture, id)),
            Self::Bias(id) => format!("{}.bias", hf_layer(architecture, id)),
            Self::Norm(id) => format!("{}.weight", hf_norm(architecture, id)),
            Self::NormBias(id) => format!("{}.bias", hf_norm(architecture, id)),
            Self::PositionEmbd => "transformer.wpe.weight".into(),
        }
    }

    /// Whether the checkpoint holds `[in, out]`: the matrices of GPT-2's blocks are `Conv1D`s.
    pub(crate) const fn is_transposed(self, architecture: Architecture) -> bool {
        matches!((architecture, self), (Architecture::Gpt2, Self::Matrix(LayerId::Block { .. })))
    }
}

fn as_bias(name: &str) -> String {
    format!("{}.bias", name.trim_end_matches(".weight"))
}

fn hf_layer(architecture: Architecture, id: LayerId) -> String {
    let gpt2 = matches!(architecture, Architecture::Gpt2);
    match id {
        LayerId::TokenEmbd if gpt2 => "transformer.wte".into(),
        LayerId::TokenEmbd => "model.embed_tokens".into(),
        LayerId::Output => "lm_head".into(),
        LayerId::Block { block, role } if gpt2 => format!("transformer.h.{block}.{}", gpt2_module(role)),
        LayerId::Block { block, role } => format!("model.layers.{block}.{}", llama_module(role)),
    }
}

/// The module path inside `transformer.h.N`.
const fn gpt2_module(role: Role) -> &'static str {
    match role {
        Role::Q | Role::K | Role::V | Role::Qkv => "attn.c_attn",
        Role::O => "attn.c_proj",
        Role::Gate | Role::Up => "mlp.c_fc",
        Role::Down => "mlp.c_proj",
    }
}

/// The module path inside `model.layers.N`.
const fn llama_module(role: Role) -> &'static str {
    match role {
        Role::Q => "self_attn.q_proj",
        Role::K => "self_attn.k_proj",
        Role::V => "self_attn.v_proj",
        Role::Qkv => "self_attn.qkv_proj",
        Role::O => "self_attn.o_proj",
        Role::Gate => "mlp.gate_proj",
        Role::Up => "mlp.up_proj",
        Role::Down => "mlp.down_proj",
    }
}

fn hf_norm(architecture: Architecture, id: NormId) -> String {
    if matches!(architecture, Architecture::Gpt2) {
        return match id {
            NormId::Attn(block) | NormId::QHead(block) | NormId::KHead(block) => {
                format!("transformer.h.{block}.ln_1")
            }
            NormId::Ffn(block) => format!("transformer.h.{block}.ln_2"),
            NormId::Output => "transformer.ln_f".into(),
        };
    }
    match id {
        NormId::Attn(block) => format!("model.layers.{block}.input_layernorm"),
        NormId::QHead(block) => format!("model.layers.{block}.self_attn.q_norm"),
        NormId::KHead(block) => format!("model.layers.{block}.self_attn.k_norm"),
        NormId::Ffn(block) => format!("model.layers.{block}.post_attention_layernorm"),
        NormId::Output => "model.norm".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_published_files() {
        let down = LayerId::Block { block: 3, role: Role::Down };
        let q = LayerId::Block { block: 3, role: Role::Q };
        let qkv = LayerId::Block { block: 3, role: Role::Qkv };
        for (parameter, architecture, hf, gguf) in [
            (
                Parameter::Matrix(down),
                Architecture::Llama,
                "model.layers.3.mlp.down_proj.weight",
                "blk.3.ffn_down.weight",
            ),
            (
                Parameter::Bias(q),
                Architecture::Qwen2,
                "model.layers.3.self_attn.q_proj.bias",
                "blk.3.attn_q.bias",
            ),
            (
                Parameter::Norm(NormId::QHead(3)),
                Architecture::Qwen3,
                "model.layers.3.self_attn.q_norm.weight",
                "blk.3.attn_q_norm.weight",
            ),
            (
                Parameter::Matrix(qkv),
                Architecture::Gpt2,
                "transformer.h.3.attn.c_attn.weight",
                "blk.3.attn_qkv.weight",
            ),
            (
                Parameter::Bias(down),
                Architecture::Gpt2,
                "transformer.h.3.mlp.c_proj.bias",
                "blk.3.ffn_down.bias",
            ),
            (
                Parameter::NormBias(NormId::Output),
                Architecture::Gpt2,
                "transformer.ln_f.bias",
                "output_norm.bias",
            ),
            (Parameter::PositionEmbd, Architecture::Gpt2, "transformer.wpe.weight", "position_embd.weight"),
        ] {
            assert_eq!(parameter.hf_name(architecture), hf);
            assert_eq!(parameter.gguf_name(), gguf);
        }
    }
}
