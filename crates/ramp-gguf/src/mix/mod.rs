//! The mixes of llama-quantize as rules: which type each tensor gets under `Q4_K_M` and the others, from names and
//! shapes alone.
//!
//! They are the baseline of every other way to spend bytes, and say how large a file would be without making it.
//! The rules are those of `llama_tensor_get_type` in llama.cpp's `src/llama-quant.cpp`, in its order.
//!
//! ```
//! use ramp_gguf::mix::{LlamaFtype, MixOptions, types};
//! use ramp_gguf::{GgmlType, ModelFacts, TensorSpec};
//!
//! let facts = ModelFacts::dense("llama", 32, 32, 8);
//! let tensors = [
//!     TensorSpec::new("token_embd.weight", [4096, 128256], GgmlType::F16),
//!     TensorSpec::new("blk.0.attn_norm.weight", [4096], GgmlType::F32),
//!     TensorSpec::new("blk.0.attn_v.weight", [4096, 1024], GgmlType::F16),
//!     TensorSpec::new("output.weight", [4096, 128256], GgmlType::F16),
//! ];
//! let types = types(&facts, LlamaFtype::Q4_K_M, &tensors, &MixOptions::default())?;
//! use GgmlType::{F32, Q4_K, Q6_K};
//! assert_eq!(types, [Q4_K, F32, Q6_K, Q6_K]);
//! # Ok::<(), ramp_gguf::Error>(())
//! ```

mod category;
mod ftype;
mod rules;

use crate::{Error, GgmlType, ModelFacts, Recipe, Result, TensorSpec};
use category::{Category, allows_quantization, layer_of};
use rules::Rules;

pub use ftype::LlamaFtype;

/// The options of llama-quantize that decide types. The defaults are its own.
#[derive(Clone, Debug, Default)]
pub struct MixOptions {
    /// Whether there is an importance matrix (`--imatrix`): a few rules hold only without or with one.
    pub has_imatrix: bool,
    /// The base type for every matrix (`--pure`).
    pub pure: bool,
    /// Whether `output.weight` stays as it is (`--leave-output-tensor`).
    pub leave_output: bool,
    /// The type of `output.weight`, or of a tied `token_embd.weight` (`--output-tensor-type`).
    pub output: Option<GgmlType>,
    /// The type of `token_embd.weight` (`--token-embedding-type`).
    pub token_embd: Option<GgmlType>,
    /// Types of single tensors (`--tensor-type-file`); the first pattern that matches wins.
    pub recipe: Recipe,
}

/// Architectures with rules of their own, which are not here.
const OTHER_RULES: [&str; 4] = ["falcon", "glm5-next", "bailingmoe3", "deci"];

/// The type of every tensor, in the order of `tensors`, whose own types are those of the file that is quantized.
///
/// `tensors` are all tensors of the model: whether there is an `output.weight` decides what its embedding gets
/// (a tied one is the head, too), and some rules count matrices from layer to layer.
///
/// # Errors
/// [`Error::MixArchitecture`] for an architecture with other rules; [`Error::MixLayer`], wrapped in
/// [`Error::InTensor`], when a model with experts has a feed-forward part outside its layers.
pub fn types(
    facts: &ModelFacts,
    ftype: LlamaFtype,
    tensors: &[TensorSpec],
    options: &MixOptions,
) -> Result<Vec<GgmlType>> {
    if OTHER_RULES.contains(&facts.architecture.as_str()) {
        return Err(Error::MixArchitecture { architecture: facts.architecture.clone() });
    }
    // Counters follow llama.cpp's order: by layer, and then by name.
    let mut order: Vec<usize> = (0..tensors.len()).collect();
    order.sort_by(|&a, &b| {
        let key = |at: usize| (layer_of(&tensors[at].name), tensors[at].name.as_bytes());
        key(a).cmp(&key(b))
    });
    let mut rules = Rules::new(facts, ftype, tensors, options.has_imatrix);
    let mut types: Vec<GgmlType> = tensors.iter().map(|spec| spec.ty).collect();
    for at in order {
        types[at] = tensor_type(&mut rules, &tensors[at], options)
            .map_err(|error| error.in_tensor(&tensors[at].name))?;
    }
    Ok(types)
}

/// `llama_tensor_get_type`.
fn tensor_type(rules: &mut Rules<'_>, spec: &TensorSpec, options: &MixOptions) -> Result<GgmlType> {
    let category = Category::of(&spec.name);
    if !allows_quantization(spec) || (options.leave_output && category == Category::Output) {
        return Ok(spec.ty);
    }
    let named = options.recipe.type_of(&spec.name);
    match (category, options.token_embd, options.output) {
        (Category::TokenEmbd, Some(ty), _)
            if spec.name != "per_layer_token_embd.weight" || named.is_none() =>
        {
            return Ok(ty);
        }
        (Category::Output, _, Some(ty)) => return Ok(ty),
        _ => {}
    }
    let base = rules.ftype.base();
    if !base.is_quantized() {
        return Ok(base);
    }
    let wanted = match named {
        Some(ty) => ty,
        None if options.pure => base,
        None => rules.apply(spec, category, options)?,
    };
    Ok(crate::fallback(wanted, spec.dims[0]))
}

#[cfg(test)]
mod tests;
