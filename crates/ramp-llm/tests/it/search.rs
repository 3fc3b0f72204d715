//! `ramp search`.

use std::fs;

use serde_json::Value;

use crate::fixture::{Fixture, nano, ramp, refuse, succeed};

const SMALL: [&str; 12] = [
    "--ctx",
    "64",
    "--calibration-tokens",
    "1024",
    "--search-tokens",
    "256",
    "--selection-tokens",
    "256",
    "--report-tokens",
    "256",
    "--rounding",
    "nearest",
];

/// `ramp search` on the nano model and few tokens.
fn search(fixture: &Fixture, args: &[&str]) -> assert_cmd::Command {
    let mut command = ramp();
    command.arg("search").arg(fixture.model()).arg("--text").arg(fixture.text()).args(SMALL).args(args);
    command
}

fn json(command: &mut assert_cmd::Command, fixture: &Fixture) -> (Value, String) {
    let path = fixture.path("report.json");
    let table = succeed(command.arg("--json").arg(&path));
    (serde_json::from_slice(&fs::read(path).unwrap()).unwrap(), table)
}

/// A run without what a clock says.
fn timeless(run: &Value) -> Value {
    let mut run = run.clone();
    run["seconds"] = Value::Null;
    run["found"]["ledger"]["seconds"] = Value::Null;
    run
}

#[test]
fn searches_are_compared_at_equal_bytes() {
    let fixture = Fixture::new();
    let allocators = "uniform,mix,proxy,knapsack,polish,random";
    let args = ["--allocators", allocators, "--budgets", "3.8,4.5", "--seeds", "2", "--tokens", "8000"];
    let (report, table) = json(&mut search(&fixture, &args), &fixture);
    for part in [
        "knapsack",
        "KL report",
        "4.5 bits per weight: selection takes ",
        "Possible budgets: 3.4375 to 6.5625",
    ] {
        assert!(table.contains(part), "`{part}` is not in:\n{table}");
    }
    let runs = report["runs"].as_array().unwrap();
    // The seed decides in one of six.
    assert_eq!(runs.len(), 2 * (5 + 2));
    for run in runs {
        let found = &run["found"];
        let limit = run["budget"]["bits_per_weight"].as_f64().unwrap();
        assert!(found["bits_per_weight"].as_f64().unwrap() <= limit, "{run}");
        assert!(found["ledger"]["tokens"].as_u64().unwrap() <= 8000, "{run}");
        let trace = found["trace"].as_array().unwrap();
        assert_eq!(trace.last().unwrap()["kld"], found["search"]["kld"]);
    }
    let kld = |budget: usize, name: &str| {
        let searches = report["budgets"][budget]["searches"].as_array().unwrap();
        let search = searches.iter().find(|search| search["allocator"] == name).unwrap();
        search["search_kld"]["mean"].as_f64().unwrap()
    };
    for budget in [0, 1] {
        assert!(kld(budget, "polish") <= kld(budget, "knapsack"));
        assert!(kld(budget, "knapsack") < kld(budget, "uniform"));
        assert!(kld(budget, "knapsack") < kld(budget, "random"));
        let best = &report["budgets"][budget]["selected"];
        let least = runs.iter().filter(|run| run["budget"] == report["budgets"][budget]["budget"]);
        let least = least.map(|run| run["found"]["selection"]["kld"].as_f64().unwrap());
        assert_eq!(best["selection_kld"].as_f64().unwrap(), least.fold(f64::INFINITY, f64::min));
    }
    // Both budgets and both searches share the sensitivities, which each pays for.
    let certificate = |run: &&Value| run["found"]["certificate"].is_object();
    assert_eq!(runs.iter().filter(certificate).count(), 4);
    assert_eq!(report["reward_on_test_text"], false);
}

