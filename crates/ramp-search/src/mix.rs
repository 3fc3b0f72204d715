//! What llama-quantize would do: the largest of its mixes that fits, and on the way to the next one what the budget
//! still gives.
//!
//! # Source
//! `llama_tensor_get_type` in llama.cpp's `src/llama-quant.cpp`, through [`ramp_gguf::mix`], with an importance matrix.

use ramp_gguf::{
    GgmlType, ModelFacts,
    mix::{self, LlamaFtype, MixOptions},
};
use ramp_model::{ModelConfig, TensorTypes, gguf_tensors};
use ramp_quant::{Allocation, Format};

use crate::{
    allocator::{Allocator, Found, SearchContext},
    error::Result,
    knapsack::fill,
    problem::{Choices, Problem},
    progress::ProgressFn,
};

/// The mixes, from the smallest file to the largest.
const MIXES: [LlamaFtype; 11] = [
    LlamaFtype::Q2_K,
    LlamaFtype::Q3_K_S,
    LlamaFtype::Q3_K_M,
    LlamaFtype::Q3_K_L,
    LlamaFtype::IQ4_XS,
    LlamaFtype::Q4_K_S,
    LlamaFtype::Q4_K_M,
    LlamaFtype::Q5_K_S,
    LlamaFtype::Q5_K_M,
    LlamaFtype::Q6_K,
    LlamaFtype::Q8_0,
];

/// llama.cpp's mixes, held to any budget.
#[derive(Clone, Debug)]
pub struct LlamaCppMix {
    /// The model that the problem is about.
    pub config: ModelConfig,
}

impl LlamaCppMix {
    /// The allocation: the largest mix that fits; then, in the order of execution, slots get what they have in the next
    /// larger mix, as long as it fits; then single steps, the lowest formats first.
    ///
    /// A type that is no choice of its slot becomes the largest choice that needs no more bits.
    ///
    /// # Errors
    /// When llama.cpp has other rules for the architecture.
    pub fn choices(&self, problem: &Problem) -> Result<Choices> {
        let mut mixes: Vec<Choices> =
            MIXES.iter().map(|&ftype| self.choices_of(problem, ftype)).collect::<Result<_>>()?;
        mixes.sort_by_key(|choices| problem.cost(choices));
        let fitting = mixes.iter().rposition(|choices| problem.fits(choices));
        let mut choices = fitting.map_or_else(|| problem.floor(), |at| mixes[at].clone());
        for next in &mixes[fitting.map_or(0, |at| at + 1)..] {
            for slot in 0..choices.len() {
                let kept = choices[slot];
                choices[slot] = kept.max(next[slot]);
                if !problem.fits(&choices) {
                    choices[slot] = kept;
                }
            }
        }
        fill(problem, &mut choices, |slot, choice| {
            let cost = problem.choice_cost(slot, choice).max(1) as f64;
            -cost * 0.25f64.powi(i32::try_from(choice).unwrap_or(i32::MAX))
        });
        Ok(choices)
    }

    /// The choices that come nearest to a mix, whatever it costs.
    ///
    /// # Errors
    /// As [`LlamaCppMix::choices`].
    pub fn choices_of(&self, problem: &Problem, ftype: LlamaFtype) -> Result<Choices> {
        let types = self.types(ftype)?;
        let choice = |slot: &crate::Slot| {
            let wanted = types.get(&slot.id).map_or(f64::INFINITY, |ty| ty.bits_per_weight());
            let affordable = |choice: &crate::Choice| {
                choice.format.ggml().is_some_and(|ty| ty.bits_per_weight() <= wanted)
            };
            slot.choices.iter().rposition(affordable).unwrap_or(0)
        };
        Ok(problem.slots().iter().map(choice).collect())
    }

    /// The type of every matrix in a mix.
    ///
    /// # Errors
    /// As [`LlamaCppMix::choices`].
    pub fn types(&self, ftype: LlamaFtype) -> Result<TensorTypes> {
        let config = &self.config;
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let facts = ModelFacts::dense(
            config.architecture.gguf_name(),
            count(config.n_blocks),
            count(config.n_heads),
            count(config.n_kv_heads),
        );
        let f16 = Allocation::uniform(config, Format::Ggml(GgmlType::F16)).tensor_types()?;
        let specs = gguf_tensors(config, &f16)?;
        let options = MixOptions { has_imatrix: true, ..MixOptions::default() };
        let types = mix::types(&facts, ftype, &specs, &options)?;
        // A norm's name is no matrix's.
        Ok(specs.iter().zip(types).filter_map(|(spec, ty)| Some((spec.name.parse().ok()?, ty))).collect())
    }
}

impl Allocator for LlamaCppMix {
    fn name(&self) -> &'static str {
        "mix"
    }

    fn allocate(&mut self, context: &mut SearchContext<'_>, _progress: &mut ProgressFn<'_>) -> Result<Found> {
        let choices = self.choices(context.evaluator.problem())?;
        context.found(choices, "llama.cpp mix")
    }
}
