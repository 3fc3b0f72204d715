//! Weights of a Hugging Face folder: one safetensors file or an index with shards, memory-mapped.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use half::{bf16, f16};
use ramp_gguf::MappedFile;
use safetensors::{Dtype, SafeTensors, tensor::Metadata};
use serde::Deserialize;

use crate::{
    architecture::Architecture,
    error::{Error, Result},
    parameter::Parameter,
    source::{HostTensor, WeightSource},
};

/// The tensors of a Hugging Face folder. Opening reads headers only; a tensor is read when it is asked for.
#[derive(Debug)]
pub struct Checkpoint {
    dir: PathBuf,
    shards: Vec<Shard>,
    /// Tensor name to shard.
    index: BTreeMap<String, usize>,
}

#[derive(Debug)]
struct Shard {
    file: MappedFile,
    metadata: Metadata,
    /// Offset of the data section.
    data_start: usize,
}

#[derive(Deserialize)]
struct ShardIndex {
    weight_map: BTreeMap<String, String>,
}

impl Checkpoint {
    /// Opens a folder's weights.
    ///
    /// # Errors
    /// When there are no weights, a shard that the index names is missing, or a file's header does not agree
    /// with its length (a truncated download).
    pub fn open(dir: &Path) -> Result<Self> {
        let index_path = dir.join("model.safetensors.index.json");
        let single = dir.join("model.safetensors");
        if single.is_file() {
            let shard = Shard::open(&single)?;
            let index = shard.metadata.tensors().into_keys().map(|name| (name, 0)).collect();
            return Ok(Self { dir: dir.to_owned(), shards: vec![shard], index });
        }
        if !index_path.is_file() {
            return Err(Error::NoWeights { path: dir.to_owned() });
        }
        let text = fs::read_to_string(&index_path).map_err(Error::io(&index_path))?;
        let parsed: ShardIndex =
            serde_json::from_str(&text).map_err(|source| Error::Json { path: index_path.clone(), source })?;
        let mut shards = Vec::new();
        let mut by_file = BTreeMap::new();
        let mut index = BTreeMap::new();
        for (tensor, file) in parsed.weight_map {
            let at = match by_file.get(&file) {
                Some(&at) => at,
                None => {
                    shards.push(Shard::open(&shard_path(dir, &index_path, &file, &tensor)?)?);
                    by_file.insert(file, shards.len() - 1);
                    shards.len() - 1
                }
            };
            index.insert(tensor, at);
        }
        Ok(Self { dir: dir.to_owned(), shards, index })
    }
}

/// A shard's path, which must stay inside the folder.
fn shard_path(dir: &Path, index_path: &Path, file: &str, tensor: &str) -> Result<PathBuf> {
    let inside = Path::new(file).file_name().is_some_and(|name| name == file);
    if !inside {
        return Err(Error::config(
            index_path,
            "weight_map",
            format!("names `{file}`, not a file of the folder"),
        ));
    }
    let path = dir.join(file);
    if path.is_file() { Ok(path) } else { Err(Error::MissingShard { path, tensor: tensor.to_owned() }) }
}

impl Shard {
    fn open(path: &Path) -> Result<Self> {
        let file = MappedFile::open(path)?;
        let (header, metadata) = SafeTensors::read_metadata(&file)
            .map_err(|source| Error::Safetensors { path: path.to_owned(), source })?;
        // The length, the header and the data section must agree to the byte; a cut file does not.
        SafeTensors::deserialize(&file)
            .map_err(|source| Error::Safetensors { path: path.to_owned(), source })?;
        Ok(Self { file, metadata, data_start: header + 8 })
    }
}

impl Checkpoint {
    /// Whether there is a tensor of that name.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.index.contains_key(name)
    }

    /// Reads one tensor as f32, by its name and in the layout of the file.
    ///
    /// # Errors
    /// When the tensor is missing, of an unsupported type, or holds NaN or infinity.
    pub fn tensor(&self, name: &str) -> Result<HostTensor> {
        let missing = || Error::MissingTensor { path: self.dir.clone(), name: name.to_owned() };
        let shard = &self.shards[*self.index.get(name).ok_or_else(missing)?];
        let info = shard.metadata.info(name).ok_or_else(missing)?;
        let (start, end) = info.data_offsets;
        let bytes = &shard.file[shard.data_start + start..shard.data_start + end];
        let data = widen(bytes, info.dtype).ok_or_else(|| Error::Dtype {
            path: shard.file.path().to_owned(),
            name: name.to_owned(),
            dtype: format!("{:?}", info.dtype),
        })?;
        if let Some(index) = data.iter().position(|x| !x.is_finite()) {
            let path = shard.file.path().to_owned();
            return Err(Error::NonFinite { path, name: name.to_owned(), index, value: data[index] });
        }
        Ok(HostTensor { shape: info.shape.clone(), data })
    }

    /// The tensors under the names that an architecture gives them.
    #[must_use]
    pub const fn weights(&self, architecture: Architecture) -> CheckpointWeights<'_> {
        CheckpointWeights { checkpoint: self, architecture }
    }
}

/// A checkpoint as the weights of a model of one architecture.
#[derive(Debug)]
pub struct CheckpointWeights<'a> {
    checkpoint: &'a Checkpoint,
    architecture: Architecture,
}

impl WeightSource for CheckpointWeights<'_> {
    fn path(&self) -> &Path {
        &self.checkpoint.dir
    }

    fn name(&self, parameter: Parameter) -> String {
        let name = parameter.hf_name(self.architecture);
        // The first GPT-2 checkpoints have no `transformer.` in front.
        match name.strip_prefix("transformer.") {
            Some(short) if !self.checkpoint.contains(&name) && self.checkpoint.contains(short) => {
                short.into()
            }
            _ => name,
        }
    }

    fn tensor(&self, parameter: Parameter) -> Result<HostTensor> {
        let tensor = self.checkpoint.tensor(&self.name(parameter))?;
        match tensor.shape[..] {
            [rows, columns] if parameter.is_transposed(self.architecture) => {
                Ok(HostTensor { shape: vec![columns, rows], data: transpose(&tensor.data, columns) })
            }
            _ => Ok(tensor),
        }
    }
}

/// `[rows, columns]` to `[columns, rows]`.
fn transpose(data: &[f32], columns: usize) -> Vec<f32> {
    (0..columns).flat_map(|column| data.iter().skip(column).step_by(columns).copied()).collect()
}

/// Little-endian bytes to f32; `None` for a type that is no float.
fn widen(bytes: &[u8], dtype: Dtype) -> Option<Vec<f32>> {
    let halves = bytes.chunks_exact(2).map(|b| [b[0], b[1]]);
    Some(match dtype {
        Dtype::F32 => bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
        Dtype::F16 => halves.map(|b| f16::from_le_bytes(b).to_f32()).collect(),
        Dtype::BF16 => halves.map(|b| bf16::from_le_bytes(b).to_f32()).collect(),
        _ => return None,
    })
}
