//! A model as a GGUF file that llama.cpp loads.

use std::{collections::BTreeMap, fs, path::Path};

use ramp_gguf::{
    GgmlType, GgufWriter, Metadata, TensorSpec, Value, VocabOptions, permute_rope_rows, tokenizer_metadata,
};

use crate::{
    config::{ModelConfig, RopeScaling},
    error::{Error, Result},
    files::ModelFiles,
    layer::{LayerId, Role},
    model::{CausalLm, NormId, to_host},
    rope::frequency_divisors,
};

/// The storage type of every matrix.
pub type TensorTypes = BTreeMap<LayerId, GgmlType>;

/// Metadata of the file: `general.*`, `llama.*` and `tokenizer.ggml.*`.
///
/// Nothing in it depends on the allocation, so that the size of a file is known before the search begins.
/// `general.file_type` is left out: a mix of formats has none, and llama.cpp finds the prevailing one itself.
///
/// # Errors
/// When the tokenizer cannot be read or is of an unknown kind.
pub fn gguf_metadata(files: &ModelFiles) -> Result<Metadata> {
    let config = files.config();
    if let Some(gguf) = files.gguf() {
        let mut md = gguf.metadata().clone();
        md.remove("general.file_type");
        md.insert("general.quantization_version", Value::U32(2));
        return Ok(md);
    }
    let mut md = Metadata::new();
    md.insert("general.architecture", Value::String("llama".into()));
    md.insert("general.type", Value::String("model".into()));
    md.insert("general.name", Value::String(files.name()));
    md.insert("general.quantization_version", Value::U32(2));
    architecture_keys(config, &mut md);
    tokenizer_keys(files, &mut md)?;
    Ok(md)
}

fn architecture_keys(config: &ModelConfig, md: &mut Metadata) {
    let int = |value: usize| Value::U32(u32::try_from(value).unwrap_or(u32::MAX));
    let keys = [
        ("llama.context_length", int(config.max_position_embeddings)),
        ("llama.embedding_length", int(config.hidden_size)),
        ("llama.block_count", int(config.n_blocks)),
        ("llama.feed_forward_length", int(config.intermediate_size)),
        ("llama.attention.head_count", int(config.n_heads)),
        ("llama.attention.head_count_kv", int(config.n_kv_heads)),
        ("llama.attention.key_length", int(config.head_dim)),
        ("llama.attention.value_length", int(config.head_dim)),
        ("llama.attention.layer_norm_rms_epsilon", Value::F32(config.rms_norm_eps as f32)),
        ("llama.rope.dimension_count", int(config.head_dim)),
        ("llama.rope.freq_base", Value::F32(config.rope_theta as f32)),
        ("llama.vocab_size", int(config.vocab_size)),
    ];
    for (key, value) in keys {
        md.insert(key, value);
    }
    if let Some(RopeScaling::Linear { factor }) = &config.rope_scaling {
        md.insert("llama.rope.scaling.type", Value::String("linear".into()));
        md.insert("llama.rope.scaling.factor", Value::F32(*factor as f32));
    }
}

fn tokenizer_keys(files: &ModelFiles, md: &mut Metadata) -> Result<()> {
    let path = files.path().join("tokenizer.json");
    let text = fs::read_to_string(&path).map_err(Error::io(&path))?;
    let json: serde_json::Value =
        serde_json::from_str(&text).map_err(|source| Error::Json { path: path.clone(), source })?;
    let sentencepiece = fs::read(files.path().join("tokenizer.model")).ok();
    let config = files.config();
    let leading_bos = files.tokenizer()?.leading_bos();
    let options = VocabOptions {
        vocab_size: config.vocab_size,
        bos: leading_bos.or(config.bos_token_id),
        eos: config.eos_token_id,
        add_bos: Some(leading_bos.is_some()),
        ..VocabOptions::default()
    };
    Ok(tokenizer_metadata(&json, sentencepiece.as_deref(), &options, md)?)
}

/// Every tensor of the file in its order, with `types` for the matrices and F32 for the rest.
///
/// # Errors
/// When `types` lacks a matrix of the model.
pub fn gguf_tensors(config: &ModelConfig, types: &TensorTypes) -> Result<Vec<TensorSpec>> {
    Ok(entries(config, types)?.into_iter().map(|(_, spec)| spec).collect())
}

