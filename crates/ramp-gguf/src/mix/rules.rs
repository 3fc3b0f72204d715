//! `llama_tensor_get_type_impl`: the rules proper, with the counters that they need.

use super::category::{Category, layer_of};
use super::{LlamaFtype, MixOptions};
use crate::{Error, GgmlType, ModelFacts, Result, TensorSpec};

/// What the rules know of the model, and how far they have counted.
pub(super) struct Rules<'a> {
    facts: &'a ModelFacts,
    pub(super) ftype: LlamaFtype,
    has_imatrix: bool,
    /// No `output.weight`: the embedding is the head, too.
    is_tied: bool,
    n_attention_wv: u32,
    i_attention_wv: u32,
    i_ffn_down: u32,
    i_ffn_gate: u32,
    i_ffn_up: u32,
}

impl<'a> Rules<'a> {
    pub(super) fn new(
        facts: &'a ModelFacts,
        ftype: LlamaFtype,
        tensors: &[TensorSpec],
        has_imatrix: bool,
    ) -> Self {
        let categories = || tensors.iter().map(|spec| Category::of(&spec.name));
        Self {
            facts,
            ftype,
            has_imatrix,
            is_tied: categories().all(|category| category != Category::Output),
            n_attention_wv: categories().filter(|category| category.is_attn_v()).count() as u32,
            i_attention_wv: 0,
            i_ffn_down: 0,
            i_ffn_gate: 0,
            i_ffn_up: 0,
        }
    }

    /// The type of a matrix before the fallback for its row length.
    pub(super) fn apply(
        &mut self,
        spec: &TensorSpec,
        category: Category,
        options: &MixOptions,
    ) -> Result<GgmlType> {
        let base = self.ftype.base();
        Ok(match category {
            Category::Output => head_type(base, spec, options),
            Category::TokenEmbd if self.is_tied => head_type(base, spec, options),
            Category::AttnV | Category::AttnQkv | Category::AttnKvB => {
                let ty = self.attn_v();
                self.i_attention_wv += 1;
                ty
            }
            Category::AttnK => self.attn_k(),
            Category::AttnQ if self.ftype == LlamaFtype::IQ3_XS => GgmlType::IQ3_XXS,
            Category::AttnOutput => self.attn_output(),
            Category::FfnDown => {
                let layer = self.layer(spec, self.i_ffn_down)?;
                self.i_ffn_down += 1;
                self.ffn_down(layer)
            }
            Category::FfnGate => {
                let layer = self.layer(spec, self.i_ffn_gate)?;
                self.i_ffn_gate += 1;
                self.ffn_gate_or_up(layer)
            }
            Category::FfnUp => {
                let layer = self.layer(spec, self.i_ffn_up)?;
                self.i_ffn_up += 1;
                self.ffn_gate_or_up(layer)
            }
            Category::TokenEmbd | Category::AttnQ | Category::Other => base,
        })
    }

    fn attn_v(&self) -> GgmlType {
        use GgmlType::{Q3_K, Q4_K, Q5_K, Q6_K, Q8_0};
        use LlamaFtype as F;
        let many_queries = self.facts.n_gqa() >= 4;
        let i = self.i_attention_wv;
        let ty = match self.ftype {
            F::Q2_K if many_queries => Q4_K,
            F::Q2_K => Q3_K,
            F::Q2_K_S | F::IQ3_XS | F::IQ3_S if many_queries => Q4_K,
            F::IQ3_M => Q4_K,
            F::Q3_K_M if i < 2 => Q5_K,
            F::Q3_K_M => Q4_K,
            F::Q3_K_L => Q5_K,
            F::IQ4_NL | F::IQ4_XS if many_queries => Q5_K,
            F::Q4_K_M | F::Q5_K_M if use_more_bits(i, self.n_attention_wv) => Q6_K,
            F::Q4_K_S if i < 4 => Q5_K,
            other => other.base(),
        };
        match ty {
            // For 8 experts it trades only some 128 MB.
            _ if self.facts.n_expert == 8 => Q8_0,
            // Eight query heads share a value head there, so that more bits cost next to nothing.
            Q3_K | Q4_K if self.is_70b() => Q5_K,
            ty => ty,
        }
    }

    fn attn_k(&self) -> GgmlType {
        match self.ftype {
            _ if self.facts.n_expert == 8 => GgmlType::Q8_0,
            LlamaFtype::IQ3_XS => GgmlType::IQ3_XXS,
            other => other.base(),
        }
    }

