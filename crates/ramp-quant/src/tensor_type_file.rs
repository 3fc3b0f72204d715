//! Allocations in the words of llama.cpp.

use ramp_gguf::Recipe;
use ramp_model::ModelConfig;

use crate::{allocation::Allocation, format::Format};

impl Allocation {
    /// The allocation as the file that `llama-quantize --tensor-type-file` reads: one `regex=type` per line.
    ///
    /// Names are anchored, so that each line is for one tensor ([`Recipe::exact`]). The overrides apply to
    /// quantized file types only, and `--output-tensor-type` and `--token-embedding-type` win over them.
    ///
    /// Affine formats have no line, as llama.cpp has no such type: [`Allocation::tensor_types`] reports them.
    #[must_use]
    pub fn to_tensor_type_file(&self) -> String {
        let types = self.iter().filter_map(|(id, format)| Some((id.to_string(), format.ggml()?)));
        Recipe::exact(types).to_string()
    }

    /// What such a file gives the matrices of a model, as llama-quantize reads it: the first pattern that is found
    /// in a matrix's name decides, and where rows are not whole blocks of its type, what [`Format::fallback`]
    /// gives. Matrices that no pattern matches are left out.
    #[must_use]
    pub fn from_recipe(recipe: &Recipe, config: &ModelConfig) -> Self {
        let types = config.layers().into_iter().filter_map(|id| {
            let ty = recipe.type_of(&id.to_string())?;
            Some((id, Format::Ggml(ty).fallback(config.shape(id)[1])))
        });
        types.collect()
    }
}

#[cfg(test)]
mod tests {
    use ramp_gguf::GgmlType;
    use ramp_model::{LayerId, ModelFiles, Role};

    use super::*;

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

    #[test]
    fn files_round_trip_and_patterns_stand_for_matrices() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/nano");
        let config = ModelFiles::open(&folder).unwrap().config().clone();
        let mut allocation = Allocation::uniform(&config, Format::Ggml(GgmlType::Q4_K));
        allocation.set(LayerId::Output, Format::Ggml(GgmlType::Q6_K));
        let recipe: Recipe = allocation.to_tensor_type_file().parse().unwrap();
        assert_eq!(Allocation::from_recipe(&recipe, &config), allocation);

        // Rows of 160 are no whole super-blocks; `output` is also a part of `attn_output`.
        let narrow = ModelConfig { intermediate_size: 160, ..config };
        let recipe: Recipe = "ffn_down=q6_k blk\\.1\\.ffn_up=q3_k output=q5_k".parse().unwrap();
        let recipe = Allocation::from_recipe(&recipe, &narrow);
        assert_eq!(recipe.len(), 4 + 1 + 4 + 1);
        let block = |block, role| recipe.get(LayerId::Block { block, role });
        assert_eq!(block(1, Role::O), Some(Format::Ggml(GgmlType::Q5_K)));
        assert_eq!(block(1, Role::Up), Some(Format::Ggml(GgmlType::Q3_K)));
        assert_eq!(block(0, Role::Up), None);
        assert_eq!(block(0, Role::Down), Some(Format::Ggml(GgmlType::Q8_0)), "the fallback");
    }
}
