//! A model written as GGUF and read back is the same model.

use std::{collections::BTreeMap, path::Path};

use burn::tensor::Device;
use ramp_gguf::GgmlType;
use ramp_model::{
    CausalLm, Error, LayerId, ModelConfig, ModelFiles, Result, TensorTypes, gguf_metadata, gguf_tensors,
    write_gguf,
};

use crate::random;

fn types(files: &ModelFiles, ty: GgmlType) -> TensorTypes {
    files.config().layers().into_iter().map(|id| (id, ty)).collect::<BTreeMap<LayerId, GgmlType>>()
}

#[test]
fn an_f32_file_gives_the_same_logits_and_tokens() {
    let (files, model) = crate::nano();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("nano.gguf");
    let types = types(&files, GgmlType::F32);
    let metadata = gguf_metadata(&files).unwrap();
    let size = write_f32(&path, &files, &model);
    assert_eq!(size, std::fs::metadata(&path).unwrap().len());
    let specs = gguf_tensors(model.config(), &types).unwrap();
    assert_eq!(size, ramp_gguf::file_bytes(&metadata, &specs).unwrap());

    let reopened = ModelFiles::open(&path).unwrap();
    let copy = reopened.load(&Device::flex()).unwrap();
    let tokens = crate::sample_tokens(&files, 64);
    let logits =
        |m: &ramp_model::CausalLm| -> Vec<f32> { m.logits(&[&tokens]).unwrap().try_into_vec_as().unwrap() };
    assert_eq!(logits(&model), logits(&copy));

    let text = std::fs::read_to_string(crate::nano_dir().join("sample.txt")).unwrap();
    let (ours, theirs) = (files.tokenizer().unwrap(), reopened.tokenizer().unwrap());
    assert_eq!(ours.leading_bos(), theirs.leading_bos());
    assert_eq!(ours.leading_bos(), Some(1));
    let odd = "tabs\tand  spaces \u{e9}\u{4e16}\u{1f600} <s> \r\n end ";
    for text in [&text[..20_000], odd] {
        assert_eq!(ours.encode(text).unwrap(), theirs.encode(text).unwrap());
    }
}

/// Writes a model as an f32 file and gives its size.
fn write_f32(path: &Path, files: &ModelFiles, model: &CausalLm) -> u64 {
    let encode = |id: LayerId, ty: GgmlType| -> Result<Vec<u8>> {
        let columns = model.config().shape(id)[1];
        Ok(ramp_gguf::encode(ty, &model.weight_data(id)?, columns, None)?)
    };
    let metadata = gguf_metadata(files).unwrap();
    write_gguf(path, model, &types(files, GgmlType::F32), metadata, encode, |_, _| true).unwrap()
}

