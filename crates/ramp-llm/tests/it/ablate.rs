//! `ramp ablate`.

use std::fs;

use serde_json::Value;

use crate::fixture::{Fixture, nano, ramp, refuse, succeed};

fn ablate(fixture: &Fixture) -> assert_cmd::Command {
    let mut command = ramp();
    command.args(["ablate", "folding"]).arg(nano()).arg("--text").arg(fixture.text());
    command.args(["--context", "128", "--protocol", "llama.cpp"]);
    command
}

#[test]
fn every_way_of_folding_is_measured_under_every_types() {
    let fixture = Fixture::new();
    let path = fixture.path("report.json");
    let table = succeed(ablate(&fixture).args(["--chunks", "3", "--json"]).arg(&path));
    for part in ["off", "as printed (max, 1/2)", "chosen, all four", "Q3_K_M mix", "mean exponent"] {
        assert!(table.contains(part), "`{part}` is not in:\n{table}");
    }
    let rows: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let rows = rows.as_array().unwrap();
    assert_eq!(rows.len(), 3 * 9);
    let kld = |at: usize| rows[at]["against_base"]["mean_kld"].as_f64().unwrap();
    // Q4_K loses less than Q3_K, however both are folded.
    assert!((0..9).all(|way| kld(9 + way) < kld(way)));
    assert!(rows[0]["config"].is_null() && rows[0]["against_off"].is_null());
    assert_eq!(rows[1]["mean_exponent"], 0.5);
    assert!((0..9).all(|way| (kld(way) - kld(0)).abs() < kld(0)), "folding keeps the function");
}

#[test]
fn a_text_that_is_its_own_calibration_is_refused() {
    let fixture = Fixture::new();
    let mut command = ablate(&fixture);
    refuse(command.arg("--calibration-text").arg(fixture.text()), &["--calibration-text is --text"]);
}
