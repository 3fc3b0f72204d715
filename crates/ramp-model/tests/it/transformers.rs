//! Logits of Hugging Face transformers for models without a trained one here;
//! `tests/reference/transformers_logits.py` made them.

use burn::tensor::Device;
use ramp_model::ModelFiles;
use serde_json::Value;

use crate::random;

/// They are computed in f64 there.
const TOLERANCE: f64 = 5e-5;

#[test]
fn logits_agree_with_transformers() {
    let reference: Value =
        serde_json::from_str(include_str!("../reference/transformers_logits.json")).unwrap();
    let tokens: Vec<u32> = (0..100).map(|i| (37 * i + 11) % 2048).collect();
    for (name, config) in [
        ("QWEN2", random::QWEN2),
        ("QWEN3", random::QWEN3),
        ("QWEN2_YARN", random::QWEN2_YARN),
        ("GPT2", random::GPT2),
    ] {
        let dir = tempfile::tempdir().unwrap();
        random::folder(dir.path(), config, &crate::nano_dir());
        let model = ModelFiles::open(dir.path()).unwrap().load(&Device::flex()).unwrap();
        let logits: Vec<f32> = model.logits(&[&tokens]).unwrap().try_into_vec_as().unwrap();
        let row = |at: usize| logits[at * 2048..(at + 1) * 2048].iter().map(|x| f64::from(*x));
        let numbers = |key: &str| -> Vec<(usize, f64)> {
            let object = reference[name][key].as_object().unwrap();
            object.iter().map(|(at, value)| (at.parse().unwrap(), value.as_f64().unwrap())).collect()
        };
        for (at, expected) in numbers("logsumexp") {
            let found = row(at).map(f64::exp).sum::<f64>().ln();
            assert!((found - expected).abs() < TOLERANCE, "{name}, position {at}: {found}, not {expected}");
        }
        for (id, expected) in numbers("logits_99") {
            let found = row(99).nth(id).unwrap();
            assert!((found - expected).abs() < TOLERANCE, "{name}, token {id}: {found}, not {expected}");
        }
    }
}
