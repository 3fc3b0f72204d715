//! Writes the seeds of the corpus: small valid inputs, from which a fuzzer finds the rest.
//!
//! `cargo run --example seeds` in this folder.

use std::fs;
use std::path::Path;

use ramp_gguf::{GgmlType, GgufWriter, Imatrix, ImatrixEntry, Metadata, Result, TensorSpec, Value, encode};

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for target in ["reader", "imatrix_gguf", "imatrix_dat", "decode", "tokenizer"] {
        fs::create_dir_all(corpus.join(target))?;
    }
    reader(&corpus.join("reader"))?;
    imatrix(&corpus)?;
    decode(&corpus.join("decode"))?;
    tokenizer(&corpus.join("tokenizer"))?;
    Ok(())
}

fn reader(folder: &Path) -> Result<()> {
    GgufWriter::create(folder.join("seed-empty"), Metadata::new(), vec![])?.finish()?;

    let mut metadata = Metadata::new();
    let scalars: [Value; 12] = [
        1_u8.into(),
        1_i8.into(),
        1_u16.into(),
        1_i16.into(),
        1_u32.into(),
        1_i32.into(),
        1_f32.into(),
        true.into(),
        "text".into(),
        1_u64.into(),
        1_i64.into(),
        1_f64.into(),
    ];
    for (at, value) in scalars.into_iter().enumerate() {
        metadata.insert(format!("k{at}"), value);
    }
    let arrays: [Value; 12] = [
        vec![1_u8, 2].into(),
        vec![1_i8, 2].into(),
        vec![1_u16, 2].into(),
        vec![1_i16, 2].into(),
        vec![1_u32, 2].into(),
        vec![1_i32, 2].into(),
        vec![1_f32, 2.0].into(),
        vec![true, false].into(),
        vec![String::new(), "a".to_owned()].into(),
        vec![1_u64].into(),
        vec![1_i64].into(),
        vec![1_f64].into(),
    ];
    for (at, value) in arrays.into_iter().enumerate() {
        metadata.insert(format!("a{at}"), value);
    }
    GgufWriter::create(folder.join("seed-values"), metadata, vec![])?.finish()?;

    let mut metadata = Metadata::new();
    metadata.insert("general.architecture", "llama");
    metadata.insert("general.alignment", 8_u32);
    metadata.insert("llama.block_count", 2_u32);
    metadata.insert("llama.attention.head_count", 4_u32);
    metadata.insert("llama.attention.head_count_kv", vec![2_u32, 2]);
    metadata.insert("tokenizer.ggml.tokens", vec!["<0x41>".to_owned(), "b".to_owned()]);
    metadata.insert("tokenizer.ggml.token_type", vec![6_i32, 1]);
    metadata.insert("tokenizer.ggml.bos_token_id", 1_u32);
    let specs = vec![
        TensorSpec::new("norm", [3], GgmlType::F32),
        TensorSpec::new("blk.0.ffn_up.weight", [32, 2], GgmlType::Q8_0),
        TensorSpec::new("blk.0.ffn_down.weight", [256, 1, 2, 1], GgmlType::Q2_K),
    ];
    let mut writer = GgufWriter::create(folder.join("seed-model"), metadata, specs.clone())?;
    for spec in &specs {
        writer.append(&spec.name, &vec![1; spec.n_bytes()? as usize])?;
    }
    writer.finish()?;
    Ok(())
}

fn imatrix(corpus: &Path) -> Result<()> {
    let mut imatrix = Imatrix::new(vec!["a.txt".into()], 2, 512);
    imatrix.insert("w", ImatrixEntry { sums: vec![1.0, 2.0], counts: vec![1024] })?;
    imatrix.insert("e", ImatrixEntry { sums: vec![1.0, 2.0, 0.0, 0.0], counts: vec![512, 0] })?;
    imatrix.save(corpus.join("imatrix_gguf/seed"))?;
    imatrix.save_dat(corpus.join("imatrix_dat/seed"))
}

fn decode(folder: &Path) -> Result<()> {
    for (pick, &ty) in GgmlType::ALL.iter().filter(|ty| ty.can_decode()).enumerate() {
        let n = 2 * ty.block_size();
        let weights: Vec<f32> = (0..n).map(|i| (i as f32 * 0.7).sin()).collect();
        let mut bytes = vec![pick as u8];
        bytes.extend(encode(ty, &weights, n, None)?);
        ramp_gguf::write_atomically(folder.join(format!("seed-{ty}")), |file| {
            std::io::Write::write_all(file, &bytes)
        })?;
    }
    Ok(())
}

fn tokenizer(folder: &Path) -> std::io::Result<()> {
    let byte_level = r#"{"added_tokens":[{"id":4,"content":"<|end|>","special":true}],"normalizer":{"type":"NFC"},"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false,"use_regex":true},"post_processor":{"type":"ByteLevel"},"model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":[["a","b"]]}}"#;
    fs::write(folder.join("seed-byte-level"), byte_level)?;
    let spm = r#"{"added_tokens":[{"id":0,"content":"<unk>","special":true},{"id":1,"content":"<s>","special":true}],"normalizer":{"type":"Sequence","normalizers":[{"type":"Prepend","prepend":"▁"},{"type":"Replace","pattern":{"String":" "},"content":"▁"}]},"pre_tokenizer":null,"post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>","type_id":0}},{"Sequence":{"id":"A","type_id":0}}],"special_tokens":{"<s>":{"id":"<s>","ids":[1],"tokens":["<s>"]}}},"model":{"type":"BPE","unk_token":"<unk>","byte_fallback":true,"vocab":{"<unk>":0,"<s>":1,"<0x41>":2,"▁":3,"a":4,"▁a":5},"merges":["▁ a"]}}"#;
    fs::write(folder.join("seed-spm"), spm)?;
    // The same vocabulary as a SentencePiece model: pieces of text, score and type, and a BPE trainer.
    let mut model = spm.as_bytes().to_vec();
    model.push(0);
    for (text, kind) in [("<unk>", 2), ("<s>", 3), ("<0x41>", 6), ("▁", 1), ("a", 1), ("▁a", 1)] {
        let mut piece = vec![0x0a, text.len() as u8];
        piece.extend(text.as_bytes());
        piece.extend([0x15, 0, 0, 0x80, 0xbf, 0x18, kind]);
        model.extend([0x0a, piece.len() as u8]);
        model.extend(piece);
    }
    model.extend([0x12, 2, 0x18, 2]);
    fs::write(folder.join("seed-spm-model"), model)
}
