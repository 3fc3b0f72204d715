//! A planted law is found again.

use super::*;
use crate::{Features, test_bench::Bench};

#[test]
fn a_law_over_depth_and_error_is_recovered() {
    let bench = Bench::nano();
    let table = bench.features().wide().unwrap();
    let scaler = WideScaler::fit(&table);
    let problem = &bench.problem;
    let law = |slot: usize, choice: usize| {
        let depth = f64::from(table.raw(slot)[0]);
        (2.0 * depth + 1.2 * ln_error(problem, &table, slot, choice)).exp()
    };
    let rows = (0..problem.slots().len())
        .map(|slot| (0..problem.slots()[slot].choices.len()).map(|choice| law(slot, choice)).collect());
    let sensitivity = Sensitivity::from_costs(rows.collect());
    let measured = MeasuredModel { problem, table: &table, scaler: &scaler, sensitivity: &sensitivity };
    let regressor = Regressor::fit(&[measured, measured]).unwrap();
    let predicted = regressor.predict(problem, &table, &scaler).unwrap();
    // Up to a common factor.
    let ratio = |slot: usize, choice: usize| (predicted.get(slot, choice) / law(slot, choice)).ln();
    for slot in 0..problem.slots().len() {
        for choice in 0..problem.slots()[slot].choices.len() {
            let error = ratio(slot, choice) - ratio(0, 0);
            assert!(error.abs() < 0.05, "slot {slot}, choice {choice}: {error}");
        }
    }
    assert!((regressor.weights.last().unwrap() - 1.2).abs() < 0.02, "{:?}", regressor.weights.last());
    assert!(Regressor::fit(&[]).unwrap_err().to_string().contains("models is none"));
}

#[test]
fn the_solution_is_that_of_the_normal_equations() {
    let row = |x: [f64; 2], y: f64| Row { group: (0, None), x: x.to_vec(), y };
    let rows = [row([1.0, 0.0], 2.0), row([0.0, 2.0], 3.0), row([1.0, 1.0], -1.0)];
    let weights = solve(rows.iter(), 2, 0.5);
    // (X^T X + 0.5 I) w = X^T y + 0.5 (0, 1), by hand: [[2.5, 1], [1, 5.5]] w = [1, 5.5].
    let residual = [2.5 * weights[0] + weights[1] - 1.0, weights[0] + 5.5 * weights[1] - 5.5];
    assert!(residual.iter().all(|r| r.abs() < 1e-12), "{residual:?}");
}

#[test]
fn ranks_correlate_by_hand() {
    assert!((rank_correlation(&[1.0, 2.0, 3.0], &[10.0, 20.0, 90.0]).unwrap() - 1.0).abs() < 1e-12);
    assert!((rank_correlation(&[1.0, 2.0, 3.0], &[3.0, 2.0, 1.0]).unwrap() + 1.0).abs() < 1e-12);
    // Ties share their mean rank: 0, 1.5, 1.5 against 0, 1, 2.
    let tied = rank_correlation(&[1.0, 2.0, 2.0], &[1.0, 2.0, 3.0]).unwrap();
    assert!((tied - 1.5 / (1.5f64 * 2.0).sqrt()).abs() < 1e-12, "{tied}");
    assert_eq!(rank_correlation(&[1.0, 1.0], &[1.0, 2.0]), None);
}
