//! Controls of a transfer on a small model.

use ramp_embed::WideScaler;

use super::*;
use crate::{MeasuredModel, Normalisation, Provenance, Regressor, test_bench::Bench};

fn policy(bench: &Bench, sensitivity: &Sensitivity) -> Policy {
    seeded(bench, sensitivity, 0)
}

fn seeded(bench: &Bench, sensitivity: &Sensitivity, seed: u64) -> Policy {
    let table = bench.features().wide().unwrap();
    let scaler = WideScaler::fit(&table);
    let measured = MeasuredModel { problem: &bench.problem, table: &table, scaler: &scaler, sensitivity };
    let provenance = Provenance {
        model: "elsewhere".into(),
        budget: String::new(),
        mode: crate::Mode::Sound,
        seed,
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
fn seeds_are_one_group_with_an_interval() {
    let bench = Bench::nano();
    let features = bench.features();
    let mut context = bench.context(&features);
    let mut judge = bench.evaluator();
    let sensitivity = context.sensitivity(&mut |_| true).unwrap();
    // The same training with another outcome: sensitivities as if everything was as important as everything else.
    let flat = bench
        .problem
        .slots()
        .iter()
        .map(|slot| (0..slot.choices.len()).map(|c| 0.3f64.powi(c as i32)).collect());
    let (first, second) =
        (seeded(bench, &sensitivity, 0), seeded(bench, &Sensitivity::from_costs(flat.collect()), 1));
    let alone = {
        let mut config = crate::WalkSearchConfig { episodes: 1, ..crate::WalkSearchConfig::discrete(0) };
        (config.cloning_steps, config.pretraining_updates) = (1, 1);
        let mut search = crate::Categorical::new(config, burn::tensor::Device::flex(), "elsewhere".into());
        let found = crate::Allocator::allocate(&mut search, &mut context, &mut |_| true).unwrap();
        found.policy.unwrap()
    };
    let policies = [("a".to_owned(), &first), ("b".to_owned(), &alone), ("c".to_owned(), &second)];
    let lookup = LookupTable::new(&bench.problem, &uniform(&bench.problem));
    let options = TransferOptions { random: 2, shuffles: 1, seed: 4 };
    let result =
        transfer(&policies, "nano", &lookup, &mut context, &mut judge, &options, &mut |_| true).unwrap();
    let [pair, single] = result.groups.as_slice() else { panic!("{:?}", result.groups) };
    assert_eq!((pair.name.as_str(), single.name.as_str()), ("regressor policies of elsewhere", "b"));
    assert_eq!((pair.members.as_slice(), single.members.as_slice()), (&[0, 2][..], &[1][..]));
    assert!((pair.regret.mean - f64::midpoint(result.rows[0].regret, result.rows[2].regret)).abs() < 1e-12);
    // Student's t of two values: 12.7 times their distance over two.
    let distance = (result.rows[0].kld - result.rows[2].kld).abs();
    assert!((pair.kld.half_width.unwrap() - 12.706 * distance / 2.0).abs() < 1e-3 * distance);
    assert_eq!((single.regret.mean, single.regret.half_width), (result.rows[1].regret, None));
    let shuffled = &result.rows[3 + 4..6 + 4];
    assert!(shuffled[1].name.starts_with("b, "), "{}", shuffled[1].name);
    assert_eq!(single.shuffled_regret.unwrap().mean, shuffled[1].regret);
    assert_eq!(pair.shuffled_regret.unwrap().n, 2);
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
