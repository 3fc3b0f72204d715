//! Broken folders: each is one error that names the file and the value.

use std::{fs, path::Path};

use burn::tensor::Device;
use ramp_model::{LayerId, ModelFiles, Role};

fn copy_nano(dir: &Path) {
    for entry in fs::read_dir(crate::nano_dir()).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, dir.join(path.file_name().unwrap())).unwrap();
    }
}

/// Damages a copy of nano and gives the message of the first error on the way to a loaded model.
fn error_after(damage: impl FnOnce(&Path)) -> String {
    let dir = tempfile::tempdir().unwrap();
    copy_nano(dir.path());
    damage(dir.path());
    let load = || {
        let files = ModelFiles::open(dir.path())?;
        files.tokenizer()?;
        files.load(&Device::flex())
    };
    load().map(drop).unwrap_err().to_string()
}

fn edit(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{from}");
    fs::write(path, text.replace(from, to)).unwrap();
}

#[test]
fn a_cut_file_is_found_before_it_is_used() {
    let message = error_after(|dir| {
        let path = dir.join("model.safetensors");
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() - 1000]).unwrap();
    });
    assert!(message.contains("model.safetensors: not a complete safetensors file"), "{message}");
}

#[test]
fn a_missing_shard_is_named() {
    let message = error_after(|dir| {
        fs::remove_file(dir.join("model.safetensors")).unwrap();
        let index = r#"{"weight_map":{"model.norm.weight":"model-00001-of-00002.safetensors"}}"#;
        fs::write(dir.join("model.safetensors.index.json"), index).unwrap();
    });
    assert!(message.contains("model-00001-of-00002.safetensors: shard is missing"), "{message}");
    assert!(message.contains("model.norm.weight"), "{message}");
}

#[test]
fn a_shard_outside_the_folder_is_refused() {
    let message = error_after(|dir| {
        fs::remove_file(dir.join("model.safetensors")).unwrap();
        let index = r#"{"weight_map":{"model.norm.weight":"../other.safetensors"}}"#;
        fs::write(dir.join("model.safetensors.index.json"), index).unwrap();
    });
    assert!(message.contains("names `../other.safetensors`, not a file of the folder"), "{message}");
}

#[test]
fn a_wrong_shape_shows_both_shapes() {
    let message = error_after(|dir| {
        edit(&dir.join("config.json"), "\"intermediate_size\": 512", "\"intermediate_size\": 768");
    });
    assert!(message.contains("gate_proj.weight"), "{message}");
    assert!(message.contains("has shape [512, 256], config.json gives [768, 256]"), "{message}");
}

#[test]
fn a_missing_tensor_is_named() {
    let message = error_after(|dir| {
        edit(&dir.join("config.json"), "\"num_hidden_layers\": 4", "\"num_hidden_layers\": 5");
    });
    assert!(message.contains("tensor `model.layers.4.input_layernorm.weight` is missing"), "{message}");
}

#[test]
fn a_vocabulary_beyond_the_embedding_is_refused() {
    let message = error_after(|dir| {
        edit(&dir.join("config.json"), "\"vocab_size\": 2048", "\"vocab_size\": 2000");
    });
    assert!(message.contains("tokenizer has 2048 tokens, the embedding has 2000 rows"), "{message}");
}

#[test]
fn a_row_longer_than_the_table_of_positions_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    crate::random::folder(dir.path(), crate::random::GPT2, &crate::nano_dir());
    let model = ModelFiles::open(dir.path()).unwrap().load(&Device::flex()).unwrap();
    assert!(model.logits(&[&[5; 256]]).is_ok());
    let message = model.logits(&[&[5; 257]]).unwrap_err().to_string();
    assert_eq!(message, "a row of 257 tokens is too long, the model has positions for 256");
}

#[test]
fn weights_and_tokens_that_do_not_exist_are_errors() {
    let (files, mut model) = crate::nano();
    let fused = LayerId::Block { block: 0, role: Role::Qkv };
    assert!(model.weight(fused).unwrap_err().to_string().contains("`blk.0.attn_qkv.weight`"));
    let absent = LayerId::Block { block: 4, role: Role::Q };
    assert!(model.weight(absent).unwrap_err().to_string().contains("`blk.4.attn_q.weight`"));
    let k = model.weight(LayerId::Output).unwrap();
    let message = model.set_weight(LayerId::Block { block: 0, role: Role::Q }, k).unwrap_err().to_string();
    assert!(message.contains("has shape [256, 256], the replacement has [2048, 256]"), "{message}");
    let vocab = files.config().vocab_size as u32;
    assert!(model.logits(&[&[0, vocab]]).unwrap_err().to_string().contains("token id 2048 is out of range"));
    assert!(model.logits(&[&[0, 1], &[2]]).unwrap_err().to_string().contains("row 1 has 1 tokens"));
    assert!(model.logits(&[]).is_err());
    assert!(model.logits(&[&[]]).is_err());
}
