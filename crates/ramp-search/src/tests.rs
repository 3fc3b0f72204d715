//! Allocators on a problem small enough to enumerate.

mod allocators;
pub(crate) mod devices;
mod evaluator;
mod invariants;
mod journal;
mod synthetic;

use std::path::Path;

use ramp_gguf::{GgmlType, Metadata};
use ramp_model::{LayerId, ModelConfig};
use ramp_quant::{Allocation, Budget, Format};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{
    ActionSet, Choices, Fixed, Problem, Sensitivity, bin_centre, equal_bins, fill, knapsack, nearest,
    project, shadow_price, uniform,
};

fn config(json: &str) -> ModelConfig {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.json");
    std::fs::write(&path, json).unwrap();
    ModelConfig::from_file(&path).unwrap()
}

/// One block, nine matrices.
fn small() -> ModelConfig {
    config(
        r#"{"model_type":"llama","hidden_size":256,"intermediate_size":512,"num_hidden_layers":1,
        "num_attention_heads":4,"num_key_value_heads":2,"vocab_size":512,"rms_norm_eps":1e-5}"#,
    )
}

fn nano() -> ModelConfig {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/nano/config.json");
    ModelConfig::from_file(Path::new(path)).unwrap()
}

fn problem(config: &ModelConfig, budget: Budget) -> Problem {
    Problem::new(config, &Metadata::new(), &ActionSet::paper(), budget).unwrap()
}

/// Falling costs, different for every slot.
fn sensitivity(problem: &Problem, seed: u64) -> Sensitivity {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let rows = problem.slots().iter().map(|slot| {
        let scale = (rng.random::<f64>() * 4.0).exp() * 1e-4;
        (0..slot.choices.len()).map(|choice| scale * 0.22f64.powi(choice as i32)).collect()
    });
    Sensitivity::from_costs(rows.collect())
}

fn enumerate(problem: &Problem, sensitivity: &Sensitivity) -> f64 {
    let mut best = f64::INFINITY;
    let mut choices: Choices = problem.floor();
    loop {
        if problem.fits(&choices) {
            best = best.min(sensitivity.predict(&choices));
        }
        let Some(slot) = (0..choices.len()).find(|&s| choices[s] + 1 < problem.slots()[s].choices.len())
        else {
            return best;
        };
        choices[slot] += 1;
        choices[..slot].fill(0);
    }
}

#[test]
fn knapsack_finds_what_enumeration_finds() {
    for (seed, bits) in [(1, 3.8), (2, 4.3), (3, 5.0), (4, 6.2)] {
        let problem = problem(&small(), Budget::BitsPerWeight(bits));
        let sensitivity = sensitivity(&problem, seed);
        let choices = knapsack(&problem, &sensitivity);
        assert!(problem.fits(&choices));
        let (found, best) = (sensitivity.predict(&choices), enumerate(&problem, &sensitivity));
        assert!((found - best).abs() <= 1e-12, "{bits} bits: {found} against {best}");
    }
}

#[test]
fn shadow_price_separates_what_is_bought_from_what_is_not() {
    let problem = problem(&small(), Budget::BitsPerWeight(4.4));
    let sensitivity = sensitivity(&problem, 5);
    let price = shadow_price(&problem, &sensitivity);
    let choices = knapsack(&problem, &sensitivity);
    assert!(price > 0.0 && price.is_finite());
    // No single step saves more than a few times the price: nothing obviously better was left.
    for (slot, &choice) in choices.iter().enumerate() {
        if choice + 1 < problem.slots()[slot].choices.len() {
            let cost = problem.choice_cost(slot, choice + 1) - problem.choice_cost(slot, choice);
            let gain = sensitivity.get(slot, choice) - sensitivity.get(slot, choice + 1);
            assert!(gain / (cost as f64) < 10.0 * price, "slot {slot}");
        }
    }
}

#[test]
fn every_allocator_fills_the_budget_without_exceeding_it() {
    for budget in [Budget::BitsPerWeight(3.7), Budget::BitsPerWeight(4.45), Budget::MeanBits(4.0)] {
        let problem = problem(&nano(), budget);
        let sensitivity = sensitivity(&problem, 7);
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let actions: Vec<f64> = problem.slots().iter().map(|_| rng.random()).collect();
        let mut filled = problem.floor();
        fill(&problem, &mut filled, |_, choice| choice as f64);
        for choices in
            [uniform(&problem), knapsack(&problem, &sensitivity), project(&problem, &actions), filled]
        {
            let (cost, capacity) = (problem.cost(&choices) as f64, problem.capacity() as f64);
            assert!(cost <= capacity, "{budget}: {cost} of {capacity}");
            assert!(cost >= 0.995 * capacity, "{budget}: {cost} of {capacity}");
        }
    }
}

