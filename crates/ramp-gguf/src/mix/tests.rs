//! Sizes that upstream publishes, and the rules that those do not reach.

use super::*;
use GgmlType::{F16, F32, IQ3_XXS, Q2_K, Q3_K, Q4_0, Q4_1, Q4_K, Q5_0, Q5_1, Q5_K, Q6_K, Q8_0};

/// The tensors of a model of the Llama family as llama.cpp's converter writes them.
struct Shape {
    n_layer: u32,
    n_head: u32,
    n_head_kv: u32,
    embedding: u64,
    feed_forward: u64,
    vocabulary: u64,
    is_tied: bool,
    rope_freqs: bool,
}

const LLAMA_2_7B: Shape = Shape {
    n_layer: 32,
    n_head: 32,
    n_head_kv: 32,
    embedding: 4096,
    feed_forward: 11008,
    vocabulary: 32000,
    is_tied: false,
    rope_freqs: false,
};

const LLAMA_3_1_8B: Shape =
    Shape { n_head_kv: 8, feed_forward: 14336, vocabulary: 128_256, rope_freqs: true, ..LLAMA_2_7B };

const LLAMA_2_70B: Shape =
    Shape { n_layer: 80, n_head: 64, n_head_kv: 8, embedding: 8192, feed_forward: 28672, ..LLAMA_2_7B };

impl Shape {
    fn facts(&self) -> ModelFacts {
        ModelFacts::dense("llama", self.n_layer, self.n_head, self.n_head_kv)
    }

    fn tensors(&self) -> Vec<TensorSpec> {
        let (e, f, v) = (self.embedding, self.feed_forward, self.vocabulary);
        let kv = e / u64::from(self.n_head) * u64::from(self.n_head_kv);
        let norm = |name: String| TensorSpec::new(name, [e], F32);
        let mut tensors = vec![norm("output_norm.weight".into())];
        let mut matrix = |name: String, dims: [u64; 2]| tensors.push(TensorSpec::new(name, dims, F16));
        matrix("token_embd.weight".into(), [e, v]);
        if !self.is_tied {
            matrix("output.weight".into(), [e, v]);
        }
        // Not in the order of the rules, which must not matter.
        for i in (0..self.n_layer).rev() {
            matrix(format!("blk.{i}.attn_v.weight"), [e, kv]);
            matrix(format!("blk.{i}.attn_q.weight"), [e, e]);
            matrix(format!("blk.{i}.attn_k.weight"), [e, kv]);
            matrix(format!("blk.{i}.attn_output.weight"), [e, e]);
            matrix(format!("blk.{i}.ffn_up.weight"), [e, f]);
            matrix(format!("blk.{i}.ffn_gate.weight"), [e, f]);
            matrix(format!("blk.{i}.ffn_down.weight"), [f, e]);
        }
        tensors.extend((0..self.n_layer).flat_map(|i| {
            [norm(format!("blk.{i}.attn_norm.weight")), norm(format!("blk.{i}.ffn_norm.weight"))]
        }));
        if self.rope_freqs {
            tensors.push(TensorSpec::new("rope_freqs.weight", [e / u64::from(self.n_head) / 2], F32));
        }
        tensors
    }

    fn mixed(&self, ftype: LlamaFtype, options: &MixOptions) -> Vec<TensorSpec> {
        let mut tensors = self.tensors();
        let types = types(&self.facts(), ftype, &tensors, options).unwrap();
        tensors.iter_mut().zip(types).for_each(|(spec, ty)| spec.ty = ty);
        tensors
    }

    /// Bytes and weights of all tensors.
    fn totals(&self, ftype: LlamaFtype) -> (u64, u64) {
        let tensors = self.mixed(ftype, &MixOptions::default());
        let bytes = tensors.iter().map(|spec| spec.n_bytes().unwrap()).sum();
        (bytes, tensors.iter().map(|spec| spec.dims.iter().product::<u64>()).sum())
    }
}

fn type_of(tensors: &[TensorSpec], name: &str) -> GgmlType {
    tensors.iter().find(|spec| spec.name == name).expect("the tensor exists").ty
}

