//! Whatever the model, the formats and the budget: an allocation fits.

use proptest::prelude::*;
use ramp_gguf::{GgmlType, Metadata};
use ramp_model::ModelConfig;
use ramp_quant::Budget;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{config, synthetic::World};
use crate::{
    ActionSet, AdditiveSurrogate, Allocator, Cem, Choices, EvoPress, Fixed, HawqTrace, LlamaCppMix,
    MeasuredKnapsack, Polish, Problem, ProxyError, ProxyKnapsack, RandomSearch, RoleDepth, TraceRule,
    Uniform, allocate_within,
    moves::{draw_masked, fill_at_random, lower_at_random, step_up},
    project, uniform,
};

const TYPES: [GgmlType; 8] = [
    GgmlType::Q2_K,
    GgmlType::Q3_K,
    GgmlType::IQ4_XS,
    GgmlType::Q4_0,
    GgmlType::Q4_K,
    GgmlType::Q5_K,
    GgmlType::Q6_K,
    GgmlType::Q8_0,
];

fn models() -> impl Strategy<Value = ModelConfig> {
    let shapes =
        (1usize..4, prop::sample::select(vec![64usize, 96, 256, 288, 512]), 1usize..5, any::<bool>());
    shapes.prop_map(|(blocks, hidden, ratio, tied)| {
        let ffn = hidden * ratio;
        config(&format!(
            r#"{{"model_type":"llama","hidden_size":{hidden},"intermediate_size":{ffn},
            "num_hidden_layers":{blocks},"num_attention_heads":4,"num_key_value_heads":2,"vocab_size":320,
            "rms_norm_eps":1e-5,"tie_word_embeddings":{tied}}}"#
        ))
    })
}

fn actions() -> impl Strategy<Value = ActionSet> {
    prop::sample::subsequence(TYPES.to_vec(), 1..=TYPES.len())
        .prop_map(|types| ActionSet::new(types).unwrap())
}

/// A budget somewhere between the floor and the ceiling, both included, in one of the units.
fn budget(config: &ModelConfig, actions: &ActionSet, share: f64, unit: u8) -> Budget {
    // In bytes every allocation is one of the ends' own budgets.
    let ends = Problem::ends(config, &Metadata::new(), actions, Fixed::default()).unwrap();
    let between = |low: f64, high: f64| low + share * (high - low);
    match unit {
        0 => Budget::Bytes(between(ends.bytes.0 as f64, ends.bytes.1 as f64) as u64),
        _ => Budget::BitsPerWeight(between(ends.bits_per_weight.0, ends.bits_per_weight.1)),
    }
}

/// No single step up is left that would have fitted. Steps to another type of the same size are no gain.
fn is_full(problem: &Problem, choices: &[usize]) -> bool {
    let left = problem.capacity() - problem.cost(choices);
    (0..choices.len())
        .all(|slot| step_up(problem, slot, choices[slot]).is_none_or(|step| step == 0 || step > left))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn every_allocator_fits(
        config in models(),
        actions in actions(),
        share in 0.0..=1.0f64,
        unit in 0u8..2,
        seed in any::<u64>(),
    ) {
        let budget = budget(&config, &actions, share, unit);
        let world = World::new(&config, &actions, budget, 0.5, 0.5, seed);
        let mut allocators: Vec<Box<dyn Allocator>> = vec![
            Box::new(Uniform),
            Box::new(LlamaCppMix { config: config.clone() }),
            Box::new(RoleDepth::default()),
            Box::new(HawqTrace::default()),
            Box::new(HawqTrace { rule: TraceRule::Bits { alpha: 0.5 } }),
            Box::new(ProxyKnapsack::default()),
            Box::new(ProxyKnapsack { error: ProxyError::Outputs }),
            Box::new(MeasuredKnapsack),
            Box::new(Polish::default()),
            Box::new(RandomSearch::new(seed)),
            Box::new(EvoPress::new(seed)),
            Box::new(Cem::new(seed)),
            Box::new(AdditiveSurrogate { initial: 4, ..AdditiveSurrogate::new(seed) }),
        ];
        for allocator in &mut allocators {
            let mut context = world.context();
            let found = allocate_within(allocator.as_mut(), Some(30 * 512), &mut context, &mut |_| true).unwrap();
            prop_assert!(world.problem.fits(&found.choices), "{}", allocator.name());
            prop_assert!(context.evaluator.tokens_forwarded() <= 30 * 512, "{}", allocator.name());
            if let Budget::Bytes(bytes) = budget {
                prop_assert!(world.problem.file_bytes(&found.choices) <= bytes);
            }
            // A better allocation of the same file would be free.
            prop_assert!(is_full(&world.problem, &found.choices), "{} {:?}", allocator.name(), found.choices);
        }
    }

    #[test]
    fn every_move_fits(
        config in models(),
        actions in actions(),
        share in 0.0..=1.0f64,
        seed in any::<u64>(),
    ) {
        let world = World::new(&config, &actions, budget(&config, &actions, share, 0), 0.0, 0.0, seed);
        let problem = &world.problem;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let any: Choices = problem.slots().iter().map(|slot| rng.random_range(0..slot.choices.len())).collect();
        let keep: Vec<usize> = (0..any.len()).filter(|_| rng.random()).collect();
        let mut lowered = any.clone();
        lower_at_random(problem, &mut lowered, &keep, &mut rng);
        prop_assert!(problem.fits(&lowered));
        prop_assert!(lowered.iter().zip(&any).all(|(after, before)| after <= before));
        fill_at_random(problem, &mut lowered, &mut rng);
        prop_assert!(problem.fits(&lowered) && is_full(problem, &lowered));
        let even: Vec<Vec<f64>> = problem.slots().iter().map(|slot| vec![1.0; slot.choices.len()]).collect();
        let drawn = draw_masked(problem, &even, &mut rng);
        prop_assert!(problem.fits(&drawn) && is_full(problem, &drawn));
        let actions: Vec<f64> = any.iter().map(|_| rng.random()).collect();
        for choices in [uniform(problem), project(problem, &actions)] {
            prop_assert!(problem.fits(&choices) && is_full(problem, &choices));
        }
    }
}
