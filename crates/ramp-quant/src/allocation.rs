//! Which format each matrix gets.

use std::{
    collections::{BTreeMap, btree_map},
    fs,
    io::Write as _,
    path::Path,
};

use ramp_model::{LayerId, ModelConfig, TensorTypes};
use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    format::Format,
};

/// Far above the largest model that llama.cpp loads.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// A format for each matrix. Serialises as a JSON object from GGUF tensor names to formats.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Allocation(BTreeMap<LayerId, Format>);

impl Allocation {
    /// An allocation of nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same format for every matrix, embedding and head included; where rows are not whole blocks of it,
    /// what [`Format::fallback`] gives.
    #[must_use]
    pub fn uniform(config: &ModelConfig, format: Format) -> Self {
        config.layers().into_iter().map(|id| (id, format.fallback(config.shape(id)[1]))).collect()
    }

    /// The format of a matrix.
    #[must_use]
    pub fn get(&self, id: LayerId) -> Option<Format> {
        self.0.get(&id).copied()
    }

    /// Gives a matrix a format and returns the one it had.
    pub fn set(&mut self, id: LayerId, format: Format) -> Option<Format> {
        self.0.insert(id, format)
    }

    /// Matrices with their formats, in execution order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (LayerId, Format)> {
        self.0.iter().map(|(&id, &format)| (id, format))
    }

    /// Number of matrices.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no matrices.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many matrices have each format.
    #[must_use]
    pub fn formats(&self) -> BTreeMap<Format, usize> {
        let mut counts = BTreeMap::new();
        for &format in self.0.values() {
            *counts.entry(format).or_default() += 1;
        }
        counts
    }

    /// Bytes of the allocated matrices, without padding between tensors.
    ///
    /// # Errors
    /// When the model lacks a matrix, or a format does not fit its shape.
    pub fn bytes(&self, config: &ModelConfig) -> Result<u64> {
        self.totals(config).map(|(bytes, _)| bytes)
    }

    /// Bits per weight over all allocated matrices, scales and zero points included: llama.cpp's unit.
    ///
    /// # Errors
    /// As [`Allocation::bytes`], and when nothing is allocated.
    pub fn bits_per_weight(&self, config: &ModelConfig) -> Result<f64> {
        let (bytes, weights) = self.totals(config)?;
        if weights == 0 { Err(Error::EmptyAllocation) } else { Ok(8.0 * bytes as f64 / weights as f64) }
    }

    /// Mean of the nominal bits over the matrices of the blocks, each counted once whatever its size: the
    /// paper's unit (Eq. 8). Embedding and head do not count; 0 when no matrix of a block is allocated.
    #[must_use]
    pub fn mean_bits(&self) -> f64 {
        let blocks = || self.0.iter().filter(|(id, _)| id.block().is_some());
        let sum: f64 = blocks().map(|(_, format)| format.nominal_bits()).sum();
        sum / blocks().count().max(1) as f64
    }

    /// The tensor types for a GGUF file.
    ///
    /// # Errors
    /// When a matrix has an affine format.
    pub fn tensor_types(&self) -> Result<TensorTypes> {
        self.iter()
            .map(|(id, format)| match format.ggml() {
                Some(ty) => Ok((id, ty)),
                None => Err(Error::NotATensorType { layer: id.to_string(), format }),
            })
            .collect()
    }

    /// Reads a JSON file.
    ///
    /// # Errors
    /// When the file cannot be read, is too large to be an allocation, or is not one.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = fs::metadata(path).map_err(Error::io(path))?.len();
        if bytes > MAX_FILE_BYTES {
            return Err(Error::FileTooLarge { path: path.to_owned(), bytes, limit: MAX_FILE_BYTES });
        }
        let text = fs::read_to_string(path).map_err(Error::io(path))?;
        serde_json::from_str(&text).map_err(|source| Error::Json { path: path.to_owned(), source })
    }

    /// Writes a JSON file, one matrix per line, atomically.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        ramp_gguf::write_atomically(path, |file| {
            serde_json::to_writer_pretty(&mut *file, self)?;
            file.write_all(b"\n")
        })?;
        Ok(())
    }

    /// Bytes and weights of all matrices.
    fn totals(&self, config: &ModelConfig) -> Result<(u64, u64)> {
        let mut totals = (0u64, 0u64);
        for (id, format) in self.iter() {
            let exists = match id {
                LayerId::TokenEmbd => true,
                LayerId::Block { block, .. } => block < config.n_blocks,
                LayerId::Output => !config.tie_word_embeddings,
            };
            if !exists {
                return Err(Error::NoSuchLayer { layer: id.to_string() });
            }
            let shape = config.shape(id);
            let overflow = || Error::SizeOverflow { shape };
            totals.0 = totals.0.checked_add(format.bytes(shape)?).ok_or_else(overflow)?;
            totals.1 = totals.1.checked_add(config.n_weights(id) as u64).ok_or_else(overflow)?;
        }
        Ok(totals)
    }
}

impl FromIterator<(LayerId, Format)> for Allocation {
    fn from_iter<I: IntoIterator<Item = (LayerId, Format)>>(pairs: I) -> Self {
        Self(pairs.into_iter().collect())
    }
}

