//! `ramp compare`.

use std::fs;

use serde_json::Value;

use crate::fixture::{Fixture, nano, ramp, refuse, succeed};

fn compare(fixture: &Fixture, methods: &str) -> assert_cmd::Command {
    let mut command = ramp();
    command.arg("compare").arg(nano()).arg("--text").arg(fixture.text()).args(["--methods", methods]);
    command.args(["--context", "128"]);
    command
}

#[test]
fn methods_are_measured_side_by_side() {
    let fixture = Fixture::new();
    let path = fixture.path("report.json");
    let methods = "rtn3-g32,gptq3-g32,awq3-g32,q4_0,rtn6-g32";
    let mut command = compare(&fixture, methods);
    let table = succeed(command.args(["--chunks", "12", "--json"]).arg(&path));
    for part in ["unquantized", "gptq3-g32", "q4_0", "12 windows of 128 tokens", "perplexity"] {
        assert!(table.contains(part), "`{part}` is not in:\n{table}");
    }
    let report: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let found = report["methods"].as_array().unwrap();
    let number = |at: usize, pointer: &str| found[at].pointer(pointer).unwrap().as_f64().unwrap();
    let names: Vec<&str> = found.iter().map(|method| method["method"].as_str().unwrap()).collect();
    assert_eq!(names.join(","), methods);
    let kld: Vec<f64> = (0..5).map(|at| number(at, "/against_base/mean_kld")).collect();
    // Feedback and scales help at 3 bits, and 6 bits are better than any of them.
    assert!(kld[1] < kld[0] && kld[2] < kld[0] && kld[4] < 0.2 * kld[1], "{kld:?}");
    // 3 + 19 / 32, and 4.5.
    assert_eq!(number(0, "/bits_per_weight"), 3.0 + 19.0 / 32.0 + per_row_padding());
    assert_eq!((number(3, "/bits_per_weight"), number(3, "/nominal_bits")), (4.5, 4.0));
    assert!(found[0]["against_first"].is_null());
    let ratio = number(1, "/against_base/ln_ppl_ratio") - number(0, "/against_base/ln_ppl_ratio");
    assert!((ratio - number(1, "/against_first/ln_ppl_ratio")).abs() < 1e-9);
    assert_eq!(report["base"]["windows"], 12);

    let mut command = compare(&fixture, "rtn4-g32");
    let markdown = succeed(
        command
            .args(["--protocol", "llama.cpp", "--chunks", "2", "--markdown", "--calibration-text"])
            .arg(nano().join("sample.txt")),
    );
    assert!(markdown.starts_with("| method |") && markdown.contains("| rtn4-g32 |"), "{markdown}");
    // The second half of a window but one token.
    assert!(markdown.contains("(llama.cpp protocol), 126 tokens scored"), "{markdown}");
}

/// The zero points of a row, 3 bits each, fill whole bytes.
fn per_row_padding() -> f64 {
    let config: Value = serde_json::from_slice(&fs::read(nano().join("config.json")).unwrap()).unwrap();
    let width = |key: &str| config[key].as_u64().unwrap();
    let (hidden, ffn) = (width("hidden_size"), width("intermediate_size"));
    let heads = width("num_attention_heads");
    let kv = hidden / heads * config["num_key_value_heads"].as_u64().unwrap();
    let padding = |inp: u64| (3 * inp / 32).div_ceil(8) * 8 - 3 * inp / 32;
    let matrices = [
        (hidden, hidden),
        (kv, hidden),
        (kv, hidden),
        (hidden, hidden),
        (ffn, hidden),
        (ffn, hidden),
        (hidden, ffn),
    ];
    let bits: u64 = matrices.iter().map(|(out, inp)| out * padding(*inp)).sum();
    let weights: u64 = matrices.iter().map(|(out, inp)| out * inp).sum();
    bits as f64 / weights as f64
}

#[test]
fn what_cannot_be_compared_is_refused() {
    let fixture = Fixture::new();
    let usage = |methods: &str, part: &str| {
        let output = compare(&fixture, methods).output().unwrap();
        let stderr = crate::fixture::stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(part), "`{part}` is not in: {stderr}");
    };
    usage("omniquant4", "unknown method `omniquant4`");
    usage("rtn9", "no width of 9 bits");
    usage("squeezellm4-g64", "no groups");
    usage("f16-gptq", "F16");
    refuse(&mut compare(&fixture, "rtn4,rtn4"), &["rtn4 twice"]);
    refuse(&mut compare(&fixture, "rtn4-g9999"), &["blk.0.attn_q.weight", "9999", "larger than a row"]);
    let mut same = compare(&fixture, "rtn4");
    same.arg("--calibration-text").arg(fixture.text());
    refuse(&mut same, &["--calibration-text is --text"]);
    fs::write(fixture.text(), "too short").unwrap();
    refuse(&mut compare(&fixture, "rtn4"), &[fixture.text().to_str().unwrap(), "tokens"]);
}