/// Writes a folder as an f32 file and gives the logits of both.
fn both_logits(folder: &Path) -> [Vec<f32>; 2] {
    let files = ModelFiles::open(folder).unwrap();
    let model = files.load(&Device::flex()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    write_f32(&path, &files, &model);
    let reopened = ModelFiles::open(&path).unwrap();
    let shape = |config: &ModelConfig| {
        (config.architecture, config.parameters(), config.head_dim, config.max_position_embeddings)
    };
    assert_eq!(shape(reopened.config()), shape(files.config()));
    let copy = reopened.load(&Device::flex()).unwrap();
    let tokens = crate::sample_tokens(&files, 64);
    [model, copy].map(|model| model.logits(&[&tokens]).unwrap().try_into_vec_as().unwrap())
}

#[test]
fn every_architecture_survives_the_file() {
    for config in [random::QWEN2, random::QWEN3, random::QWEN2_YARN, random::GPT2] {
        let dir = tempfile::tempdir().unwrap();
        random::folder(dir.path(), config, &crate::nano_dir());
        let [folder, file] = both_logits(dir.path());
        assert_eq!(folder, file, "{config}");
    }
}

#[test]
fn the_scaling_of_yarn_changes_something() {
    let logits = |config: &str| {
        let dir = tempfile::tempdir().unwrap();
        random::folder(dir.path(), config, &crate::nano_dir());
        both_logits(dir.path())[1].clone()
    };
    let plain = random::QWEN2_YARN.replace("\"yarn\"", "\"default\"");
    assert_ne!(logits(random::QWEN2_YARN), logits(&plain));
}

#[test]
fn llama3_rope_scaling_survives_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("scaled");
    std::fs::create_dir(&folder).unwrap();
    for name in ["model.safetensors", "tokenizer.json", "tokenizer.model"] {
        std::fs::copy(crate::nano_dir().join(name), folder.join(name)).unwrap();
    }
    let config = std::fs::read_to_string(crate::nano_dir().join("config.json")).unwrap();
    let scaled = config.replace(
        "\"rope_type\": \"default\"",
        "\"rope_type\": \"llama3\", \"factor\": 8.0, \"low_freq_factor\": 1.0, \"high_freq_factor\": 4.0, \
         \"original_max_position_embeddings\": 64",
    );
    assert_ne!(config, scaled);
    std::fs::write(folder.join("config.json"), scaled).unwrap();

    let files = ModelFiles::open(&folder).unwrap();
    let model = files.load(&Device::flex()).unwrap();
    let path = dir.path().join("scaled.gguf");
    write_f32(&path, &files, &model);
    let copy = ModelFiles::open(&path).unwrap().load(&Device::flex()).unwrap();

    let tokens = crate::sample_tokens(&files, 64);
    let logits =
        |m: &ramp_model::CausalLm| -> Vec<f32> { m.logits(&[&tokens]).unwrap().try_into_vec_as().unwrap() };
    assert_eq!(logits(&model), logits(&copy));
    assert_ne!(logits(&model), logits(&crate::nano().1), "the scaling must change something");
}

/// Writes nano as an f32 file, changes `from` to `to` behind `anchor`, and gives the error on the way to a loaded model.
fn error_after(anchor: &[u8], skip: usize, from: &[u8], to: &[u8]) -> (Error, String) {
    let (files, model) = crate::nano();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("nano.gguf");
    write_f32(&path, &files, &model);
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(anchor.len()).position(|part| part == anchor).unwrap() + anchor.len() + skip;
    let place = &mut bytes[at..at + from.len()];
    assert_eq!(place, from);
    place.copy_from_slice(to);
    std::fs::write(&path, bytes).unwrap();
    let error = ModelFiles::open(&path).and_then(|files| files.load(&Device::flex())).map(drop).unwrap_err();
    let message = error.to_string();
    (error, message)
}

#[test]
fn unsupported_architectures_and_types_are_named() {
    // Type of the value, its length, the text.
    let (error, message) = error_after(b"general.architecture", 12, b"llama", b"gemma");
    assert!(matches!(error, Error::UnsupportedArchitecture { .. }), "{message}");
    assert!(message.contains("nano.gguf: unsupported architecture `gemma`"), "{message}");

    // Number of dimensions, two dimensions, the type.
    let change = |ty: u32| error_after(b"blk.0.attn_q.weight", 20, &0u32.to_le_bytes(), &ty.to_le_bytes());
    let (error, message) = change(4242);
    assert!(matches!(error, Error::Gguf(_)), "{message}");
    assert!(message.contains("tensor `blk.0.attn_q.weight`: unknown ggml type id 4242"), "{message}");
    // As long as F32, and no weights.
    let (error, message) = change(26);
    assert!(matches!(error, Error::Gguf(_)), "{message}");
    assert!(message.contains("blk.0.attn_q.weight") && message.contains("I32"), "{message}");
}

#[test]
fn an_interrupted_write_leaves_nothing() {
    let (files, model) = crate::nano();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("nano.gguf");
    let encode = |id: LayerId, ty: GgmlType| -> Result<Vec<u8>> {
        let columns = model.config().shape(id)[1];
        Ok(ramp_gguf::encode(ty, &model.weight_data(id)?, columns, None)?)
    };
    let types = types(&files, GgmlType::Q8_0);
    let metadata = gguf_metadata(&files).unwrap();
    let result = write_gguf(&path, &model, &types, metadata, encode, |done, _| done < 5);
    assert!(matches!(result, Err(Error::Interrupted)));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}