/// The table of llama.cpp's tools/quantize/README.md: bits per weight to four places.
#[test]
fn bits_per_weight_are_those_that_upstream_publishes() {
    use LlamaFtype as F;
    for (ftype, llama_2_7b, llama_3_1_8b) in [
        (F::Q3_K_S, "3.4994", "3.6429"),
        (F::Q3_K_M, "3.9146", "3.9960"),
        (F::Q3_K_L, "4.2697", "4.2979"),
        (F::Q4_K_S, "4.5779", "4.6672"),
        (F::Q4_K_M, "4.8442", "4.8944"),
        (F::Q5_K_S, "5.5217", "5.5704"),
        (F::Q5_K_M, "5.6778", "5.7036"),
        (F::Q6_K, "6.5635", "6.5633"),
        (F::Q8_0, "8.5009", "8.5008"),
    ] {
        for (shape, expected, weights) in
            [(LLAMA_2_7B, llama_2_7b, 6_738_415_616), (LLAMA_3_1_8B, llama_3_1_8b, 8_030_261_312)]
        {
            let (bytes, n_weights) = shape.totals(ftype);
            assert_eq!(n_weights, weights);
            let bits = 8.0 * bytes as f64 / n_weights as f64;
            assert_eq!(format!("{bits:.4}"), expected, "{ftype}");
        }
    }
}

#[test]
fn llama_2_7b_has_the_bytes_of_the_published_files() {
    assert_eq!(LLAMA_2_7B.totals(LlamaFtype::Q4_K_M).0, 4_080_263_168);
    for (ftype, gib) in [
        (LlamaFtype::Q3_K_S, "2.745"),
        (LlamaFtype::Q3_K_M, "3.071"),
        (LlamaFtype::Q3_K_L, "3.349"),
        (LlamaFtype::Q4_K_S, "3.591"),
        (LlamaFtype::Q4_K_M, "3.800"),
        (LlamaFtype::Q5_K_S, "4.332"),
        (LlamaFtype::Q5_K_M, "4.454"),
        (LlamaFtype::Q6_K, "5.149"),
        (LlamaFtype::Q8_0, "6.669"),
    ] {
        let bytes = LLAMA_2_7B.totals(ftype).0;
        assert_eq!(format!("{:.3}", bytes as f64 / f64::from(1 << 30)), gib, "{ftype}");
    }
}

#[test]
fn values_of_a_70b_model_get_more_bits() {
    let mixed = |ftype| LLAMA_2_70B.mixed(ftype, &MixOptions::default());
    for ftype in [LlamaFtype::Q3_K_S, LlamaFtype::Q4_K_S] {
        let tensors = mixed(ftype);
        assert_eq!(type_of(&tensors, "blk.40.attn_v.weight"), Q5_K);
        assert_eq!(type_of(&tensors, "blk.40.attn_k.weight"), ftype.base());
    }
    let tensors = mixed(LlamaFtype::Q4_K_M);
    assert_eq!(type_of(&tensors, "blk.0.attn_v.weight"), Q6_K);
    assert_eq!(type_of(&tensors, "blk.10.attn_v.weight"), Q5_K);
    // The 65B model of Llama 1 has as many layers, but no shared heads.
    let llama_65b = Shape { n_head_kv: 64, ..LLAMA_2_70B };
    let tensors = llama_65b.mixed(LlamaFtype::Q3_K_S, &MixOptions::default());
    assert_eq!(type_of(&tensors, "blk.40.attn_v.weight"), Q3_K);
}

