//! Allocations in the words of llama.cpp.

use crate::allocation::Allocation;

impl Allocation {
    /// The allocation as the file that `llama-quantize --tensor-type-file` reads: one `regex=type` per line.
    ///
    /// llama.cpp searches each regular expression in the tensor's name and takes the first that matches
    /// (`llama_tensor_get_type`), so names are anchored: `output\.weight` alone would also match
    /// `attn_output.weight`. Types are spelled as `ggml_type_name` spells them. The overrides apply to
    /// quantized file types only, and `--output-tensor-type` and `--token-embedding-type` win over them.
    ///
    /// Affine formats have no line, as llama.cpp has no such type: [`Allocation::tensor_types`] reports them.
    #[must_use]
    pub fn to_tensor_type_file(&self) -> String {
        self.iter()
            .filter_map(|(id, format)| Some((id, format.ggml()?)))
            .map(|(id, ty)| format!("^{}$={}\n", id.to_string().replace('.', r"\."), llama_name(ty.name())))
            .collect()
    }
}

/// ggml's spelling of a type: lower case, but for the K of K-quants (`q4_K`, `f16`).
fn llama_name(name: &str) -> String {
    let lower = name.to_lowercase();
    lower.strip_suffix("_k").map_or(lower.clone(), |stem| format!("{stem}_K"))
}

#[cfg(test)]
mod tests {
    use ramp_gguf::GgmlType;
    use ramp_model::{LayerId, Role};

    use super::*;
    use crate::format::Format;

    #[test]
    fn lines_are_anchored_and_spelled_as_ggml_spells_types() {
        let block = |block, role| LayerId::Block { block, role };
        let allocation: Allocation = [
            (LayerId::Output, GgmlType::Q6_K),
            (block(10, Role::Down), GgmlType::F16),
            (block(1, Role::O), GgmlType::Q3_K),
            (LayerId::TokenEmbd, GgmlType::Q8_0),
            (block(0, Role::Q), GgmlType::BF16),
        ]
        .into_iter()
        .map(|(id, ty)| (id, Format::Ggml(ty)))
        .chain([(block(0, Role::K), Format::Affine { bits: 4, group: 128 })])
        .collect();
        let expected = r"^token_embd\.weight$=q8_0
^blk\.0\.attn_q\.weight$=bf16
^blk\.1\.attn_output\.weight$=q3_K
^blk\.10\.ffn_down\.weight$=f16
^output\.weight$=q6_K
";
        assert_eq!(allocation.to_tensor_type_file(), expected);
    }
}