#[test]
fn a_log_is_gone_on_with() {
    let fixture = Fixture::new();
    let log = fixture.path("log.jsonl");
    let with_log = |args: &[&str]| {
        let mut command = search(&fixture, args);
        command.arg("--log").arg(&log);
        command
    };
    succeed(&mut with_log(&["--allocators", "uniform,random", "--budgets", "4.5", "--tokens", "2000"]));
    let more =
        ["--allocators", "uniform,knapsack,random", "--budgets", "4.5", "--tokens", "2000", "--seeds", "2"];
    let (resumed, table) = json(&mut with_log(&more), &fixture);
    assert!(table.contains("2 runs were in the log"), "{table}");
    assert_eq!(resumed["resumed"], 2);
    let (whole, _) = json(&mut search(&fixture, &more), &fixture);
    let runs = |report: &Value| {
        let mut runs: Vec<String> =
            report["runs"].as_array().unwrap().iter().map(|run| timeless(run).to_string()).collect();
        runs.sort();
        runs
    };
    assert_eq!(runs(&resumed), runs(&whole));
    assert_eq!(fs::read_to_string(&log).unwrap().lines().count(), 1 + 4);

    // What the runs were not made with is refused, and the log stays.
    let kept = fs::read(&log).unwrap();
    refuse(
        &mut with_log(&["--tokens", "3000"]),
        &["log.jsonl", "another search", "`tokens` is 2000 there and 3000"],
    );
    refuse(&mut with_log(&["--tokens", "2000", "--types", "Q3_K,Q6_K"]), &["log.jsonl", "`types`"]);
    fixture.edit_json("config.json", |config| config["rms_norm_eps"] = 1e-6.into());
    refuse(&mut with_log(&["--tokens", "2000"]), &["log.jsonl", "another search", "`model`"]);
    assert_eq!(fs::read(&log).unwrap(), kept);
    fs::write(&log, "{}\n").unwrap();
    refuse(&mut with_log(&[]), &["log.jsonl", "not the log of a search: line 1"]);
    fs::write(&log, "").unwrap();
    refuse(&mut with_log(&[]), &["log.jsonl", "is empty"]);
}

#[test]
fn an_impossible_budget_names_floor_and_ceiling() {
    let fixture = Fixture::new();
    refuse(
        &mut search(&fixture, &["--budgets", "4.5,2.0"]),
        &["2 bits per weight is below the floor", "3.4375 bits per weight", "6.5625 bits per weight"],
    );
    refuse(
        &mut search(&fixture, &["--budgets", "1kB"]),
        &["1000 bytes is below the floor", "the largest has"],
    );
    refuse(&mut search(&fixture, &["--budgets", "1GB"]), &["above the ceiling", "the smallest needs"]);
    refuse(&mut search(&fixture, &["--budgets", "4.5,4.5"]), &["--budgets names 4.5 bits per weight twice"]);
    refuse(&mut search(&fixture, &["--allocators", "mix,mix"]), &["--allocators names mix twice"]);
    assert_eq!(fixture.listing(), ["model", "text"]);
}

#[test]
fn the_test_text_is_no_reward_unless_it_is_said() {
    let fixture = Fixture::new();
    let test = fixture.path("test");
    let text = fs::read_to_string(nano().join("sample.txt")).unwrap();
    let start = text.ceil_char_boundary(20_000);
    let end = text.floor_char_boundary(40_000);
    fs::write(&test, &text[start..end]).unwrap();
    // The same text under another name is the same text.
    let copy = fixture.path("copy");
    fs::copy(&test, &copy).unwrap();
    let report = ["--report-text", test.to_str().unwrap()];
    let on_copy = |option: &str| {
        let mut command = search(&fixture, &["--allocators", "uniform"]);
        command.args(report).arg(option).arg(&copy);
        command
    };
    refuse(
        &mut on_copy("--search-text"),
        &["copy", "is the test text and the search text", "--reward-on-test-text"],
    );
    refuse(&mut on_copy("--selection-text"), &["copy", "is the test text and the selection text"]);

    let allocators = ["--allocators", "uniform,knapsack"];
    let (honest, table) = json(search(&fixture, &allocators).args(report), &fixture);
    assert!(!table.contains("no test"), "{table}");
    let (marked, table) =
        json(search(&fixture, &allocators).args(report).arg("--reward-on-test-text"), &fixture);
    assert!(table.contains("warning: the search was rewarded on the test windows"), "{table}");
    assert_eq!(marked["reward_on_test_text"], true);
    let texts = |report: &Value| report["header"]["texts"].clone();
    assert_eq!(texts(&marked)[1], texts(&marked)[3]);
    assert_ne!(texts(&honest)[1], texts(&honest)[3]);
    // The scores while searching are those of the report then.
    let found = &marked["runs"][0]["found"];
    let (search, report) = (found["search"]["perplexity"].as_f64(), found["report"]["perplexity"].as_f64());
    assert!((search.unwrap() / report.unwrap() - 1.0).abs() < 1e-5, "{found}");
}

