//! What each allocator claims, on a model whose best allocation is known.

use ramp_gguf::{GgmlType, mix::LlamaFtype};
use ramp_model::Role;
use ramp_quant::Budget;

use super::{config, synthetic::World};
use crate::{
    ActionSet, AdditiveSurrogate, Allocator, Cem, Certificate, Choices, Error, EvoPress, Found, HawqTrace,
    LlamaCppMix, MeasuredKnapsack, Polish, ProxyKnapsack, RandomSearch, RoleDepth, TraceRule, Uniform,
    allocate_within, knapsack, uniform,
};

/// Eight blocks, 58 matrices.
fn eight_blocks() -> ramp_model::ModelConfig {
    config(
        r#"{"model_type":"llama","hidden_size":256,"intermediate_size":768,"num_hidden_layers":8,
        "num_attention_heads":8,"num_key_value_heads":4,"vocab_size":512,"rms_norm_eps":1e-5}"#,
    )
}

fn world(coupling: f64, seed: u64) -> World {
    World::new(&eight_blocks(), &ActionSet::paper(), Budget::BitsPerWeight(4.5), coupling, 0.3, seed)
}

/// `(X - optimum) / (uniform - optimum)`.
fn regret(world: &World, choices: &Choices) -> f64 {
    let best = world.kld(&knapsack(&world.problem, &world.truth()));
    (world.kld(choices) - best) / (world.kld(&uniform(&world.problem)) - best)
}

fn run(world: &World, allocator: &mut dyn Allocator, tokens: Option<usize>) -> Found {
    let mut context = world.context();
    let found = allocate_within(allocator, tokens, &mut context, &mut |_| true).unwrap();
    assert!(world.problem.fits(&found.choices), "{}", allocator.name());
    if let Some(tokens) = tokens {
        assert!(context.evaluator.tokens_forwarded() <= tokens, "{}", allocator.name());
    }
    let trace = context.evaluator.trace();
    assert!(trace.is_sorted_by(|a, b| a.kld > b.kld && a.tokens <= b.tokens), "{}", allocator.name());
    assert_eq!(trace.last().map(|point| point.kld), Some(found.score.kld), "{}", allocator.name());
    found
}

/// Mean regret over three models.
fn mean_regret(make: impl Fn(u64) -> Box<dyn Allocator>, tokens: Option<usize>) -> f64 {
    let seeds = [1, 2, 3];
    let one = |seed| {
        let world = world(0.0, seed);
        regret(&world, &run(&world, make(seed).as_mut(), tokens).choices)
    };
    seeds.map(one).iter().sum::<f64>() / seeds.len() as f64
}

#[test]
fn each_comes_as_close_as_it_should() {
    let knapsack = mean_regret(|_| Box::new(MeasuredKnapsack), None);
    assert!(knapsack.abs() <= 1e-9, "knapsack {knapsack}");
    let polish = mean_regret(|_| Box::new(Polish::default()), None);
    assert!(polish.abs() <= 1e-9, "polish {polish}");
    let surrogate = mean_regret(|seed| Box::new(AdditiveSurrogate::new(seed)), None);
    assert!(surrogate <= 0.1, "surrogate {surrogate}");
    let evo_press = mean_regret(|seed| Box::new(EvoPress::new(seed)), None);
    assert!(evo_press <= 0.25, "evopress {evo_press}");
    // Without a forward pass, from errors that tell half of it.
    let proxy = mean_regret(|_| Box::new(ProxyKnapsack::default()), None);
    assert!(proxy < 1.0, "proxy {proxy}");
    let cem = mean_regret(|seed| Box::new(Cem::new(seed)), None);
    let random = mean_regret(|seed| Box::new(RandomSearch::new(seed)), None);
    assert!(cem < random, "cem {cem}, random {random}");
    assert!(random > 1.0, "random {random}");
    assert!(surrogate < evo_press && evo_press < random);
}

#[test]
fn at_equal_tokens_a_model_of_the_model_is_worth_most() {
    // 120 full evaluations, the base's pass included.
    let tokens = Some(120 * 512);
    let of = |make: &dyn Fn(u64) -> Box<dyn Allocator>| mean_regret(make, tokens);
    let knapsack = of(&|_| Box::new(MeasuredKnapsack));
    let surrogate = of(&|seed| Box::new(AdditiveSurrogate::new(seed)));
    let evo_press = of(&|seed| Box::new(EvoPress::new(seed)));
    let random = of(&|seed| Box::new(RandomSearch::new(seed)));
    assert!(knapsack <= surrogate && surrogate < evo_press && evo_press < random);
}

