//! What a tensor is to the rules, by its name.

use crate::TensorSpec;

/// `tensor_category` of llama.cpp's `llama-quant.cpp`.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Category {
    TokenEmbd,
    AttnQ,
    AttnK,
    AttnV,
    AttnQkv,
    AttnKvB,
    AttnOutput,
    FfnUp,
    FfnGate,
    FfnDown,
    Output,
    Other,
}

impl Category {
    /// `tensor_get_category`: the first part of a name that is found in it.
    pub(super) fn of(name: &str) -> Self {
        match name {
            "output.weight" => return Self::Output,
            "token_embd.weight" | "per_layer_token_embd.weight" => return Self::TokenEmbd,
            _ => {}
        }
        [
            ("attn_qkv.weight", Self::AttnQkv),
            ("attn_kv_b.weight", Self::AttnKvB),
            ("attn_v.weight", Self::AttnV),
            ("attn_k.weight", Self::AttnK),
            ("attn_q.weight", Self::AttnQ),
            ("attn_output.weight", Self::AttnOutput),
            ("ffn_up", Self::FfnUp),
            ("ffn_gate", Self::FfnGate),
            ("ffn_down", Self::FfnDown),
        ]
        .into_iter()
        .find(|(part, _)| name.contains(part))
        .map_or(Self::Other, |(_, category)| category)
    }

    /// `category_is_attn_v`: matrices that quantization hurts as much as the values'.
    pub(super) fn is_attn_v(self) -> bool {
        matches!(self, Self::AttnV | Self::AttnQkv | Self::AttnKvB)
    }
}

/// Parts of names of tensors that are never quantized, too small or too delicate.
const NEVER: &[&str] = &[
    "_norm.weight",
    "ffn_gate_inp.weight",
    "ffn_gate_tid2eid.weight",
    "altup",
    "laurel",
    "per_layer_model_proj",
    "ssm_conv1d",
    "shortconv.conv.weight",
    "indexer.k_proj.weight",
    "indexer.q_proj.weight",
    "time_mix_first.weight",
    "time_mix_w0.weight",
    "time_mix_w1.weight",
    "time_mix_w2.weight",
    "time_mix_v0.weight",
    "time_mix_v1.weight",
    "time_mix_v2.weight",
    "time_mix_a0.weight",
    "time_mix_a1.weight",
    "time_mix_a2.weight",
    "time_mix_g1.weight",
    "time_mix_g2.weight",
    "time_mix_decay_w1.weight",
    "time_mix_decay_w2.weight",
    "time_mix_lerp_fused.weight",
    "attn_rel_b.weight",
    ".position_embd",
    ".rel_pos",
    ".patch_embd",
    ".patch_merger",
];

/// `tensor_allows_quantization`: whether llama-quantize changes the type of a tensor at all. The others keep the
/// type that they have.
pub(super) fn allows_quantization(spec: &TensorSpec) -> bool {
    let name = spec.name.as_str();
    // `ggml_n_dims`: dimensions of length 1 at the end do not count.
    let n_dims = spec.dims.iter().rposition(|&dim| dim > 1).map_or(1, |last| last + 1);
    n_dims >= 2
        && name.ends_with("weight")
        && !matches!(name, "position_embd.weight" | "token_types.weight")
        && !NEVER.iter().any(|part| name.contains(part))
}

/// The layer in `blk.N.`.
pub(super) fn layer_of(name: &str) -> Option<u32> {
    let rest = name.strip_prefix("blk.")?;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    rest[..digits].parse().ok()
}
