//! Masks and what follows from them.

use ramp_embed::WideScaler;
use ramp_gguf::{GgmlType, Metadata};
use ramp_model::LayerId;
use ramp_quant::Budget;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::{ActionSet, Features, Fixed, test_bench::Bench, uniform};

#[test]
fn whatever_the_mask_allows_fits() {
    let bench = Bench::nano();
    let features = bench.features();
    let table = features.wide().unwrap();
    let scaler = WideScaler::fit(&table);
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    for bits in [3.5, 4.2, 6.0] {
        let problem = bench.at(bits);
        let walk = WideWalk { problem: &problem, features: &table, scaler: &scaler, masked: true };
        for _ in 0..20 {
            let steps = walk
                .run(&problem.floor(), |_, state, mask| {
                    assert_eq!(state.len(), table.state_len());
                    let allowed: Vec<usize> = (0..mask.len()).filter(|&action| mask[action]).collect();
                    Ok(allowed[rng.random_range(0..allowed.len())])
                })
                .unwrap();
            let choices = walk.choices(&steps);
            assert!(problem.fits(&choices), "{bits} bits");
            // The steps of a replay are those that were walked.
            assert_eq!(walk.replay(&choices).unwrap(), steps);
        }
        // Always the most that is allowed: the first layers take it and the last are left with their floor.
        let greedy = walk
            .run(&problem.floor(), |_, _, mask| Ok(mask.iter().rposition(|&allowed| allowed).unwrap()))
            .unwrap();
        assert!(problem.fits(&walk.choices(&greedy)));
    }
}

#[test]
fn what_is_reserved_stays_free() {
    let bench = Bench::nano();
    let table = bench.features().wide().unwrap();
    let scaler = WideScaler::fit(&table);
    let problem = &bench.problem;
    let walk = WideWalk { problem, features: &table, scaler: &scaler, masked: true };
    let reserved = uniform(problem);
    let last = problem.slots().len() - 1;
    // All layers but the first ask for what was reserved; the first for all that it can get.
    let steps = walk
        .run(&reserved, |slot, _, mask| {
            let wanted = walk.action(slot, reserved[slot]);
            assert!(slot == 0 || mask[wanted], "slot {slot} of {last} lost what was reserved for it");
            Ok(if slot == 0 { mask.iter().rposition(|&allowed| allowed).unwrap() } else { wanted })
        })
        .unwrap();
    assert!(problem.fits(&walk.choices(&steps)));
}

#[test]
fn without_masks_everything_that_a_layer_has_is_allowed() {
    let bench = Bench::nano();
    let table = bench.features().wide().unwrap();
    let scaler = WideScaler::fit(&table);
    let walk = WideWalk { problem: &bench.problem, features: &table, scaler: &scaler, masked: false };
    let steps = walk
        .run(&bench.problem.floor(), |slot, _, mask| {
            let choices = bench.problem.slots()[slot].choices.len();
            assert_eq!(mask.iter().filter(|&&allowed| allowed).count(), choices);
            Ok(mask.iter().rposition(|&allowed| allowed).unwrap())
        })
        .unwrap();
    assert_eq!(walk.choices(&steps), bench.problem.ceiling());
}

#[test]
fn actions_with_the_same_fallback_are_one() {
    // Rows of 288 are no whole super-blocks: Q3_K and IQ4_XS fall back to the same type.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.json");
    let json = r#"{"model_type":"llama","hidden_size":288,"intermediate_size":768,"num_hidden_layers":1,
        "num_attention_heads":6,"vocab_size":512,"rms_norm_eps":1e-5}"#;
    std::fs::write(&path, json).unwrap();
    let config = ramp_model::ModelConfig::from_file(&path).unwrap();
    let problem = Bench::problem(&config, 8.0);
    for (slot, options) in problem.slots().iter().enumerate() {
        let actions = problem.actions().types().len();
        let mut reached: Vec<usize> =
            (0..actions).filter_map(|action| choice_of(&problem, slot, action)).collect();
        reached.sort_unstable();
        let all: Vec<usize> = (0..options.choices.len()).collect();
        assert_eq!(reached, all, "{}", options.id);
    }
}

#[test]
fn a_fixed_type_is_the_first_action_and_the_only_one() {
    let bench = Bench::nano();
    let table = bench.features().wide().unwrap();
    let scaler = WideScaler::fit(&table);
    // One type of the action set, and one that no action stands for.
    let fixed = Fixed { token_embd: Some(GgmlType::Q8_0), output: Some(GgmlType::Q5_K) };
    let (config, budget) = (bench.model.config(), Budget::BitsPerWeight(5.0));
    let problem =
        Problem::with_fixed(config, &Metadata::new(), &ActionSet::default(), fixed, budget).unwrap();
    let walk = WideWalk { problem: &problem, features: &table, scaler: &scaler, masked: true };
    let steps = walk
        .run(&problem.floor(), |slot, _, mask| {
            let allowed: Vec<usize> = (0..mask.len()).filter(|&action| mask[action]).collect();
            match problem.slots()[slot].id {
                LayerId::TokenEmbd => assert_eq!(allowed, [0]),
                LayerId::Output => assert_eq!(allowed, [3], "Q5_K is the fourth of the set"),
                LayerId::Block { .. } => {}
            }
            Ok(allowed[0])
        })
        .unwrap();
    assert_eq!(walk.choices(&steps), problem.floor());
    assert_eq!(walk.replay(&problem.floor()).unwrap(), steps);
    assert!(problem.fallbacks(problem.actions()).is_empty(), "a fixed type is no fallback");
}
