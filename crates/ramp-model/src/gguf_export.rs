//! A model as a GGUF file that llama.cpp loads.

use std::{collections::BTreeMap, fs, path::Path};

use ramp_gguf::{
    GgmlType, GgufWriter, Metadata, TensorSpec, Value, VocabOptions, permute_rope_rows, tokenizer_metadata,
};

use crate::{
    architecture::NormKind,
    config::{ModelConfig, RopeScaling},
    error::{Error, Result},
    files::ModelFiles,
    layer::{LayerId, Role},
    model::CausalLm,
    parameter::Parameter,
    rope::frequency_divisors,
};

/// The key of the window, in tokens, that the original model attends within and that llama.cpp does not apply.
pub const IGNORED_SLIDING_WINDOW: &str = "ramp.ignored.sliding_window";

/// The storage type of every matrix.
pub type TensorTypes = BTreeMap<LayerId, GgmlType>;

/// Metadata of the file: `general.*`, the architecture's own keys and `tokenizer.ggml.*`.
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
    md.insert("general.architecture", Value::String(config.architecture.gguf_name().into()));
    md.insert("general.type", Value::String("model".into()));
    md.insert("general.name", Value::String(files.name()));
    md.insert("general.quantization_version", Value::U32(2));
    architecture_keys(config, &mut md);
    if let Some(window) = config.sliding_window {
        // llama.cpp runs these models with full attention, and so does whoever opens the file.
        md.insert(IGNORED_SLIDING_WINDOW, Value::U32(u32::try_from(window).unwrap_or(u32::MAX)));
    }
    tokenizer_keys(files, &mut md)?;
    Ok(md)
}

fn architecture_keys(config: &ModelConfig, md: &mut Metadata) {
    let arch = config.architecture;
    let mut put = |key: &str, value: Value| {
        md.insert(format!("{}.{key}", arch.gguf_name()), value);
    };
    let int = |value: usize| Value::U32(u32::try_from(value).unwrap_or(u32::MAX));
    let float = |value: f64| Value::F32(value as f32);
    put("context_length", int(config.max_position_embeddings));
    put("embedding_length", int(config.hidden_size));
    put("block_count", int(config.n_blocks));
    put("feed_forward_length", int(config.intermediate_size));
    put("attention.head_count", int(config.n_heads));
    put("attention.head_count_kv", int(config.n_kv_heads));
    match arch.norm_kind() {
        NormKind::Rms => put("attention.layer_norm_rms_epsilon", float(config.norm_eps)),
        NormKind::Layer => put("attention.layer_norm_epsilon", float(config.norm_eps)),
    }
    put("vocab_size", int(config.vocab_size));
    if !arch.is_rotary() {
        return;
    }
    put("attention.key_length", int(config.head_dim));
    put("attention.value_length", int(config.head_dim));
    put("rope.dimension_count", int(config.head_dim));
    put("rope.freq_base", float(config.rope_theta));
    match &config.rope_scaling {
        Some(RopeScaling::Linear { factor }) => {
            put("rope.scaling.type", Value::String("linear".into()));
            put("rope.scaling.factor", float(*factor));
        }
        Some(RopeScaling::Yarn { factor, original_context }) => {
            put("rope.scaling.type", Value::String("yarn".into()));
            put("rope.scaling.factor", float(*factor));
            put("rope.scaling.original_context_length", int(*original_context as usize));
        }
        // Llama 3's is a tensor; dynamic scaling does nothing within `context_length`.
        _ => {}
    }
}

/// The template of `tokenizer_config.json` or `chat_template.jinja`, where the folder has one.
fn chat_template(folder: &Path) -> Result<Option<String>> {
    if let Ok(template) = fs::read_to_string(folder.join("chat_template.jinja")) {
        return Ok(Some(template));
    }
    let path = folder.join("tokenizer_config.json");
    let Ok(text) = fs::read_to_string(&path) else { return Ok(None) };
    let json: serde_json::Value =
        serde_json::from_str(&text).map_err(|source| Error::Json { path: path.clone(), source })?;
    Ok(ramp_gguf::chat_template(&json)?.map(str::to_owned))
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
        pre: files.pre().map(str::to_owned),
        chat_template: chat_template(files.path())?,
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
    Learned(Parameter),
    RopeDivisors,
}