#[test]
fn file_size_is_known_to_the_byte() {
    let config = nano();
    let metadata = Metadata::new();
    let problem = problem(&config, Budget::BitsPerWeight(4.5));
    let choices = uniform(&problem);
    let types = problem.allocation(&choices).tensor_types().unwrap();
    let specs = ramp_model::gguf_tensors(&config, &types).unwrap();
    assert_eq!(problem.file_bytes(&choices), ramp_gguf::file_bytes(&metadata, &specs).unwrap());
    let by_bytes = self::problem(&config, Budget::Bytes(problem.file_bytes(&choices)));
    assert!(by_bytes.fits(&choices));
    assert_eq!(by_bytes.capacity(), problem.cost(&choices));
}

#[test]
fn impossible_budgets_name_the_limit() {
    let error = |budget| {
        Problem::new(&nano(), &Metadata::new(), &ActionSet::paper(), budget).unwrap_err().to_string()
    };
    assert!(error(Budget::Bytes(10)).contains("below the floor: the smallest possible file needs 1"));
    assert!(error(Budget::BitsPerWeight(3.0)).contains("needs 3.4375 bits per weight"));
    assert!(error(Budget::BitsPerWeight(9.0)).contains("above the ceiling"));
    assert!(error(Budget::MeanBits(2.5)).contains("needs 3.0000 mean bits"));
    assert!(error(Budget::BitsPerWeight(f64::NAN)).contains("NaN"));
}

#[test]
fn an_impossible_budget_names_both_ends() {
    let ends = Problem::ends(&nano(), &Metadata::new(), &ActionSet::paper(), Fixed::default()).unwrap();
    let (floor, ceiling) = ends.bits_per_weight;
    assert_eq!((floor, ceiling), (3.4375, 6.5625));
    for bits in [3.0, 9.0] {
        let budget = Budget::BitsPerWeight(bits);
        let error = Problem::new(&nano(), &Metadata::new(), &ActionSet::paper(), budget).unwrap_err();
        let message = error.to_string();
        assert!(message.contains("3.4375 bits per weight") && message.contains("6.5625 bits"), "{message}");
    }
    for (bytes, good) in
        [(ends.bytes.0 - 1, false), (ends.bytes.0, true), (ends.bytes.1, true), (ends.bytes.1 + 1, false)]
    {
        let budget = Budget::Bytes(bytes);
        let problem = Problem::new(&nano(), &Metadata::new(), &ActionSet::paper(), budget);
        assert_eq!(problem.is_ok(), good, "{bytes}");
    }
}

#[test]
fn embedding_and_head_can_be_fixed() {
    let fixed = Fixed { token_embd: Some(GgmlType::Q8_0), output: Some(GgmlType::Q6_K) };
    let actions = ActionSet::new(vec![GgmlType::Q3_K, GgmlType::Q4_K]).unwrap();
    let budget = Budget::BitsPerWeight(4.8);
    let problem = Problem::with_fixed(&small(), &Metadata::new(), &actions, fixed, budget).unwrap();
    let slots = problem.slots();
    let only = |ty| [Format::Ggml(ty)];
    let formats = |slot: &crate::Slot| slot.choices.iter().map(|choice| choice.format).collect::<Vec<_>>();
    assert_eq!(formats(&slots[0]), only(GgmlType::Q8_0));
    assert_eq!(formats(slots.last().unwrap()), only(GgmlType::Q6_K));
    assert!(slots[1..slots.len() - 1].iter().all(|slot| slot.choices.len() == 2));
    // Their bytes count, and every way to spend the rest holds the budget.
    let choices = uniform(&problem);
    assert!(problem.fits(&choices) && problem.bits_per_weight(&choices) > 4.5);
    let types = problem.allocation(&choices).tensor_types().unwrap();
    assert_eq!(types[&LayerId::Output], GgmlType::Q6_K);

    let unknown = Fixed { output: Some(GgmlType::IQ2_XS), ..Fixed::default() };
    let error = Problem::with_fixed(&small(), &Metadata::new(), &actions, unknown, budget).unwrap_err();
    assert_eq!(error.to_string(), "IQ2_XS has no encoder");
}

