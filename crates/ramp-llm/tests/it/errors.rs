//! Bad input: one line that names the file and the value, status 2, nothing left behind.

use std::fs;

use serde_json::{Value, json};

use crate::fixture::{Fixture, ramp, refuse};

/// Runs `ramp quantize` on a damaged fixture and looks at what it left.
#[track_caller]
fn refuse_quantize(fixture: &Fixture, args: &[&str], parts: &[&str]) {
    let before = fixture.listing();
    refuse(&mut fixture.quantize(args), parts);
    assert_eq!(fixture.listing(), before);
}

/// Turns the model into two shards with an index; the second has `lm_head.weight` and is not written.
fn shard(fixture: &Fixture) {
    let model = fixture.model();
    let mut names = Vec::new();
    fixture.edit_header(|header| {
        let tensors = header.as_object().unwrap().keys().filter(|name| *name != "__metadata__");
        names = tensors.cloned().collect();
    });
    fs::rename(model.join("model.safetensors"), model.join("model-00001-of-00002.safetensors")).unwrap();
    let shard = |name: &String| {
        let number = if name == "lm_head.weight" { 2 } else { 1 };
        (name.clone(), Value::from(format!("model-0000{number}-of-00002.safetensors")))
    };
    let map: serde_json::Map<_, _> = names.iter().map(shard).collect();
    let index = json!({ "metadata": {}, "weight_map": map });
    fs::write(model.join("model.safetensors.index.json"), index.to_string()).unwrap();
}

#[test]
fn missing_shard() {
    let fixture = Fixture::new();
    shard(&fixture);
    refuse_quantize(
        &fixture,
        &[],
        &["model-00002-of-00002.safetensors", "shard is missing", "lm_head.weight"],
    );
}

#[test]
fn truncated_weights() {
    let fixture = Fixture::new();
    let path = fixture.model().join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    for length in [bytes.len() - 1, bytes.len() / 2, 100, 4, 0] {
        fs::write(&path, &bytes[..length]).unwrap();
        refuse_quantize(&fixture, &[], &["model.safetensors", "not a complete safetensors file"]);
    }
}

#[test]
fn missing_weights() {
    let fixture = Fixture::new();
    fs::remove_file(fixture.model().join("model.safetensors")).unwrap();
    refuse_quantize(&fixture, &[], &["/model: no model.safetensors and no model.safetensors.index.json"]);
}

#[test]
fn tensor_of_the_wrong_shape() {
    let fixture = Fixture::new();
    let name = "model.layers.1.self_attn.q_proj.weight";
    fixture.edit_header(|header| header[name]["shape"] = json!([128, 512]));
    refuse_quantize(&fixture, &[], &["/model", name, "[128, 512]", "[256, 256]"]);
}

#[test]
fn missing_tensor() {
    let fixture = Fixture::new();
    let name = "model.layers.2.mlp.up_proj.weight";
    fixture.edit_header(|header| {
        let tensor = header.as_object_mut().unwrap().remove(name).unwrap();
        header["another"] = tensor;
    });
    refuse_quantize(&fixture, &[], &["/model", name, "is missing"]);
}

#[test]
fn unknown_architecture() {
    let fixture = Fixture::new();
    fixture.edit_json("config.json", |config| config["model_type"] = json!("mamba"));
    refuse_quantize(&fixture, &[], &["config.json", "mamba", "llama, mistral"]);
}

#[test]
fn impossible_config() {
    let fixture = Fixture::new();
    fixture.edit_json("config.json", |config| config["num_key_value_heads"] = json!(3));
    refuse_quantize(&fixture, &[], &["config.json", "num_key_value_heads", "is 3"]);
    fs::write(fixture.model().join("config.json"), "{\"model_type\":").unwrap();
    refuse_quantize(&fixture, &[], &["config.json", "not valid JSON"]);
}

#[test]
fn vocabulary_beyond_the_embedding() {
    let fixture = Fixture::new();
    fixture.edit_json("config.json", |config| config["vocab_size"] = json!(2000));
    refuse_quantize(&fixture, &[], &["tokenizer.json", "2000"]);
}

#[test]
fn texts_that_cannot_calibrate() {
    let fixture = Fixture::new();
    fs::write(fixture.text(), "").unwrap();
    refuse_quantize(&fixture, &[], &["/text: is empty"]);
    fs::write(fixture.text(), "Once upon a time").unwrap();
    refuse_quantize(&fixture, &[], &["/text: has ", " tokens, calibration needs at least 192"]);
    fs::write(fixture.text(), b"caf\xe9").unwrap();
    refuse_quantize(&fixture, &[], &["/text: is not UTF-8 at byte 3"]);
    fs::remove_file(fixture.text()).unwrap();
    refuse_quantize(&fixture, &[], &["/text: ", "o such file"]);
}

