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

/// A task folder with one item of PIQA and of ARC.
fn task_folder(fixture: &Fixture) -> std::path::PathBuf {
    let folder = fixture.path("tasks");
    fs::create_dir_all(folder.join("piqa")).unwrap();
    fs::create_dir_all(folder.join("arc")).unwrap();
    let piqa = r#"{"goal":"sleep","sol1":"go to bed","sol2":"eat the moon"}"#;
    fs::write(folder.join("piqa/valid.jsonl"), format!("{piqa}\n{piqa}\n{piqa}\n")).unwrap();
    fs::write(folder.join("piqa/valid-labels.lst"), "0\n1\n0\n").unwrap();
    let arc = r#"{"id":"a","question":{"stem":"What falls?","choices":[{"text":"rain","label":"A"},{"text":"up","label":"B"},{"text":"the sky","label":"C"}]},"answerKey":"A"}"#;
    fs::write(folder.join("arc/ARC-Easy-Test.jsonl"), format!("{arc}\n{arc}\n")).unwrap();
    folder
}

#[test]
fn eval_of_tasks_and_several_models() {
    let (fixture, ..) = quantized();
    let own = Fixture::new();
    let tasks = task_folder(&own);
    let samples = own.path("samples.jsonl");
    let eval = |models: &[std::path::PathBuf], args: &[&str]| {
        let mut command = ramp();
        command.arg("eval").args(models).arg("--tasks").arg("piqa,arc_easy").arg("--task-dir").arg(&tasks);
        command.args(args);
        command
    };
    let one = json(&mut eval(&[fixture.model()], &["--json", "--samples", samples.to_str().unwrap()]));
    let results = one["tasks"].as_array().unwrap();
    assert_eq!((&results[0]["task"], &results[0]["items"]), (&"piqa".into(), &3.into()));
    // One question three times with the answers 0, 1, 0: one or two are right.
    let acc = results[0]["acc"].as_f64().unwrap();
    assert!((acc - 1.0 / 3.0).abs() < 1e-9 || (acc - 2.0 / 3.0).abs() < 1e-9, "{acc}");
    assert!((results[0]["acc_se"].as_f64().unwrap() - (2.0f64 / 9.0 / 2.0).sqrt()).abs() < 1e-9);
    assert!(one.get("perplexity").is_none() && results[0].get("base_acc").is_none(), "{one}");
    let lines: Vec<Value> = fs::read_to_string(&samples)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 5);
    assert_eq!(
        (&lines[1]["item"], &lines[1]["gold"], &lines[4]["task"]),
        (&1.into(), &1.into(), &"arc_easy".into())
    );
    assert_eq!(lines[0]["log_likelihoods"], lines[2]["log_likelihoods"]);
    assert_eq!(lines[0]["lengths"], serde_json::json!([9, 12]));
    let limited = json(&mut eval(&[fixture.model()], &["--json", "--limit", "1"]));
    assert_eq!((&limited["tasks"][0]["items"], &limited["tasks"][1]["items"]), (&1.into(), &1.into()));

    let text = fixture.text();
    let text = ["--text", text.to_str().unwrap(), "--ctx", "64", "--chunks", "3"];
    let models = [fixture.model(), fixture.out()];
    let both = json(&mut eval(&models, &[&text[..], &["--json"]].concat()));
    let (base, file) = (&both[0], &both[1]);
    assert!(base.get("kld").is_none() && base["tasks"][0].get("against_base").is_none());
    assert_eq!(file["base_perplexity"], base["perplexity"]);
    assert!(file["kld"].as_f64().unwrap() > 0.0 && file["test"]["p_value"].is_number(), "{file}");
    assert_eq!(file["kld_quantiles"]["points"].as_array().unwrap().len(), 11);
    assert_eq!(file["tasks"][0]["base_acc"], base["tasks"][0]["acc"]);
    assert!(file["tasks"][1]["against_base"]["p_value"].is_number());
    let table = succeed(&mut eval(&models, &text));
    let markdown = succeed(&mut eval(&models, &[&text[..], &["--markdown"]].concat()));
    for part in ["perplexity", "KL divergence", "piqa acc %", "arc_easy acc %", "retained %", "out.gguf"] {
        assert!(table.contains(part) && markdown.contains(part), "`{part}` is not in:\n{table}\n{markdown}");
    }
    assert_eq!(markdown.lines().filter(|line| line.starts_with('|')).count(), 4);
}