#[test]
fn agents_have_as_many_episodes_as_are_asked_for() {
    let fixture = Fixture::new();
    let args = ["--allocators", "sac,sac-wide,discrete", "--episodes", "3", "--seeds", "2"];
    let (report, table) = json(&mut search(&fixture, &args), &fixture);
    assert!(table.contains("sac-wide: the policy's own allocation has KL "), "{table}");
    let runs = report["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 3 * 2);
    let kld = |run: &Value, what: &str| run["found"][what]["kld"].as_f64().unwrap();
    assert!(runs.iter().all(|run| kld(run, "search") <= kld(run, "policy")), "{report}");
    assert!(runs.iter().all(|run| run["found"]["curve"].as_array().unwrap().len() == 3), "{report}");
    assert_eq!(report["header"]["episodes"], 3);
}

#[test]
fn the_papers_codec_and_order_can_be_searched_with() {
    let fixture = Fixture::new();
    let args = ["--allocators", "knapsack,sac-wide", "--episodes", "2"];
    let (usual, table) = json(&mut search(&fixture, &args), &fixture);
    assert!(!table.contains("other weights"), "{table}");
    let paper = [&args[..], &["--search-codec", "affine128", "--features", "original"]].concat();
    let (paper, table) = json(&mut search(&fixture, &paper), &fixture);
    assert!(table.contains("warning: the search evaluated other weights than a file has"), "{table}");
    assert_eq!(
        (&paper["header"]["search_codec"], &paper["header"]["features"]),
        (&"affine128".into(), &"original".into())
    );
    let found = |report: &Value, part: &str| report["runs"][0]["found"][part].clone();
    // Other weights give other scores to the search, and what is found is held to the same bytes.
    assert_ne!(found(&usual, "search"), found(&paper, "search"));
    let bytes = |report: &Value| found(report, "file_bytes").as_u64().unwrap();
    assert!((bytes(&usual) as f64 / bytes(&paper) as f64 - 1.0).abs() < 0.01);
    if found(&usual, "allocation") == found(&paper, "allocation") {
        assert_eq!(found(&usual, "report"), found(&paper, "report"), "both are measured as a file");
    }
}

#[test]
fn parts_of_one_text_are_different_windows() {
    let fixture = Fixture::new();
    let (report, _) = json(&mut search(&fixture, &["--allocators", "uniform"]), &fixture);
    let texts: Vec<&str> =
        report["header"]["texts"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
    for (at, text) in texts.iter().enumerate() {
        assert!(!texts[..at].contains(text), "{texts:?}");
    }
    fs::write(fixture.text(), "too short").unwrap();
    refuse(&mut search(&fixture, &[]), &["text", "windows of 64"]);
}

#[test]
fn markdown_and_fixed_types() {
    let fixture = Fixture::new();
    let args = ["--allocators", "uniform", "--budgets", "5.0", "--token-embd-type", "Q8_0", "--markdown"];
    let (report, table) = json(&mut search(&fixture, &args), &fixture);
    assert!(table.starts_with("| budget | allocator |"), "{table}");
    assert_eq!(report["runs"][0]["found"]["allocation"]["token_embd.weight"], "Q8_0");
    // Neither a budget for the paper's unit nor one that no file can have.
    refuse(&mut search(&fixture, &["--output-type", "IQ2_XS"]), &["IQ2_XS has no encoder"]);
}