#[test]
fn polish_mends_what_a_knapsack_cannot_know() {
    for seed in 0..4 {
        let world = world(2.0, seed);
        let knapsack = run(&world, &mut MeasuredKnapsack, None).score.kld;
        let polish = run(&world, &mut Polish::default(), None).score.kld;
        assert!(polish < knapsack, "seed {seed}: {polish} against {knapsack}");
    }
}

#[test]
fn a_certificate_encloses_the_optimum() {
    for seed in 0..8 {
        let world = world(0.0, seed);
        let truth = world.truth();
        let best = knapsack(&world.problem, &truth);
        let certificate = Certificate::new(&world.problem, &truth, &best);
        assert_eq!(certificate.predicted, truth.predict(&best));
        assert!(certificate.lower_bound <= certificate.predicted);
        // The optimum loses less than one step of one layer against the relaxation.
        assert!(certificate.lower_bound >= 0.99 * certificate.predicted, "{certificate:?}");
        let worse = Certificate::new(&world.problem, &truth, &uniform(&world.problem));
        assert!(worse.predicted > certificate.predicted && worse.lower_bound <= certificate.predicted);
    }
}

#[test]
fn one_seed_gives_one_history() {
    let world = world(0.5, 9);
    let history = |allocator: &mut dyn Allocator| {
        let mut context = world.context();
        let found = allocate_within(allocator, Some(60 * 512), &mut context, &mut |_| true).unwrap();
        (found.choices, context.evaluator.trace().to_vec())
    };
    let makers: [fn(u64) -> Box<dyn Allocator>; 4] = [
        |seed| Box::new(EvoPress::new(seed)),
        |seed| Box::new(Cem::new(seed)),
        |seed| Box::new(RandomSearch::new(seed)),
        |seed| Box::new(AdditiveSurrogate::new(seed)),
    ];
    for make in makers {
        assert_eq!(history(make(4).as_mut()), history(make(4).as_mut()), "{}", make(4).name());
        assert_ne!(history(make(4).as_mut()).1, history(make(5).as_mut()).1, "{}", make(4).name());
    }
}

#[test]
fn a_limit_without_room_for_one_allocation_is_an_error() {
    let world = world(0.0, 1);
    let mut allocators: Vec<Box<dyn Allocator>> = vec![
        Box::new(Uniform),
        Box::new(Polish::default()),
        Box::new(EvoPress::new(1)),
        Box::new(Cem::new(1)),
    ];
    for allocator in &mut allocators {
        let mut context = world.context();
        // The unquantized model took 512 of them.
        let error = allocate_within(allocator.as_mut(), Some(1000), &mut context, &mut |_| true).unwrap_err();
        assert!(matches!(error, Error::TokenLimit { limit: 1000 }), "{error}");
        assert_eq!(error.to_string(), "the limit of 1000 tokens is spent");
    }
}

#[test]
fn a_search_without_rounds_is_an_error() {
    let world = world(0.0, 1);
    let error =
        Cem { generations: 0, ..Cem::new(1) }.allocate(&mut world.context(), &mut |_| true).unwrap_err();
    assert_eq!(error.to_string(), "the search scored no allocation");
    // Odd settings that still score something.
    let none = EvoPress { stages: Vec::new(), ..EvoPress::new(1) };
    assert_eq!(run(&world, &mut none.clone(), None).choices, uniform(&world.problem));
}

#[test]
fn a_search_stops_when_it_is_told_to() {
    let world = world(0.0, 1);
    let mut allocators: Vec<Box<dyn Allocator>> = vec![
        Box::new(Polish::default()),
        Box::new(EvoPress::new(1)),
        Box::new(Cem::new(1)),
        Box::new(RandomSearch::new(1)),
        Box::new(AdditiveSurrogate::new(1)),
    ];
    for allocator in &mut allocators {
        let error = allocator.allocate(&mut world.context(), &mut |_| false).unwrap_err();
        assert!(matches!(error, Error::Interrupted), "{}", allocator.name());
    }
}

#[test]
fn a_search_with_nothing_new_to_try_ends() {
    // Three allocations in all: the budget is the floor's next step.
    let config = config(
        r#"{"model_type":"llama","hidden_size":256,"intermediate_size":256,"num_hidden_layers":1,
        "num_attention_heads":4,"vocab_size":512,"rms_norm_eps":1e-5}"#,
    );
    let actions = ActionSet::new(vec![GgmlType::Q4_K, GgmlType::Q5_K]).unwrap();
    let world = World::new(&config, &actions, Budget::BitsPerWeight(4.6), 0.0, 0.0, 1);
    let mut allocators: Vec<Box<dyn Allocator>> = vec![
        Box::new(EvoPress::new(1)),
        Box::new(Cem::new(1)),
        Box::new(RandomSearch::new(1)),
        Box::new(AdditiveSurrogate::new(1)),
        Box::new(Polish::default()),
    ];
    for allocator in &mut allocators {
        run(&world, allocator.as_mut(), Some(1 << 40));
    }
}