    fn attn_output(&self) -> GgmlType {
        use GgmlType::{Q3_K, Q4_K, Q5_K};
        use LlamaFtype as F;
        match self.ftype {
            F::Q2_K
            | F::IQ3_XS
            | F::Q3_K_S
            | F::Q3_K_M
            | F::IQ4_NL
            | F::Q4_K_S
            | F::Q4_K_M
            | F::IQ3_S
            | F::IQ3_M
            | F::IQ4_XS
                if self.facts.n_expert == 8 =>
            {
                Q5_K
            }
            other if self.facts.n_expert == 8 => other.base(),
            F::Q2_K => Q3_K,
            F::Q3_K_M | F::IQ3_M => Q4_K,
            F::Q3_K_L => Q5_K,
            other => other.base(),
        }
    }

    fn ffn_down(&self, i: u32) -> GgmlType {
        use GgmlType::{Q3_K, Q4_1, Q4_K, Q5_1, Q5_K, Q6_K};
        use LlamaFtype as F;
        let n = self.facts.n_layer;
        let is_first_eighth = i < n / 8;
        match self.ftype {
            F::Q2_K => Q3_K,
            F::Q2_K_S if is_first_eighth => Q4_K,
            F::Q3_K_M if i < n / 16 => Q5_K,
            F::Q3_K_M => Q4_K,
            F::IQ3_M if is_first_eighth || (self.facts.n_expert == 8 && use_more_bits(i, n)) => Q4_K,
            F::Q3_K_L => Q5_K,
            F::Q4_K_M | F::Q5_K_M if use_more_bits(i, n) => Q6_K,
            F::IQ4_NL | F::IQ4_XS if is_first_eighth && !self.has_imatrix => Q5_K,
            F::Q4_K_S if is_first_eighth => Q5_K,
            // The first layers can go astray even with an importance matrix.
            F::Q4_0 if is_first_eighth && self.has_imatrix => Q4_1,
            F::Q5_0 if is_first_eighth && self.has_imatrix => Q5_1,
            other => other.base(),
        }
    }

    fn ffn_gate_or_up(&self, i: u32) -> GgmlType {
        let n = self.facts.n_layer;
        match self.ftype {
            LlamaFtype::IQ3_XS if i >= n / 8 && i < 7 * n / 8 => GgmlType::IQ3_XXS,
            other => other.base(),
        }
    }

    /// The layer of a feed-forward matrix: counted in a dense model, and from the name where a layer has several
    /// experts.
    fn layer(&self, spec: &TensorSpec, counted: u32) -> Result<u32> {
        if self.facts.n_expert <= 1 {
            return Ok(counted);
        }
        let (layer, n_layer) = (layer_of(&spec.name), self.facts.n_layer);
        layer.filter(|&layer| layer < n_layer).ok_or(Error::MixLayer { layer, n_layer })
    }

    /// `LLM_TYPE_70B`.
    fn is_70b(&self) -> bool {
        let ModelFacts { architecture, n_layer, n_head, n_head_kv, .. } = self.facts;
        *n_layer == 80
            && match architecture.as_str() {
                "llama" => n_head != n_head_kv,
                "qwen2" | "olmo" => true,
                _ => false,
            }
    }
}

/// The head, and an embedding that is the head, too.
fn head_type(base: GgmlType, spec: &TensorSpec, options: &MixOptions) -> GgmlType {
    match options.output {
        Some(ty) => ty,
        None if !spec.dims[0].is_multiple_of(base.block_size() as u64) => GgmlType::Q8_0,
        None if base == GgmlType::Q8_0 => base,
        None => GgmlType::Q6_K,
    }
}

/// The first and the last eighth of the layers, and every third between them.
fn use_more_bits(i_layer: u32, n_layers: u32) -> bool {
    let eighth = n_layers / 8;
    i_layer < eighth || i_layer >= 7 * n_layers / 8 || (i_layer - eighth) % 3 == 2
}

#[cfg(test)]
mod tests {
    use super::use_more_bits;

    #[test]
    fn layers_with_more_bits() {
        let layers: Vec<u32> = (0..32).filter(|&i| use_more_bits(i, 32)).collect();
        assert_eq!(layers, [0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31]);
        for (n, expected) in
            [(12, 6), (16, 8), (22, 10), (24, 12), (28, 14), (36, 18), (40, 20), (48, 24), (80, 40)]
        {
            assert_eq!((0..n).filter(|&i| use_more_bits(i, n)).count(), expected, "{n} layers");
        }
    }
}