#[test]
fn one_problem_many_budgets() {
    let first = problem(&nano(), Budget::BitsPerWeight(4.5));
    let second = first.with_budget(Budget::BitsPerWeight(3.7)).unwrap();
    let fresh = problem(&nano(), Budget::BitsPerWeight(3.7));
    assert_eq!((second.slots(), second.capacity()), (fresh.slots(), fresh.capacity()));
    let error = first.with_budget(Budget::MeanBits(4.0)).unwrap_err().to_string();
    assert!(error.contains("other layers or formats"), "{error}");
    assert!(first.with_budget(Budget::BitsPerWeight(0.1)).is_err());
}

#[test]
fn choices_and_allocations_are_the_same_thing() {
    let problem = problem(&nano(), Budget::BitsPerWeight(4.5));
    let choices = uniform(&problem);
    let mut allocation = problem.allocation(&choices);
    assert_eq!(problem.choices(&allocation).unwrap(), choices);
    allocation.set(LayerId::Output, Format::Ggml(GgmlType::F16));
    let error = problem.choices(&allocation).unwrap_err().to_string();
    assert_eq!(error, "`output.weight` cannot be stored as F16");
    assert!(problem.choices(&Allocation::default()).is_err());
}

#[test]
fn the_papers_unit_leaves_embedding_and_head_alone() {
    let problem = problem(&nano(), Budget::MeanBits(4.0));
    for slot in problem.slots().iter().filter(|slot| slot.id.block().is_none()) {
        assert_eq!(slot.choices.len(), 1);
        assert_eq!(slot.choices[0].format, Format::Ggml(GgmlType::Q6_K));
    }
    let mean = problem.allocation(&uniform(&problem)).mean_bits();
    assert!((mean - 4.0).abs() < 1e-9, "{mean}");
}

#[test]
fn actions_map_to_choices() {
    let bins = |f: fn(f64, usize) -> usize| [0.0, 0.1, 0.2, 0.3, 0.6, 0.8, 0.9, 1.0].map(|a| f(a, 4));
    assert_eq!(bins(equal_bins), [0, 0, 0, 1, 2, 3, 3, 3]);
    // The first bin ends at one sixth, the last begins at five sixths.
    assert_eq!(bins(nearest), [0, 0, 1, 1, 2, 2, 3, 3]);
    for n in 1..6 {
        assert!((0..n).all(|choice| equal_bins(bin_centre(choice, n), n) == choice));
    }
}

#[test]
fn projection_keeps_the_order_of_preferences() {
    let problem = problem(&small(), Budget::BitsPerWeight(4.5));
    let n = problem.slots().len();
    let actions: Vec<f64> = (0..n).map(|slot| slot as f64 / n as f64).collect();
    let choices = project(&problem, &actions);
    // K and V are alike: the one that was asked for more may not get less.
    let of = |name: &str| problem.slots().iter().position(|s| s.id.to_string() == name).unwrap();
    assert!(choices[of("blk.0.attn_k.weight")] <= choices[of("blk.0.attn_v.weight")]);
    assert!(choices[0] <= choices[n - 1]);
}

#[test]
fn rows_that_do_not_fit_fall_back() {
    let config = config(
        r#"{"model_type":"llama","hidden_size":288,"intermediate_size":768,"num_hidden_layers":1,
        "num_attention_heads":6,"vocab_size":512,"rms_norm_eps":1e-5}"#,
    );
    let actions = ActionSet::paper();
    let problem = Problem::new(&config, &Metadata::new(), &actions, Budget::BitsPerWeight(8.0)).unwrap();
    let down = problem.slots().iter().find(|slot| slot.id.to_string() == "blk.0.ffn_down.weight").unwrap();
    assert_eq!(down.choices.len(), 4);
    let q = problem.slots().iter().find(|slot| slot.id.to_string() == "blk.0.attn_q.weight").unwrap();
    let formats: Vec<Format> = q.choices.iter().map(|choice| choice.format).collect();
    let fallbacks = [GgmlType::Q4_0, GgmlType::Q5_0, GgmlType::Q5_1, GgmlType::Q8_0];
    assert_eq!(formats, fallbacks.map(Format::Ggml));
    assert!(
        problem.fallbacks(&actions).iter().any(|(id, wanted, _)| *id == q.id && *wanted == GgmlType::Q4_K)
    );
}