#[test]
fn measured_before_is_paid_for_when_it_is_used() {
    let world = world(0.0, 1);
    let mut first = world.context();
    let before = *first.evaluator.ledger();
    let sensitivity = first.sensitivity(&mut |_| true).unwrap();
    let spent = first.evaluator.ledger().since(&before);
    let mut own = world.context();
    let own_found = MeasuredKnapsack.allocate(&mut own, &mut |_| true).unwrap();

    let mut shared = world.context().with_sensitivity(sensitivity, spent);
    assert!(shared.measured().is_none());
    let uniform = Uniform.allocate(&mut shared, &mut |_| true).unwrap();
    assert_eq!(shared.evaluator.tokens_forwarded(), 512 + uniform.score.tokens);
    let found = MeasuredKnapsack.allocate(&mut shared, &mut |_| true).unwrap();
    assert_eq!(found.choices, own_found.choices);
    assert_eq!(shared.evaluator.tokens_forwarded(), own.evaluator.tokens_forwarded() + uniform.score.tokens);
    // Once.
    let paid = shared.evaluator.tokens_forwarded();
    shared.sensitivity(&mut |_| true).unwrap();
    assert_eq!(shared.evaluator.tokens_forwarded(), paid);
    assert!(shared.measured().is_some());
}

#[test]
fn a_mix_is_llama_cpps_where_it_fits_exactly() {
    let config = eight_blocks();
    let actions =
        ActionSet::new(vec![GgmlType::Q2_K, GgmlType::Q3_K, GgmlType::Q4_K, GgmlType::Q5_K, GgmlType::Q6_K])
            .unwrap();
    let mix = LlamaCppMix { config: config.clone() };
    for ftype in [LlamaFtype::Q3_K_M, LlamaFtype::Q4_K_S, LlamaFtype::Q4_K_M, LlamaFtype::Q5_K_M] {
        let any = World::new(&config, &actions, Budget::BitsPerWeight(4.5), 0.0, 0.0, 1).problem;
        let wanted = mix.choices_of(&any, ftype).unwrap();
        let types = mix.types(ftype).unwrap();
        // Every type of these mixes is a choice, so that nothing is replaced.
        let allocation = any.allocation(&wanted).tensor_types().unwrap();
        assert_eq!(allocation, types);
        let budget = Budget::Bytes(any.file_bytes(&wanted));
        let exact = World::new(&config, &actions, budget, 0.0, 0.0, 1);
        assert_eq!(mix.choices(&exact.problem).unwrap(), wanted, "{ftype:?}");
    }
    let world = world(0.0, 1);
    assert!(world.problem.fits(&run(&world, &mut LlamaCppMix { config }, None).choices));
}

#[test]
fn a_rule_of_thumb_favours_roles_and_outer_blocks() {
    let world = world(0.0, 1);
    let found = run(&world, &mut RoleDepth::default(), None);
    let mean = |keep: &dyn Fn(usize, Role) -> bool| {
        let slots = world.problem.slots().iter().zip(&found.choices);
        let kept: Vec<f64> = slots
            .filter(|(slot, _)| slot.id.block().zip(slot.id.role()).is_some_and(|(b, r)| keep(b, r)))
            .map(|(_, &choice)| choice as f64)
            .collect();
        kept.iter().sum::<f64>() / kept.len() as f64
    };
    assert!(mean(&|_, role| role == Role::V) > mean(&|_, role| role == Role::K));
    assert!(mean(&|_, role| role == Role::Down) > mean(&|_, role| role == Role::Up));
    assert!(mean(&|block, _| block == 0 || block == 7) > mean(&|block, _| (1..7).contains(&block)));
}

#[test]
fn traces_decide_as_printed() {
    let world = world(0.0, 1);
    // All traces are alike: the bits are uniform, up to what the budget leaves for single steps.
    let bits = HawqTrace { rule: TraceRule::Bits { alpha: 1.0 } };
    let choices = bits.choices(&world.problem, &world.bank).unwrap();
    assert!(world.problem.fits(&choices));
    let (least, most) = (choices.iter().min().unwrap(), choices.iter().max().unwrap());
    assert!(most - least <= 1, "{choices:?}");
    // And the perturbation is the squared error over the length of a row.
    let choices = HawqTrace::default().choices(&world.problem, &world.bank).unwrap();
    let cost = world.problem.slots().iter().enumerate().map(|(slot, options)| {
        let error = |choice| world.bank.squared_error(slot, choice).unwrap() / options.columns as f64;
        (0..options.choices.len()).map(error).collect()
    });
    let costs = crate::Sensitivity::from_costs(cost.collect());
    assert_eq!(choices, knapsack(&world.problem, &costs));
}
