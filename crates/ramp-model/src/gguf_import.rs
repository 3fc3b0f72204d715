//! A GGUF file as a model: configuration from its metadata, weights decoded.

use std::{collections::BTreeSet, path::Path};

use ramp_gguf::{GgufFile, ModelFacts, check_vocabulary, unpermute_rope_rows};

use crate::{
    architecture::{Architecture, NormKind},
    config::{ModelConfig, RopeScaling},
    error::{Error, Result},
    gguf_export::interleaved_heads,
    parameter::Parameter,
    source::{HostTensor, WeightSource},
};

/// Reads the configuration of a GGUF file.
///
/// A sliding window is not part of it: llama.cpp's `llama` architecture has none, and an evaluation of the
/// file must see what llama.cpp sees.
///
/// # Errors
/// When the architecture is not supported, or a key is missing, of the wrong type or impossible.
pub(crate) fn config_from_gguf(file: &GgufFile, path: &Path) -> Result<ModelConfig> {
    let md = file.metadata();
    let name = md.get_str("general.architecture")?;
    let architecture = Architecture::ALL
        .into_iter()
        .find(|known| known.gguf_name() == name)
        .ok_or_else(|| Error::UnsupportedArchitecture { path: path.to_owned(), found: name.to_owned() })?;
    let facts = ModelFacts::read(md)?;
    check_vocabulary(md)?;
    if facts.n_expert > 0 {
        let why = format!("is {}, models with experts are not supported", facts.n_expert);
        return Err(Error::config(path, &format!("{name}.expert_count"), why));
    }
    let int = |key: &str| md.get_u32(&format!("{name}.{key}")).map(|v| v as usize);
    let optional = |key: &str| md.find::<u32>(&format!("{name}.{key}")).map(|v| v.map(|v| v as usize));
    let float = |key: &str| md.get_f32(&format!("{name}.{key}")).map(f64::from);

    let hidden_size = int("embedding_length")?;
    let (n_heads, n_kv_heads) = (facts.n_head as usize, facts.n_head_kv as usize);
    let head_dim = match optional("attention.key_length")? {
        Some(dim) => dim,
        None => hidden_size.checked_div(n_heads).unwrap_or(0),
    };
    let rotated = optional("rope.dimension_count")?.unwrap_or(head_dim);
    if architecture.is_rotary() && rotated != head_dim {
        let why =
            format!("is {rotated}, rotary embedding of a part of the {head_dim} channels is not supported");
        return Err(Error::config(path, &format!("{name}.rope.dimension_count"), why));
    }
    let config = ModelConfig {
        architecture,
        hidden_size,
        intermediate_size: int("feed_forward_length")?,
        n_blocks: facts.n_layer as usize,
        n_heads,
        n_kv_heads,
        head_dim,
        vocab_size: rows(file, "token_embd.weight", path)?,
        max_position_embeddings: if architecture.is_rotary() {
            int("context_length")?
        } else {
            rows(file, "position_embd.weight", path)?
        },
        norm_eps: match architecture.norm_kind() {
            NormKind::Rms => float("attention.layer_norm_rms_epsilon")?,
            NormKind::Layer => float("attention.layer_norm_epsilon")?,
        },
        rope_theta: md.find::<f32>(&format!("{name}.rope.freq_base"))?.map_or(10_000.0, f64::from),
        rope_scaling: if architecture.is_rotary() { rope_scaling(file, path, name, head_dim)? } else { None },
        sliding_window: None,
        tie_word_embeddings: file.tensor("output.weight").is_none(),
        bos_token_id: md.get_u32("tokenizer.ggml.bos_token_id").ok(),
        eos_token_id: md.get_u32("tokenizer.ggml.eos_token_id").ok(),
    }
    .validate(path)?;
    refuse_unknown_tensors(file, &config, path)?;
    Ok(config)
}

/// Rows of a matrix that must be there.
fn rows(file: &GgufFile, name: &str, path: &Path) -> Result<usize> {
    let tensor = file
        .tensor(name)
        .ok_or_else(|| Error::MissingTensor { path: path.to_owned(), name: name.to_owned() })?;
    match tensor.dims[..] {
        [_, rows] => Ok(usize::try_from(rows).unwrap_or(usize::MAX)),
        _ => Err(Error::config(path, name, "is not a matrix")),
    }
}