#[test]
fn a_tied_embedding_is_the_head() {
    let tied = Shape { is_tied: true, ..LLAMA_2_7B };
    let embedding = |shape: &Shape, ftype, options: &MixOptions| {
        type_of(&shape.mixed(ftype, options), "token_embd.weight")
    };
    let default = MixOptions::default();
    assert_eq!(embedding(&tied, LlamaFtype::Q3_K_S, &default), Q6_K);
    assert_eq!(embedding(&LLAMA_2_7B, LlamaFtype::Q3_K_S, &default), Q3_K);
    assert_eq!(embedding(&tied, LlamaFtype::Q8_0, &default), Q8_0);
    assert_eq!(embedding(&tied, LlamaFtype::Q4_0, &default), Q6_K);
    let output = MixOptions { output: Some(Q5_K), ..default };
    assert_eq!(embedding(&tied, LlamaFtype::Q3_K_S, &output), Q5_K);
    assert_eq!(embedding(&LLAMA_2_7B, LlamaFtype::Q3_K_S, &output), Q3_K);
    // Rows that are not whole super-blocks.
    let narrow = Shape { embedding: 896, n_head: 14, n_head_kv: 2, is_tied: true, ..LLAMA_2_7B };
    let tensors = narrow.mixed(LlamaFtype::Q4_K_M, &MixOptions::default());
    assert_eq!(type_of(&tensors, "token_embd.weight"), Q8_0);
    assert_eq!(type_of(&tensors, "blk.5.attn_q.weight"), Q5_0);
    assert_eq!(type_of(&tensors, "blk.0.attn_v.weight"), Q8_0, "the fallback of Q6_K");
}

#[test]
fn options_of_llama_quantize() {
    let options = MixOptions {
        token_embd: Some(Q2_K),
        output: Some(Q8_0),
        recipe: "attn_v=q3_k ^blk\\.1\\.=f16".parse().unwrap(),
        ..MixOptions::default()
    };
    let tensors = LLAMA_3_1_8B.mixed(LlamaFtype::Q4_K_M, &options);
    for (name, expected) in [
        ("token_embd.weight", Q2_K),
        ("output.weight", Q8_0),
        ("blk.1.attn_v.weight", Q3_K),
        ("blk.1.ffn_up.weight", F16),
        ("blk.1.attn_norm.weight", F32),
        ("blk.11.ffn_up.weight", Q4_K),
    ] {
        assert_eq!(type_of(&tensors, name), expected, "{name}");
    }
    // A named matrix is not counted: upstream counts only where its rules decide.
    let named = MixOptions { recipe: r"blk\.0\.attn_v=q8_0".parse().unwrap(), ..MixOptions::default() };
    let tensors = LLAMA_2_7B.mixed(LlamaFtype::Q3_K_M, &named);
    let values = [0, 1, 2, 3].map(|i| type_of(&tensors, &format!("blk.{i}.attn_v.weight")));
    assert_eq!(values, [Q8_0, Q5_K, Q5_K, Q4_K]);

    let pure = MixOptions { pure: true, ..MixOptions::default() };
    let tensors = LLAMA_2_7B.mixed(LlamaFtype::Q4_K_M, &pure);
    assert!(tensors.iter().all(|spec| spec.ty == if spec.dims.len() == 1 { F32 } else { Q4_K }));
    let leave = MixOptions { leave_output: true, ..MixOptions::default() };
    assert_eq!(type_of(&LLAMA_2_7B.mixed(LlamaFtype::Q4_K_M, &leave), "output.weight"), F16);
    let tensors = LLAMA_2_7B.mixed(LlamaFtype::BF16, &MixOptions::default());
    assert_eq!(type_of(&tensors, "output.weight"), GgmlType::BF16);
}

#[test]
fn an_imatrix_changes_the_first_layers_of_some_mixes() {
    let with = MixOptions { has_imatrix: true, ..MixOptions::default() };
    let down = |ftype, options: &MixOptions, i: u32| {
        type_of(&LLAMA_2_7B.mixed(ftype, options), &format!("blk.{i}.ffn_down.weight"))
    };
    let without = MixOptions::default();
    assert_eq!(down(LlamaFtype::Q4_0, &without, 3), Q4_0);
    assert_eq!(down(LlamaFtype::Q4_0, &with, 3), Q4_1);
    assert_eq!(down(LlamaFtype::Q4_0, &with, 4), Q4_0);
    assert_eq!(down(LlamaFtype::Q5_0, &with, 0), Q5_1);
    assert_eq!(down(LlamaFtype::IQ4_XS, &without, 3), Q5_K);
    assert_eq!(down(LlamaFtype::IQ4_XS, &with, 3), GgmlType::IQ4_XS);
    let tensors = LLAMA_3_1_8B.mixed(LlamaFtype::IQ3_XS, &without);
    let types = ["attn_q", "attn_k", "attn_v", "ffn_up", "ffn_gate"]
        .map(|name| type_of(&tensors, &format!("blk.9.{name}.weight")));
    assert_eq!(types, [IQ3_XXS, IQ3_XXS, Q4_K, IQ3_XXS, IQ3_XXS]);
}

