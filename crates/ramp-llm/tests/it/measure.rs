//! `ramp eval` and `ramp plan`.

use std::fs;

use serde_json::Value;

use crate::fixture::{Fixture, nano, quantized, ramp, refuse, succeed};

fn json(command: &mut assert_cmd::Command) -> Value {
    serde_json::from_str(&succeed(command)).unwrap()
}

#[test]
fn eval_of_a_folder() {
    let fixture = Fixture::new();
    let mut command = ramp();
    command.arg("eval").arg(nano()).arg("--text").arg(fixture.text()).args(["--ctx", "64", "--chunks", "6"]);
    let found = json(command.arg("--json"));
    assert_eq!(found["protocol"], "llama.cpp");
    assert_eq!((&found["ctx"], &found["windows"]), (&64.into(), &6.into()));
    // Half of each window but one token.
    assert_eq!(found["tokens"], 6 * 31);
    assert_eq!(found["model"], nano().to_str().unwrap());
    let perplexity = found["perplexity"].as_f64().unwrap();
    // The text was sampled from this very model; a model that knows nothing has 2048.
    assert!((2.0..60.0).contains(&perplexity), "{perplexity}");
    assert!(found["perplexity_se"].as_f64().unwrap() > 0.0);
    assert!(found.get("kld").is_none());
}

#[test]
fn eval_under_the_gptq_protocol() {
    let fixture = Fixture::new();
    let mut command = ramp();
    command.arg("eval").arg(nano()).arg("--text").arg(fixture.text()).args([
        "--protocol",
        "gptq",
        "--chunks",
        "1",
    ]);
    let found = json(command.arg("--json"));
    // 2048, but the model was trained on 1024.
    assert_eq!((&found["protocol"], &found["ctx"]), (&"gptq".into(), &1024.into()));
    assert_eq!(found["tokens"], 1023);
}

#[test]
fn eval_against_a_base() {
    let (fixture, ..) = quantized();
    let eval = |model, args: &[&str]| {
        let mut command = ramp();
        command.arg("eval").arg(model).arg("--text").arg(fixture.text()).arg("--base").arg(fixture.model());
        command.args(["--ctx", "64", "--chunks", "4"]).args(args);
        command
    };
    let found = json(&mut eval(fixture.out(), &["--json"]));
    let number = |key: &str| found[key].as_f64().unwrap();
    assert!(number("kld") > 1e-4 && number("kld_se") > 0.0 && number("max_kld") > number("kld"), "{found}");
    assert!((0.5..1.0).contains(&number("same_top1")), "{found}");
    let ratio = (number("perplexity") / number("base_perplexity")).ln();
    assert!((ratio - number("ln_ppl_ratio")).abs() < 1e-9, "{found}");

    let same = json(&mut eval(fixture.model(), &["--json"]));
    // Nothing but rounding of f32 sums over the vocabulary.
    assert!(same["kld"].as_f64().unwrap().abs() < 1e-5, "{same}");
    assert_eq!((&same["same_top1"], &same["ln_ppl_ratio"]), (&1.0.into(), &0.0.into()));

    let table = succeed(&mut eval(fixture.out(), &[]));
    for part in ["perplexity", "KL divergence", "same top 1", "4 windows of 64 tokens"] {
        assert!(table.contains(part), "`{part}` is not in:\n{table}");
    }
}

#[test]
fn eval_refuses_short_texts() {
    let fixture = Fixture::new();
    fs::write(fixture.text(), "Once upon a time").unwrap();
    let mut command = ramp();
    command.arg("eval").arg(nano()).arg("--text").arg(fixture.text());
    refuse(&mut command, &["/text: the text has ", "windows of 512 tokens need at least 1024"]);
    fs::write(fixture.text(), " \n").unwrap();
    refuse(&mut command, &["/text: is empty"]);
}

#[test]
fn plan_needs_no_weights_and_is_exact() {
    let (done, report, _) = quantized();
    let fixture = Fixture::new();
    fs::remove_file(fixture.model().join("model.safetensors")).unwrap();
    let plan = |args: &[&str]| {
        let mut command = ramp();
        command.arg("plan").arg(fixture.model()).args(args);
        command
    };
    let found = json(&mut plan(&["--bpw", "4.5", "--allocator", "uniform", "--json"]));
    // To the byte what the run wrote.
    assert_eq!(found["uniform"]["file_bytes"], report["file_bytes"]);
    assert_eq!(found["uniform"]["file_bytes"], fs::metadata(done.out()).unwrap().len());
    assert!(found["seconds"]["total"].as_f64().unwrap() > 0.0);
    assert!(found["memory"]["total"].as_u64().unwrap() > found["memory"]["bank"].as_u64().unwrap());

    let table = succeed(&mut plan(&[]));
    for part in ["Q3_K", "F16", "floor of the budget", "ceiling of the budget", "weight bank", "estimates"] {
        assert!(table.contains(part), "`{part}` is not in:\n{table}");
    }
    refuse(&mut plan(&["--bpw", "2"]), &["below the floor", "3.4375"]);
    fs::remove_file(fixture.model().join("tokenizer.json")).unwrap();
    refuse(&mut plan(&[]), &["tokenizer.json"]);
}