/// What a tensor of the file is made from.
#[derive(Clone, Copy)]
enum Source {
    Matrix(LayerId),
    Norm(NormId),
    RopeDivisors,
}

fn entries(config: &ModelConfig, types: &TensorTypes) -> Result<Vec<(Source, TensorSpec)>> {
    let matrix = |id: LayerId| -> Result<(Source, TensorSpec)> {
        let ty = *types.get(&id).ok_or_else(|| Error::NoSuchLayer { name: id.to_string() })?;
        let [out, inp] = config.shape(id);
        let spec = TensorSpec { name: id.to_string(), dims: vec![inp as u64, out as u64], ty };
        Ok((Source::Matrix(id), spec))
    };
    let vector = |source: Source, name: String, len: usize| {
        (source, TensorSpec { name, dims: vec![len as u64], ty: GgmlType::F32 })
    };
    let norm = |id: NormId| vector(Source::Norm(id), id.gguf_name(), config.hidden_size);

    let mut entries = vec![matrix(LayerId::TokenEmbd)?];
    if frequency_divisors(config).is_some() {
        entries.push(vector(Source::RopeDivisors, "rope_freqs.weight".into(), config.head_dim / 2));
    }
    for block in 0..config.n_blocks {
        let id = |role| LayerId::Block { block, role };
        entries.push(norm(NormId::Attn(block)));
        for role in [Role::Q, Role::K, Role::V, Role::O] {
            entries.push(matrix(id(role))?);
        }
        entries.push(norm(NormId::Ffn(block)));
        for role in [Role::Gate, Role::Up, Role::Down] {
            entries.push(matrix(id(role))?);
        }
    }
    entries.push(norm(NormId::Output));
    if !config.tie_word_embeddings {
        entries.push(matrix(LayerId::Output)?);
    }
    Ok(entries)
}

/// Writes the file, one tensor in memory at a time.
///
/// `encode` gives a matrix's blocks with rows in Hugging Face order; the rows of q and k are permuted here
/// (rows are encoded independently, so the order of the two does not matter). `progress` is told the tensors
/// done and their number, and may stop by returning `false`; the unfinished file is then removed.
///
/// Returns the size of the file in bytes.
///
/// # Errors
/// When `types` lacks a matrix, `encode` fails, the file cannot be written, or [`Error::Interrupted`].
pub fn write_gguf<E: From<Error>>(
    path: &Path,
    model: &CausalLm,
    types: &TensorTypes,
    metadata: Metadata,
    mut encode: impl FnMut(LayerId, GgmlType) -> Result<Vec<u8>, E>,
    mut progress: impl FnMut(usize, usize) -> bool,
) -> Result<u64, E> {
    let config = model.config();
    let entries = entries(config, types)?;
    let specs = entries.iter().map(|(_, spec)| spec.clone()).collect();
    let mut writer = GgufWriter::create(path, metadata, specs).map_err(Error::from)?;
    let total = entries.len();
    for (done, (source, spec)) in entries.into_iter().enumerate() {
        let bytes = match source {
            Source::Matrix(id) => permute(config, id, encode(id, spec.ty)?)?,
            Source::Norm(id) => little_endian(&to_host(model.norm(id)?)?),
            Source::RopeDivisors => little_endian(&frequency_divisors(config).unwrap_or_default()),
        };
        writer.write_tensor(&spec.name, &bytes).map_err(Error::from)?;
        if !progress(done + 1, total) {
            return Err(Error::Interrupted.into());
        }
    }
    Ok(writer.finish().map_err(Error::from)?)
}

/// ggml's rotary embedding pairs neighbouring rows; Hugging Face pairs a head's halves.
fn permute(config: &ModelConfig, id: LayerId, bytes: Vec<u8>) -> Result<Vec<u8>> {
    let heads = match id.role() {
        Some(Role::Q) => config.n_heads,
        Some(Role::K) => config.n_kv_heads,
        _ => return Ok(bytes),
    };
    let [rows, _] = config.shape(id);
    Ok(permute_rope_rows(&bytes, bytes.len() / rows, heads)?)
}

fn little_endian(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}
