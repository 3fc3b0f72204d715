//! A GGUF file as a model: configuration from its metadata, weights decoded under Hugging Face names.

use std::{collections::BTreeSet, path::Path};

use ramp_gguf::{GgufFile, unpermute_rope_rows};

use crate::{
    config::{Architecture, ModelConfig, RopeScaling},
    error::{Error, Result},
    layer::{LayerId, Role},
    model::NormId,
    source::{HostTensor, WeightSource},
};

/// Reads the configuration of a `llama` GGUF file.
///
/// A sliding window is not part of it: llama.cpp's `llama` architecture has none, and an evaluation of the
/// file must see what llama.cpp sees.
///
/// # Errors
/// When the architecture is another, or a key is missing, of the wrong type or impossible.
pub(crate) fn config_from_gguf(file: &GgufFile, path: &Path) -> Result<ModelConfig> {
    let md = file.metadata();
    let arch = md.get_str("general.architecture")?;
    if arch != "llama" {
        return Err(Error::UnsupportedArchitecture { path: path.to_owned(), found: arch.to_owned() });
    }
    let int = |key: &str| md.get_u32(&format!("llama.{key}")).map(|v| v as usize);
    let optional = |key: &str| md.find::<u32>(&format!("llama.{key}")).map(|v| v.map(|v| v as usize));
    let float = |key: &str| md.get_f32(&format!("llama.{key}")).map(f64::from);

    let embedding = file
        .tensor("token_embd.weight")
        .ok_or_else(|| Error::MissingTensor { path: path.to_owned(), name: "token_embd.weight".into() })?;
    let vocab_size = match embedding.dims[..] {
        [_, rows] => usize::try_from(rows).unwrap_or(usize::MAX),
        _ => return Err(Error::config(path, "token_embd.weight", "is not a matrix")),
    };
    let hidden_size = int("embedding_length")?;
    let n_heads = int("attention.head_count")?;
    let n_kv_heads = optional("attention.head_count_kv")?.unwrap_or(n_heads);
    let head_dim = match optional("attention.key_length")? {
        Some(dim) => dim,
        None => hidden_size.checked_div(n_heads).unwrap_or(0),
    };
    let rope_scaling = rope_scaling(file, path, head_dim)?;
    let rotated = md.find::<u32>("llama.rope.dimension_count")?.map_or(head_dim, |dim| dim as usize);
    if rotated != head_dim {
        let why =
            format!("is {rotated}, rotary embedding of a part of the {head_dim} channels is not supported");
        return Err(Error::config(path, "llama.rope.dimension_count", why));
    }
    let config = ModelConfig {
        architecture: Architecture::Llama,
        hidden_size,
        intermediate_size: int("feed_forward_length")?,
        n_blocks: int("block_count")?,
        n_heads,
        n_kv_heads,
        head_dim,
        vocab_size,
        max_position_embeddings: int("context_length")?,
        rms_norm_eps: float("attention.layer_norm_rms_epsilon")?,
        rope_theta: md.find::<f32>("llama.rope.freq_base")?.map_or(10_000.0, f64::from),
        rope_scaling,
        sliding_window: None,
        tie_word_embeddings: file.tensor("output.weight").is_none(),
        bos_token_id: md.get_u32("tokenizer.ggml.bos_token_id").ok(),
        eos_token_id: md.get_u32("tokenizer.ggml.eos_token_id").ok(),
    }
    .validate(path)?;
    refuse_unknown_tensors(file, &config, path)?;
    Ok(config)
}

/// A tensor that the forward pass would not use (a bias, an expert) means another model.
fn refuse_unknown_tensors(file: &GgufFile, config: &ModelConfig, path: &Path) -> Result<()> {
    let norms = (0..config.n_blocks).flat_map(|block| [NormId::Attn(block), NormId::Ffn(block)]);
    let known: BTreeSet<String> = config
        .layers()
        .into_iter()
        .map(|id| id.to_string())
        .chain(norms.chain([NormId::Output]).map(NormId::gguf_name))
        .chain(["rope_freqs.weight".to_owned()])
        .collect();
    match file.tensors().iter().find(|tensor| !known.contains(&tensor.name)) {
        Some(tensor) => Err(Error::UnknownTensor { path: path.to_owned(), name: tensor.name.clone() }),
        None => Ok(()),
    }
}

fn rope_scaling(file: &GgufFile, path: &Path, head_dim: usize) -> Result<Option<RopeScaling>> {
    const DIVISORS: &str = "rope_freqs.weight";
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
    match md.get_str("llama.rope.scaling.type").unwrap_or("none") {
        "none" => Ok(None),
        "linear" => {
            let factor = f64::from(md.get_f32("llama.rope.scaling.factor")?);
            Ok(Some(RopeScaling::Linear { factor }))
        }
        other => {
            let why = format!("is `{other}` (supported: none, linear)");
            Err(Error::config(path, "llama.rope.scaling.type", why))
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

    /// The GGUF name for a Hugging Face name, with the number of heads whose rows were permuted.
    fn gguf_name(&self, hf_name: &str) -> Option<(String, Option<usize>)> {
        let heads = |id: LayerId| match id.role() {
            Some(Role::Q) => Some(self.config.n_heads),
            Some(Role::K) => Some(self.config.n_kv_heads),
            _ => None,
        };
        let matrices = [LayerId::TokenEmbd, LayerId::Output];
        if let Some(id) = matrices.into_iter().find(|id| id.hf_name() == hf_name) {
            return Some((id.to_string(), None));
        }
        if NormId::Output.hf_name() == hf_name {
            return Some((NormId::Output.gguf_name(), None));
        }
        let block: usize = hf_name.strip_prefix("model.layers.")?.split('.').next()?.parse().ok()?;
        let norm = [NormId::Attn(block), NormId::Ffn(block)].into_iter().find(|id| id.hf_name() == hf_name);
        if let Some(id) = norm {
            return Some((id.gguf_name(), None));
        }
        let roles = Role::ALL.into_iter().map(|role| LayerId::Block { block, role });
        let id = roles.into_iter().find(|id| id.hf_name() == hf_name)?;
        Some((id.to_string(), heads(id)))
    }
}

impl WeightSource for GgufWeights<'_> {
    fn path(&self) -> &Path {
        self.path
    }

    fn contains(&self, name: &str) -> bool {
        self.gguf_name(name).is_some_and(|(name, _)| self.file.tensor(&name).is_some())
    }

    fn tensor(&self, name: &str) -> Result<HostTensor> {
        let missing = || Error::MissingTensor { path: self.path.to_owned(), name: name.to_owned() };
        let (gguf_name, permuted_heads) = self.gguf_name(name).ok_or_else(missing)?;
        let info = self.file.tensor(&gguf_name).ok_or_else(missing)?;
        // GGUF counts dimensions from the fastest; the shapes here are [out, in].
        let shape: Vec<usize> =
            info.dims.iter().rev().map(|&dim| usize::try_from(dim).unwrap_or(usize::MAX)).collect();
        let mut data = self.file.decode_tensor(&gguf_name)?;
        if let (Some(heads), Some(&columns)) = (permuted_heads, shape.last()) {
            data = unpermute_rope_rows(&data, columns, heads)?;
        }
        if let Some(index) = data.iter().position(|x| !x.is_finite()) {
            let value = data[index];
            return Err(Error::NonFinite { path: self.path.to_owned(), name: gguf_name, index, value });
        }
        Ok(HostTensor { shape, data })
    }
}