fn entries(config: &ModelConfig, types: &TensorTypes) -> Result<Vec<(Source, TensorSpec)>> {
    let mut entries = Vec::new();
    for parameter in config.parameters() {
        let name = parameter.gguf_name();
        let ty = match parameter {
            Parameter::Matrix(id) => {
                *types.get(&id).ok_or_else(|| Error::NoSuchLayer { name: name.clone() })?
            }
            _ => GgmlType::F32,
        };
        // GGUF counts dimensions from the fastest.
        let dims = config.parameter_shape(parameter).into_iter().rev().map(|dim| dim as u64).collect();
        entries.push((Source::Learned(parameter), TensorSpec { name, dims, ty }));
    }
    if frequency_divisors(config).is_some() {
        let dims = vec![config.head_dim as u64 / 2];
        let spec = TensorSpec { name: "rope_freqs.weight".into(), dims, ty: GgmlType::F32 };
        entries.insert(1, (Source::RopeDivisors, spec)); // behind the embedding, as llama.cpp's converter
    }
    Ok(entries)
}

/// Writes the file, one tensor in memory at a time.
///
/// `encode` gives a matrix's blocks with rows in Hugging Face order; the rows of q and k are permuted here where the
/// architecture has them in another order (rows are encoded independently, so the order of the two does not matter).
/// `progress` is told the tensors done and their number, and may stop by returning `false`; the unfinished file is then
/// removed.
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
            Source::Learned(Parameter::Matrix(id)) => permute(config, id, encode(id, spec.ty)?)?,
            Source::Learned(parameter) => little_endian(&model.parameter_data(parameter)?),
            Source::RopeDivisors => little_endian(&frequency_divisors(config).unwrap_or_default()),
        };
        writer.write_tensor(&spec.name, &bytes).map_err(Error::from)?;
        if !progress(done + 1, total) {
            return Err(Error::Interrupted.into());
        }
    }
    Ok(writer.finish().map_err(Error::from)?)
}

fn permute(config: &ModelConfig, id: LayerId, bytes: Vec<u8>) -> Result<Vec<u8>> {
    let Some(heads) = interleaved_heads(config, id) else { return Ok(bytes) };
    let [rows, _] = config.shape(id);
    Ok(permute_rope_rows(&bytes, bytes.len() / rows, heads)?)
}

/// Heads whose rows a GGUF file holds in another order: there the rotary embedding pairs neighbouring rows, where
/// Hugging Face pairs a head's halves.
pub(crate) fn interleaved_heads(config: &ModelConfig, id: LayerId) -> Option<usize> {
    match id.role().filter(|_| config.architecture.interleaves_rope_rows())? {
        Role::Q => Some(config.n_heads),
        Role::K => Some(config.n_kv_heads),
        _ => None,
    }
}

fn little_endian(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chat_template_comes_from_its_own_file_or_from_the_configuration() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        let template = || chat_template(folder.path());
        assert_eq!(template().unwrap(), None);
        write("tokenizer_config.json", r#"{"chat_template": "{{ a }}"}"#);
        assert_eq!(template().unwrap().as_deref(), Some("{{ a }}"));
        write("chat_template.jinja", "{{ b }}");
        assert_eq!(template().unwrap().as_deref(), Some("{{ b }}"));

        fs::remove_file(folder.path().join("chat_template.jinja")).unwrap();
        write("tokenizer_config.json", r#"{"chat_template": 7}"#);
        assert!(template().unwrap_err().to_string().contains("tokenizer_config.json"));
        write("tokenizer_config.json", "{");
        assert!(matches!(template(), Err(Error::Json { .. })));
    }
}
