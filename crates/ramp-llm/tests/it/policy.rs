//! `ramp train`, `ramp transfer` and `ramp quantize --policy`.

use std::{fs, path::Path};

use assert_cmd::Command;
use ramp::search::{Policy, PolicyKind, TrainingLog};
use serde_json::Value;

use crate::fixture::{Fixture, SMALL, ramp, refuse, succeed};

/// A command on the fixture's model and text, with little of everything.
fn study(fixture: &Fixture, command: &[&Path], args: &[&str]) -> Command {
    let mut run = ramp();
    run.args(command)
        .arg("--text")
        .arg(fixture.text())
        .args(SMALL)
        .args(["--rounding", "nearest"])
        .args(args);
    run
}

fn train(fixture: &Fixture, policy: &str, args: &[&str]) -> Command {
    let (model, output) = (fixture.model(), fixture.path(policy));
    study(fixture, &[Path::new("train"), &model, Path::new("-o"), &output], args)
}

#[test]
fn a_regressor_is_trained_transferred_and_used() {
    let fixture = Fixture::new();
    let summary = succeed(&mut train(&fixture, "policy", &["--agent", "regressor", "--budgets", "3.8,4.5"]));
    assert!(summary.contains("regressor policy") && summary.contains("4.5"), "{summary}");
    assert_eq!(fixture.listing(), ["model", "policy", "text"], "no checkpoint is left");
    let policy = fixture.path("policy");
    assert_eq!(Policy::load(&policy).unwrap().kind(), PolicyKind::Regressor);

    let used = ["--rounding", "nearest", "--bpw", "4.1", "--policy", policy.to_str().unwrap()];
    let summary = succeed(&mut fixture.quantize(&used));
    assert!(summary.contains("policy trained on model"), "{summary}");

    let json = fixture.path("transfer.json");
    let model = fixture.model();
    let command = [Path::new("transfer"), &policy, &model, Path::new("--source"), &model];
    let small =
        ["--random", "3", "--shuffles", "1", "--bpw", "4.1", "--markdown", "--json", json.to_str().unwrap()];
    let text = succeed(&mut study(&fixture, &command, &small));
    for part in ["| transfer regret |", "knapsack on measurements", "lookup table", "random", "Spearman"] {
        assert!(text.contains(part), "`{part}` is not in:\n{text}");
    }
    let report: Value = serde_json::from_slice(&fs::read(json).unwrap()).unwrap();
    let target = &report["targets"][0];
    let rows = &target["budgets"][0]["rows"];
    assert_eq!((rows.as_array().unwrap().len(), &rows[1]["regret"]), (7, &1.0.into()));
    assert!(target["zero_shot_seconds"].as_f64().unwrap() > 0.0);
    refuse(&mut study(&fixture, &command, &["--types", "Q4_K,Q6_K"]), &["--types does not go with a policy"]);
}

#[test]
fn agents_are_trained_with_a_log() {
    let fixture = Fixture::new();
    let log = fixture.path("log.json");
    let args =
        ["--agent", "discrete", "--episodes", "3", "--budgets", "3.8,4.5", "--log", log.to_str().unwrap()];
    let summary = succeed(&mut train(&fixture, "policy", &args));
    assert!(summary.contains("categorical policy"), "{summary}");
    let logs: Vec<TrainingLog> = serde_json::from_slice(&fs::read(&log).unwrap()).unwrap();
    assert_eq!(logs.iter().map(|log| log.episodes.len()).collect::<Vec<_>>(), [2, 1]);
    assert!(logs.iter().all(|log| log.failed_episodes() == 0 && !log.found.is_empty()));
    let policy = fixture.path("policy");
    succeed(&mut fixture.quantize(&["--rounding", "nearest", "--policy", policy.to_str().unwrap()]));
}

#[test]
fn seeds_and_budgets_are_transferred_in_one_run() {
    let fixture = Fixture::new();
    let agent = ["--agent", "sac", "--episodes", "1", "--budgets", "4.0,4.5"];
    for seed in ["0", "1"] {
        succeed(&mut train(&fixture, &format!("sac{seed}"), &[&agent[..], &["--seed", seed]].concat()));
    }
    succeed(&mut train(&fixture, "regressor", &[]));
    let (json, model) = (fixture.path("transfer.json"), fixture.model());
    let policies = ["sac0", "sac1", "regressor"].map(|name| fixture.path(name));
    let command = [
        Path::new("transfer"),
        &policies[0],
        &model,
        Path::new("--source"),
        &model,
        Path::new("--also"),
        &policies[1],
        &policies[2],
    ];
    let small = ["--random", "2", "--shuffles", "1", "--bpw", "3.9,4.4", "--json", json.to_str().unwrap()];
    let text = succeed(&mut study(&fixture, &command, &small));
    let rows: Vec<&str> = text.lines().filter(|line| line.contains("bits per weight  ")).collect();
    // Two groups, uniform, table, two knapsacks, the regressor shuffled, random, the agents shuffled; twice.
    assert_eq!(rows.len(), 2 * 9, "{text}");
    assert!(rows[0].contains("continuous policies of model") && rows[0].contains(" ± "), "{text}");
    assert!(rows[1].contains("  regressor  ") && !rows[1].contains(" ± "), "{text}");
    assert!(rows[8].contains("continuous policies of model, features shuffled"), "{text}");
    assert!(text.contains("over policies that differ in their seed"), "{text}");
    let report: Value = serde_json::from_slice(&fs::read(json).unwrap()).unwrap();
    let budgets = report["targets"][0]["budgets"].as_array().unwrap();
    assert_eq!(budgets.len(), 2);
    for budget in budgets {
        assert_eq!(budget["rows"].as_array().unwrap().len(), 3 + 4 + 3 + 1);
        assert_eq!(budget["groups"][0]["members"], serde_json::json!([0, 1]));
        assert_eq!((&budget["rows"][3]["regret"], &budget["rows"][6]["regret"]), (&1.0.into(), &0.0.into()));
    }
    assert_ne!(budgets[0]["rows"][3]["bytes"], budgets[1]["rows"][3]["bytes"]);
}

#[test]
fn what_cannot_be_trained_is_said() {
    let fixture = Fixture::new();
    let with = |args: &[&str]| train(&fixture, "policy", args);
    refuse(&mut with(&["--agent", "regressor", "--episodes", "3"]), &["--agent regressor has no episodes"]);
    refuse(&mut with(&["--budgets", "1.0"]), &["below the floor", "3.4375 bits per weight"]);
    refuse(&mut with(&["--budgets", "9"]), &["above the ceiling"]);
    let twice = fixture.path("policy");
    refuse(&mut with(&["--json", twice.to_str().unwrap()]), &["is named by two outputs"]);
    let text = fixture.text();
    let log = ["--agent", "discrete", "--log", text.to_str().unwrap()];
    refuse(&mut with(&log), &["is an input, too"]);
    // A damaged checkpoint is not overwritten but named.
    fs::write(fixture.path("policy.partial"), "{").unwrap();
    let discrete = ["--agent", "discrete", "--episodes", "2"];
    refuse(&mut with(&discrete), &["policy.partial", "not a usable training log"]);
    succeed(&mut with(&[&discrete[..], &["--restart"]].concat()));
    fs::write(fixture.path("text2"), "no policy").unwrap();
    let path = fixture.path("text2");
    refuse(&mut fixture.quantize(&["--policy", path.to_str().unwrap()]), &["not a usable policy"]);
}