#[test]
fn eval_strided_and_per_byte() {
    let fixture = Fixture::new();
    let text =
        " = Title = \n\n The cat sat . \n The dog , too , sat . \n = Other = \n\n A man went home . \n";
    fs::write(fixture.text(), text).unwrap();
    let eval = |args: &[&str]| {
        let mut command = ramp();
        command.arg("eval").arg(nano()).arg("--text").arg(fixture.text()).args(args);
        command
    };
    let found = json(&mut eval(&["--protocol", "lm-eval", "--json"]));
    // The line end between two pages belongs to neither.
    let bytes = text.len() - 1;
    assert_eq!((&found["bytes"], &found["windows"]), (&bytes.into(), &2.into()));
    let number = |key: &str| found[key].as_f64().unwrap();
    let total = number("mean_nll") * number("tokens");
    assert!((number("bits_per_byte") - total / bytes as f64 / 2f64.ln()).abs() < 1e-9, "{found}");
    assert!((number("word_perplexity").ln() - total / number("words")).abs() < 1e-9);
    let strided = json(&mut eval(&["--protocol", "strided", "--ctx", "16", "--stride", "4", "--json"]));
    let whole = json(&mut eval(&["--protocol", "strided", "--ctx", "1024", "--json"]));
    assert_eq!((&strided["stride"], &whole["windows"]), (&4.into(), &1.into()));
    assert_eq!(strided["tokens"], whole["tokens"]);
    refuse(
        &mut eval(&["--protocol", "strided", "--ctx", "16", "--stride", "17"]),
        &["/text: a stride of 17"],
    );
    refuse(&mut eval(&["--stride", "8"]), &["--stride needs --protocol strided"]);
    refuse(&mut eval(&["--protocol", "lm-eval", "--chunks", "1"]), &["--chunks does not go with"]);
}

#[test]
fn eval_refuses_broken_tasks() {
    let fixture = Fixture::new();
    let tasks = task_folder(&fixture);
    let eval = |list: &str| {
        let mut command = ramp();
        command.arg("eval").arg(nano()).args(["--tasks", list]).arg("--task-dir").arg(&tasks);
        command
    };
    refuse(&mut eval("winogrande"), &["/tasks: no file of winogrande (tried winogrande/dev.jsonl"]);
    refuse(&mut eval("piqa,piqa"), &["--tasks names piqa twice"]);
    fs::write(tasks.join("piqa/valid-labels.lst"), "0\n1\n").unwrap();
    refuse(&mut eval("piqa"), &["valid-labels.lst: 2 labels for 3 rows of"]);
    fs::copy(tasks.join("arc/ARC-Easy-Test.jsonl"), tasks.join("piqa/valid.jsonl")).unwrap();
    refuse(&mut eval("piqa"), &["valid.jsonl: line 1: is a row of arc_easy, expected piqa"]);
    for args in [&["--tasks", "boolq", "--task-dir", "x"][..], &["--tasks", "piqa"], &[]] {
        let output = ramp().arg("eval").arg(nano()).args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}");
    }
}