#[test]
fn eight_experts() {
    let facts = ModelFacts { n_expert: 8, ..ModelFacts::dense("llama", 32, 32, 8) };
    let tensors: Vec<TensorSpec> = (0..32)
        .flat_map(|i| {
            ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_down_exps", "ffn_gate_inp"]
                .map(|name| TensorSpec::new(format!("blk.{i}.{name}.weight"), [4096, 8, 8], F16))
        })
        .collect();
    let mixed = |ftype| types(&facts, ftype, &tensors, &MixOptions::default()).unwrap();
    assert_eq!(mixed(LlamaFtype::Q4_K_M)[..6], [Q4_K, Q8_0, Q8_0, Q5_K, Q6_K, F16]);
    assert_eq!(mixed(LlamaFtype::Q3_K_L)[..6], [Q3_K, Q8_0, Q8_0, Q3_K, Q5_K, F16]);
    // The layer of an expert is that of its name.
    assert_eq!(mixed(LlamaFtype::Q4_K_M)[4 * 6 + 4], Q4_K);

    let far = [TensorSpec::new("blk.32.ffn_down_exps.weight", [4096, 8, 8], F16)];
    let error = types(&facts, LlamaFtype::Q4_K_M, &far, &MixOptions::default()).unwrap_err();
    assert!(matches!(error.root(), Error::MixLayer { layer: Some(32), n_layer: 32 }));
}

/// The published rule for GPT-2's joint matrix.
#[test]
fn a_joint_matrix_counts_as_values() {
    let facts = ModelFacts::dense("gpt2", 12, 12, 12);
    let tensors: Vec<TensorSpec> = (0..12)
        .map(|i| TensorSpec::new(format!("blk.{i}.attn_qkv.weight"), [768, 2304], F16))
        .chain([TensorSpec::new("position_embd.weight", [768, 1024], F32)])
        .collect();
    let mixed = |ftype| types(&facts, ftype, &tensors, &MixOptions::default()).unwrap();
    let q4_k_m = mixed(LlamaFtype::Q4_K_M);
    assert_eq!(q4_k_m.iter().filter(|&&ty| ty == Q6_K).count(), 6);
    assert_eq!(q4_k_m.iter().filter(|&&ty| ty == Q4_K).count(), 6);
    assert_eq!(mixed(LlamaFtype::Q3_K_M)[..4], [Q5_K, Q5_K, Q4_K, Q4_K]);
    assert_eq!(q4_k_m[12], F32, "positions are never quantized");
}

#[test]
fn architectures_with_other_rules_are_refused() {
    let facts = ModelFacts::dense("falcon", 32, 32, 1);
    let error = types(&facts, LlamaFtype::Q4_K_M, &[], &MixOptions::default()).unwrap_err();
    assert_eq!(error.to_string(), "the mixes for architecture `falcon` are not known");
}

#[test]
fn names_and_numbers() {
    for &ftype in LlamaFtype::ALL {
        assert_eq!(LlamaFtype::from_id(ftype.id()).unwrap(), ftype);
        assert_eq!(ftype.name().to_lowercase().parse::<LlamaFtype>().unwrap(), ftype);
        let json = serde_json::to_string(&ftype).unwrap();
        assert_eq!(serde_json::from_str::<LlamaFtype>(&json).unwrap(), ftype);
    }
    assert_eq!("q4_k".parse::<LlamaFtype>().unwrap(), LlamaFtype::Q4_K_M);
    assert_eq!(LlamaFtype::Q4_K_M.id(), 15);
    assert!(matches!("Q9".parse::<LlamaFtype>(), Err(Error::UnknownFtype { name }) if name == "Q9"));
    assert!(matches!(LlamaFtype::from_id(4), Err(Error::UnknownFtype { .. })));
}
