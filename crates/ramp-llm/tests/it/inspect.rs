//! `ramp inspect`.

use std::{
    fs,
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::fixture::{Fixture, quantized, ramp, refuse, succeed};

#[test]
fn a_file_of_ours() {
    let (fixture, report, _) = quantized();
    let json = succeed(ramp().arg("inspect").arg(fixture.out()).arg("--json"));
    let found: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(found["file_bytes"], report["file_bytes"]);
    assert_eq!(found["metadata"]["general.architecture"], "llama");
    assert_eq!(found["metadata"]["tokenizer.ggml.tokens"]["len"], 2048);
    assert_eq!(found["tensors"].as_array().unwrap().len(), 4 * 9 + 3);
    let of = |name: &str| {
        let tensors = found["tensors"].as_array().unwrap();
        tensors.iter().find(|tensor| tensor["name"] == name).unwrap().clone()
    };
    for layer in report["layers"].as_array().unwrap() {
        assert_eq!(of(layer["name"].as_str().unwrap())["type"], layer["format"]);
    }
    assert_eq!(of("blk.0.ffn_down.weight")["shape"], serde_json::json!([512, 256]));
    assert_eq!(found["total"]["weights"], 3_672_320);

    let table = succeed(ramp().arg("inspect").arg(fixture.out()));
    for part in
        ["GGUF v3", "llama.block_count", "... 2042 more]", "blk.3.ffn_up.weight", "256 x 512", "3,672,320"]
    {
        assert!(table.contains(part), "`{part}` is not in:\n{table}");
    }
}

#[test]
fn files_that_are_no_gguf() {
    let fixture = Fixture::new();
    refuse(ramp().arg("inspect").arg(fixture.text()), &["/text", "not a GGUF file"]);
    let (done, ..) = quantized();
    let bytes = fs::read(done.out()).unwrap();
    fs::write(fixture.out(), &bytes[..bytes.len() - 1]).unwrap();
    refuse(ramp().arg("inspect").arg(fixture.out()), &["/out.gguf"]);
}

/// `ramp inspect FILE | head -n 0` is nobody's mistake.
#[test]
fn a_closed_standard_output_is_no_error() {
    let (fixture, ..) = quantized();
    let mut child = Command::new(env!("CARGO_BIN_EXE_ramp"))
        .args(["inspect".as_ref(), fixture.out().as_os_str()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(output.stderr, b"");
}