/// A tensor that the forward pass would not use (a bias, an expert) means another model.
fn refuse_unknown_tensors(file: &GgufFile, config: &ModelConfig, path: &Path) -> Result<()> {
    let known: BTreeSet<String> = config
        .parameters()
        .into_iter()
        .map(Parameter::gguf_name)
        .chain(config.architecture.is_rotary().then(|| DIVISORS.to_owned()))
        .collect();
    match file.tensors().iter().find(|tensor| !known.contains(&tensor.name)) {
        Some(tensor) => Err(Error::UnknownTensor { path: path.to_owned(), name: tensor.name.clone() }),
        None => Ok(()),
    }
}

/// Divisors of the rotary frequencies.
const DIVISORS: &str = "rope_freqs.weight";

fn rope_scaling(file: &GgufFile, path: &Path, arch: &str, head_dim: usize) -> Result<Option<RopeScaling>> {
    let key = |key: &str| format!("{arch}.rope.scaling.{key}");
    let md = file.metadata();
    if file.tensor(DIVISORS).is_some() {
        let divisors = file.decode_tensor(DIVISORS)?;
        let usable = divisors.len() == head_dim / 2 && divisors.iter().all(|d| d.is_finite() && *d > 0.0);
        if !usable {
            let why = format!("is not {} finite numbers above 0", head_dim / 2);
            return Err(Error::config(path, DIVISORS, why));
        }
        return Ok(Some(RopeScaling::Divisors(divisors)));
    }
    let factor = || -> Result<f64> {
        match f64::from(md.get_f32(&key("factor"))?) {
            factor if factor.is_finite() && factor > 0.0 => Ok(factor),
            factor => Err(Error::config(path, &key("factor"), format!("is {factor}, expected above 0"))),
        }
    };
    match md.get_str(&key("type")).unwrap_or("none") {
        "none" => Ok(None),
        "linear" => Ok(Some(RopeScaling::Linear { factor: factor()? })),
        "yarn" => {
            // llama.cpp takes the context length where the original one is missing.
            let original = md.find::<u32>(&key("original_context_length"))?;
            let original = match original {
                Some(tokens) => tokens,
                None => md.get_u32(&format!("{arch}.context_length"))?,
            };
            if original == 0 {
                return Err(Error::config(path, &key("original_context_length"), "is 0"));
            }
            Ok(Some(RopeScaling::Yarn { factor: factor()?, original_context: f64::from(original) }))
        }
        other => {
            let why = format!("is `{other}` (supported: none, linear, yarn)");
            Err(Error::config(path, &key("type"), why))
        }
    }
}

/// The tensors of a GGUF file, decoded and with q and k rows put back into Hugging Face order.
pub(crate) struct GgufWeights<'a> {
    file: &'a GgufFile,
    config: &'a ModelConfig,
    path: &'a Path,
}

impl<'a> GgufWeights<'a> {
    pub(crate) const fn new(file: &'a GgufFile, config: &'a ModelConfig, path: &'a Path) -> Self {
        Self { file, config, path }
    }
}

impl WeightSource for GgufWeights<'_> {
    fn path(&self) -> &Path {
        self.path
    }

    fn name(&self, parameter: Parameter) -> String {
        parameter.gguf_name()
    }

    fn tensor(&self, parameter: Parameter) -> Result<HostTensor> {
        let name = parameter.gguf_name();
        let missing = || Error::MissingTensor { path: self.path.to_owned(), name: name.clone() };
        let info = self.file.tensor(&name).ok_or_else(missing)?;
        // GGUF counts dimensions from the fastest.
        let shape: Vec<usize> =
            info.dims.iter().rev().map(|&dim| usize::try_from(dim).unwrap_or(usize::MAX)).collect();
        let mut data = self.file.decode_tensor(&name)?;
        let heads = match parameter {
            Parameter::Matrix(id) => interleaved_heads(self.config, id),
            _ => None,
        };
        if let (Some(heads), Some(&columns)) = (heads, shape.last()) {
            data = unpermute_rope_rows(&data, columns, heads)?;
        }
        if let Some(index) = data.iter().position(|x| !x.is_finite()) {
            let value = data[index];
            return Err(Error::NonFinite { path: self.path.to_owned(), name, index, value });
        }
        Ok(HostTensor { shape, data })
    }
}