#[test]
fn calibrate_writes_statistics_and_an_imatrix() {
    let fixture = Fixture::new();
    let (stats, imatrix) = (fixture.path("stats.safetensors"), fixture.path("imatrix.gguf"));
    let calibrate = |args: &[&str]| {
        let mut command = ramp();
        command.arg("calibrate").arg(nano()).arg("--text").arg(fixture.text()).arg("-o").arg(&stats);
        command.args(["--ctx", "64", "--chunks", "4"]).args(args);
        command
    };
    let found = json(&mut calibrate(&["--imatrix", imatrix.to_str().unwrap(), "--json"]));
    assert_eq!(
        (&found["windows"], &found["tokens"], &found["matrices"]),
        (&4.into(), &256.into(), &29.into())
    );
    let (read, header) = ramp::model::CalibrationStats::open(&stats).unwrap();
    assert_eq!((header.model.as_str(), header.chunks, header.chunk_size), ("nano", 4, 64));
    assert_eq!(header.datasets, ["text"]);
    let matrix = ramp::gguf::Imatrix::open(&imatrix).unwrap();
    assert_eq!((matrix.entries().len(), matrix.chunk_count, matrix.chunk_size), (28, 4, 64));
    for (id, stats) in read.iter() {
        assert_eq!(stats.count, 256);
        let Some(entry) = matrix.entries().get(&id.to_string()) else { continue };
        let same = entry.importance().iter().zip(stats.mean_sq()).all(|(a, b)| (a - b).abs() <= 1e-6 * b);
        assert!(same, "{id}");
    }
    let again = fs::read(&stats).unwrap();
    succeed(&mut calibrate(&[]));
    assert_eq!(fs::read(&stats).unwrap(), again);
    // The numbers of a batch are those of its windows.
    succeed(&mut calibrate(&["--batch", "3", "--save-every", "1"]));
    assert_eq!(fs::read(&stats).unwrap(), again);
    refuse(&mut calibrate(&["--imatrix", stats.to_str().unwrap()]), &["/stats.safetensors: is named by two"]);
    fs::write(fixture.text(), "Once upon a time").unwrap();
    refuse(&mut calibrate(&[]), &["/text: the text has ", "need at least 64"]);
}

#[test]
fn calibrate_goes_on_where_it_stopped() {
    let fixture = Fixture::new();
    let stats = fixture.path("stats.safetensors");
    let partial = fixture.path("stats.safetensors.partial");
    let calibrate = |chunks: &str, args: &[&str]| {
        let mut command = ramp();
        command.arg("calibrate").arg(nano()).arg("--text").arg(fixture.text()).arg("-o").arg(&stats);
        command.args(["--ctx", "64", "--chunks", chunks, "--json"]).args(args);
        command
    };
    succeed(&mut calibrate("4", &[]));
    let whole = fs::read(&stats).unwrap();
    fs::remove_file(&stats).unwrap();

    // What a run leaves that was killed after two windows.
    let text = fs::read_to_string(fixture.text()).unwrap();
    let files = ramp::model::ModelFiles::open(&nano()).unwrap();
    let model = files.load(&burn::tensor::Device::flex()).unwrap();
    let tokenizer = files.tokenizer().unwrap();
    let protocol = ramp::eval::Protocol {
        ctx: 64,
        bos: ramp::eval::Bos::ReplaceFirst,
        scored: ramp::eval::Scored::All,
        min_windows: 1,
        max_windows: Some(4),
    };
    let windows = protocol.windows(&tokenizer.encode_plain(&text).unwrap(), tokenizer.leading_bos()).unwrap();
    let tokens = windows.tokens();
    let mut pass = ramp::model::Calibration::new(&model, &tokens, ramp::model::Gather::default());
    let save = ramp::model::Save { path: &partial, every: 1 };
    pass.run(Some(save), |done| done < 128).unwrap_err();
    let killed = fs::read(&partial).unwrap();

    let found = json(&mut calibrate("4", &[]));
    assert_eq!((&found["resumed"], &found["windows"]), (&2.into(), &4.into()));
    assert!(fs::read(&stats).unwrap() == whole && !partial.exists());

    fs::write(&partial, &killed).unwrap();
    refuse(&mut calibrate("3", &[]), &[".partial: belongs to another calibration, windows: 4 windows"]);
    assert_eq!(fs::read(&partial).unwrap(), killed);
    let found = json(&mut calibrate("4", &["--restart"]));
    assert_eq!(found["resumed"], 0);
    assert!(fs::read(&stats).unwrap() == whole && !partial.exists());
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