#[test]
fn budgets_out_of_range() {
    let fixture = Fixture::new();
    refuse_quantize(&fixture, &["--bpw", "3.4"], &["3.4 bits per weight", "below the floor", "3.4375"]);
    refuse_quantize(&fixture, &["--bpw", "6.6"], &["6.6 bits per weight", "above the ceiling", "6.5625"]);
    refuse_quantize(&fixture, &["--size", "1MB"], &["1000000 bytes", "below the floor"]);
    refuse_quantize(&fixture, &["--size", "1GiB"], &["1073741824 bytes", "above the ceiling"]);
    refuse_quantize(&fixture, &["--mean-bits", "2.9"], &["2.9 mean bits", "below the floor", "3.0"]);
}

#[test]
fn unwritable_outputs() {
    let fixture = Fixture::new();
    let missing = fixture.path("no").join("out.gguf");
    let mut command = ramp();
    command.arg("quantize").arg(fixture.model()).arg("-o").arg(&missing).arg("--text").arg(fixture.text());
    refuse(&mut command, &["/no/out.gguf", "there is no folder"]);
    let mut command = ramp();
    command.arg("quantize").arg(fixture.model()).arg("-o").arg(fixture.model());
    refuse(&mut command, &["/model"]);
    let report = fixture.path("no").join("report.json");
    refuse_quantize(
        &fixture,
        &["--json", report.to_str().unwrap()],
        &["/no/report.json", "there is no folder"],
    );
    let policy = fixture.path("no").join("policy");
    refuse_quantize(
        &fixture,
        &["--save-policy", policy.to_str().unwrap()],
        &["/no/policy", "there is no folder"],
    );
    let out = fixture.out();
    refuse_quantize(&fixture, &["--json", out.to_str().unwrap()], &["/out.gguf", "two outputs"]);
    let text = fixture.text();
    refuse_quantize(&fixture, &["--json", text.to_str().unwrap()], &["/text", "is an input"]);
}

#[test]
fn missing_model() {
    let fixture = Fixture::new();
    for subcommand in ["quantize", "eval", "calibrate", "plan", "inspect"] {
        let mut command = ramp();
        command.arg(subcommand).arg(fixture.path("nothing"));
        match subcommand {
            "quantize" => drop(command.arg("-o").arg(fixture.out())),
            "eval" => drop(command.arg("--text").arg(fixture.text())),
            "calibrate" => {
                command.arg("--text").arg(fixture.text()).arg("-o").arg(fixture.path("stats"));
            }
            _ => {}
        }
        refuse(&mut command, &["/nothing"]);
    }
    assert_eq!(fixture.listing(), ["model", "text"]);
}

#[test]
fn policies_that_are_none() {
    let fixture = Fixture::new();
    let policy = fixture.path("policy");
    refuse_quantize(&fixture, &["--policy", policy.to_str().unwrap()], &["/policy"]);
    fs::write(&policy, b"not a safetensors file").unwrap();
    refuse_quantize(&fixture, &["--policy", policy.to_str().unwrap()], &["/policy"]);
    let args = ["--allocator", "uniform", "--save-policy", policy.to_str().unwrap()];
    refuse_quantize(&fixture, &args, &["--save-policy", "--allocator sac"]);
}

#[cfg(not(feature = "cuda"))]
#[test]
fn a_build_without_cuda() {
    let fixture = Fixture::new();
    refuse_quantize(&fixture, &["--device", "cuda:1"], &["cuda:1", "built without CUDA", "--features cuda"]);
}

#[test]
fn arguments() {
    let fixture = Fixture::new();
    for args in [
        &["--size", "6MB", "--bpw", "4.5"][..],
        &["--bpw", "4.5", "--mean-bits", "4"],
        &["--size", "four"],
        &["--bpw", "-4"],
        &["--episodes", "0"],
        &["--device", "tpu"],
        &["--allocator", "luck"],
        &["--mode", "quiet"],
    ] {
        let output = fixture.quantize(args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}");
    }
    let output = ramp().output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let output = ramp().arg("--help").output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(fixture.listing(), ["model", "text"]);
    refuse(fixture.quantize(&[]).env("RAMP_LOG", "ramp=loud"), &["RAMP_LOG", "ramp=loud"]);
}

#[test]
fn pre_tokenizer_that_llama_cpp_lacks() {
    refuse_quantize(&Fixture::new(), &["--pre", "nonsense"], &["no pre-tokenizer `nonsense`", "llama-bpe"]);
}

#[test]
fn types_that_cannot_be_written() {
    refuse_quantize(&Fixture::new(), &["--types", "Q3_K,IQ2_XS"], &["--types", "IQ2_XS has no encoder"]);
}
