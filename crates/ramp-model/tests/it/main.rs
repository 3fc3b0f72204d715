//! The crate against its definition, against files, and against broken files.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod broken;
mod calibration;
mod gguf;
mod gradient;
mod oracle;
mod random;
mod threads;
mod transformers;

use std::path::PathBuf;

use burn::tensor::Device;
use ramp_model::{CausalLm, ModelFiles};

fn nano_dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../assets/nano")
}

fn nano() -> (ModelFiles, CausalLm) {
    let files = ModelFiles::open(&nano_dir()).unwrap();
    let model = files.load(&Device::flex()).unwrap();
    (files, model)
}

fn sample_tokens(files: &ModelFiles, n: usize) -> Vec<u32> {
    let text = std::fs::read_to_string(nano_dir().join("sample.txt")).unwrap();
    files.tokenizer().unwrap().encode(&text[..n * 8]).unwrap()[..n].to_vec()
}
