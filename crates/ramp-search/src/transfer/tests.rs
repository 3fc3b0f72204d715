//! Controls of a transfer on a small model.

use ramp_embed::WideScaler;

use super::*;
use crate::{MeasuredModel, Normalisation, Provenance, Regressor, test_bench::Bench};

fn policy(bench: &Bench, sensitivity: &Sensitivity) -> Policy {
    let table = bench.features().wide().unwrap();
    let scaler = WideScaler::fit(&table);
    let measured = MeasuredModel { problem: &bench.problem, table: &table, scaler: &scaler, sensitivity };
    let provenance = Provenance {
        model: "elsewhere".into(),
        budget: String::new(),
        mode: crate::Mode::Sound,
        seed: 0,
        episodes: 0,
        tokens: 0,
        kld: 0.0,
    };
    let regressor = Regressor::fit(&[measured]).unwrap();
    Policy::regressor(regressor, Normalisation::PerModel, scaler, bench.problem.actions(), provenance)
}

#[test]
fn regret_is_0_for_the_knapsack_and_1_for_uniform() {
    let bench = Bench::nano();
    let features = bench.features();
    let mut context = bench.context(&features);
    let mut judge = bench.evaluator();
    let sensitivity = context.sensitivity(&mut |_| true).unwrap();
    let policy = policy(bench, &sensitivity);
    let lookup = LookupTable::new(&bench.problem, &knapsack(&bench.problem, &sensitivity));
    let options = TransferOptions { random: 3, shuffles: 2, seed: 4 };
    let mut run = |options: &TransferOptions| {
        transfer(
            &[("policy".into(), &policy)],
            "nano",
            &lookup,
            &mut context,
            &mut judge,
            options,
            &mut |_| true,
        )
        .unwrap()
    };
    let result = run(&options);
    let names: Vec<&str> = result.rows.iter().map(|row| row.name.as_str()).collect();
    let expected = [
        "policy",
        "uniform",
        "lookup table of the source",
        "knapsack on errors",
        "knapsack on measurements",
        "policy, features shuffled",
        "random",
    ];
    assert_eq!(names, expected);
    assert_eq!((result.rows[1].regret, result.rows[4].regret), (1.0, 0.0));
    assert_eq!((result.rows[5].count, result.rows[6].count), (2, 3));
    assert!(result.rows[6].kld_sd > 0.0 && result.rows[0].kld_sd == 0.0);
    let capacity = bench.problem.file_bytes(&bench.problem.floor()) as f64
        + (bench.problem.capacity() - bench.problem.cost(&bench.problem.floor())) as f64;
    for row in &result.rows {
        assert!(row.bytes <= capacity && row.bytes > 0.99 * capacity, "{}: {}", row.name, row.bytes);
    }
    // What was fitted to this model ranks its layers as they were measured.
    assert!(result.rank_correlations[0].unwrap() > 0.8, "{:?}", result.rank_correlations);
    assert_eq!((result.model.as_str(), result.sources[0].as_str()), ("nano", "elsewhere"));
    assert_eq!(run(&options), result);
    assert_ne!(run(&TransferOptions { seed: 5, ..options }).rows[6], result.rows[6]);
}

#[test]
fn a_lookup_table_gives_a_model_its_own_allocation_back() {
    let bench = Bench::nano();
    // Four blocks: every layer has a cell of its own.
    let source = uniform(&bench.problem);
    let lookup = LookupTable::new(&bench.problem, &source);
    for (slot, &choice) in bench.problem.slots().iter().zip(&source) {
        let bits = slot.choices[choice].format.bits_per_weight();
        assert_eq!(lookup.bits(&bench.problem, slot), bits, "{}", slot.id);
    }
    let back = lookup.allocate(&bench.problem);
    assert!(bench.problem.fits(&back));
    let same = back.iter().zip(&source).filter(|(a, b)| a == b).count();
    assert!(same * 10 >= source.len() * 8, "{same} of {}", source.len());
    assert!(bench.at(5.5).fits(&lookup.allocate(&bench.at(5.5))));
}

#[test]
fn shuffles_stay_within_roles() {
    let bench = Bench::nano();
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let order = shuffle_within_roles(&bench.problem, &mut rng);
    let slots = bench.problem.slots();
    assert!(order.iter().enumerate().any(|(slot, &other)| slot != other));
    assert!(order.iter().enumerate().all(|(a, &b)| role_name(slots[a].id) == role_name(slots[b].id)));
    let mut sorted = order;
    sorted.sort_unstable();
    assert_eq!(sorted, (0..slots.len()).collect::<Vec<_>>());
}