impl Extend<(LayerId, Format)> for Allocation {
    fn extend<I: IntoIterator<Item = (LayerId, Format)>>(&mut self, pairs: I) {
        self.0.extend(pairs);
    }
}

impl IntoIterator for Allocation {
    type Item = (LayerId, Format);
    type IntoIter = btree_map::IntoIter<LayerId, Format>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use ramp_gguf::GgmlType;
    use ramp_model::{ModelFiles, Role};

    use super::*;

    fn nano() -> ModelConfig {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/nano");
        ModelFiles::open(&path).unwrap().config().clone()
    }

    #[test]
    fn totals_follow_the_shapes_of_the_model() {
        let config = nano(); // hidden 256, feed-forward 512, 4 blocks, 2048 tokens, no tied head
        let allocation = Allocation::uniform(&config, Format::Ggml(GgmlType::Q4_K));
        assert_eq!(allocation.len(), 4 * 7 + 2);
        let weights = 2 * 2048 * 256 + 4 * (4 * 256 * 256 + 3 * 256 * 512);
        assert_eq!(allocation.bytes(&config).unwrap(), weights / 256 * 144);
        assert_eq!(allocation.bits_per_weight(&config).unwrap(), 4.5);
        assert_eq!(allocation.mean_bits(), 4.0);
        assert!(allocation.tensor_types().unwrap().values().all(|&ty| ty == GgmlType::Q4_K));
    }

    #[test]
    fn mean_bits_ignores_sizes_embedding_and_head() {
        let config = nano();
        let mut allocation = Allocation::uniform(&config, Format::Ggml(GgmlType::F16));
        for id in config.layers().into_iter().filter(|id| id.block().is_some()) {
            let bits = if id.role() == Some(Role::Down) { 6 } else { 3 };
            allocation.set(id, Format::from_bits(bits).unwrap());
        }
        assert_eq!(allocation.mean_bits(), (6.0 * 3.0 + 6.0) / 7.0);
        let counts = allocation.formats();
        assert_eq!(counts[&Format::Ggml(GgmlType::Q3_K)], 24);
        assert_eq!(counts[&Format::Ggml(GgmlType::F16)], 2);
        assert_eq!(Allocation::new().mean_bits(), 0.0);
    }

    #[test]
    fn uniform_falls_back_where_rows_are_not_whole_blocks() {
        let config = ModelConfig { intermediate_size: 160, ..nano() };
        let allocation = Allocation::uniform(&config, Format::Ggml(GgmlType::Q4_K));
        let down = allocation.get(LayerId::Block { block: 0, role: Role::Down });
        assert_eq!(down, Some(Format::Ggml(GgmlType::Q5_0)));
        assert!(allocation.bytes(&config).is_ok());
    }

    #[test]
    fn matrices_that_the_model_lacks_are_refused() {
        let config = nano();
        let tied = ModelConfig { tie_word_embeddings: true, ..nano() };
        let far = Allocation::from_iter([(
            LayerId::Block { block: 4, role: Role::Q },
            Format::Ggml(GgmlType::F16),
        )]);
        let head = Allocation::from_iter([(LayerId::Output, Format::Ggml(GgmlType::F16))]);
        assert!(head.bytes(&config).is_ok());
        for error in [far.bytes(&config).unwrap_err(), head.bytes(&tied).unwrap_err()] {
            assert!(matches!(error, Error::NoSuchLayer { .. }), "{error}");
        }
        assert!(matches!(Allocation::new().bits_per_weight(&config), Err(Error::EmptyAllocation)));
    }

    #[test]
    fn affine_formats_have_a_cost_but_no_tensor_type() {
        let config = nano();
        let allocation = Allocation::uniform(&config, Format::Affine { bits: 4, group: 128 });
        assert_eq!(allocation.bits_per_weight(&config).unwrap(), 4.15625);
        let error = allocation.tensor_types().unwrap_err();
        let expected =
            "`token_embd.weight` has format `affine4-g128`, which no tensor of a GGUF file can have";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn files_round_trip_and_broken_ones_name_the_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("allocation.json");
        let mut allocation = Allocation::uniform(&nano(), Format::Ggml(GgmlType::Q5_K));
        allocation.set(LayerId::Output, Format::Affine { bits: 6, group: 32 });
        allocation.save(&path).unwrap();
        assert_eq!(Allocation::load(&path).unwrap(), allocation);
        let text = fs::read_to_string(&path).unwrap();
        assert!(
            text.starts_with("{\n  \"token_embd.weight\": \"Q5_K\",\n  \"blk.0.attn_q.weight\""),
            "{text}"
        );

        for broken in
            ["[]", "{\"blk.0.attn_q\": \"Q4_K\"}", "{\"output.weight\": \"Q9\"}", "{\"output.weight\""]
        {
            fs::write(&path, broken).unwrap();
            let error = Allocation::load(&path).unwrap_err();
            assert!(
                matches!(error, Error::Json { .. }) && error.to_string().contains("allocation.json"),
                "{error}"
            );
        }
        assert!(matches!(Allocation::load(folder.path().join("none.json")), Err(Error::Io { .. })));
    }
}
