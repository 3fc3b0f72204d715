//! Importance matrices: which input columns of each weight matter, as measured on text.

mod dat;
mod gguf;

use std::collections::BTreeMap;
use std::path::Path;

use crate::header::MAGIC;
use crate::{Error, MappedFile, Metadata, Result, keys};

/// The statistics of one weight.
#[derive(Clone, PartialEq, Debug)]
pub struct ImatrixEntry {
    /// Sum over tokens of the squared input activation, row-major `[n_matrices, n_columns]`. A dense weight has
    /// one matrix, a mixture of experts one per expert.
    pub sums: Vec<f32>,
    /// Tokens that each matrix has seen, `[n_matrices]`.
    pub counts: Vec<u64>,
}

impl ImatrixEntry {
    /// Input columns of the weight.
    pub fn n_columns(&self) -> usize {
        self.sums.len() / self.counts.len().max(1)
    }

    /// What [`encode`](crate::encode) takes: the mean squared activation per column, `[n_matrices, n_columns]`.
    /// A matrix that has seen no token gets ones, as in llama-quantize.
    pub fn importance(&self) -> Vec<f32> {
        let n_columns = self.n_columns().max(1);
        let columns = self.sums.chunks_exact(n_columns).zip(&self.counts);
        columns
            .flat_map(|(sums, &count)| {
                sums.iter().map(move |&sum| if count == 0 { 1.0 } else { sum / count as f32 })
            })
            .collect()
    }
}

/// The statistics of all weights of a model, and where they come from.
///
/// ```
/// use ramp_gguf::{Imatrix, ImatrixEntry};
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("imatrix.gguf");
/// let mut imatrix = Imatrix::new(vec!["wiki.train.raw".into()], 1, 512);
/// imatrix.insert("blk.0.attn_q.weight", ImatrixEntry { sums: vec![512.0, 1024.0], counts: vec![512] })?;
/// imatrix.save(&path)?;
///
/// let read = Imatrix::open(&path)?;
/// assert_eq!(read, imatrix);
/// assert_eq!(read.entries()["blk.0.attn_q.weight"].importance(), [1.0, 2.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Imatrix {
    entries: BTreeMap<String, ImatrixEntry>,
    /// The texts, as file names.
    pub datasets: Vec<String>,
    /// Chunks of text that were evaluated.
    pub chunk_count: u32,
    /// Tokens per chunk.
    pub chunk_size: u32,
}

impl Imatrix {
    /// No entries yet; `datasets` by name, and the chunks of `chunk_size` tokens taken from them.
    pub fn new(datasets: Vec<String>, chunk_count: u32, chunk_size: u32) -> Self {
        Self { entries: BTreeMap::new(), datasets, chunk_count, chunk_size }
    }

    /// The entries by the name of the weight, such as `blk.0.attn_q.weight`.
    pub fn entries(&self) -> &BTreeMap<String, ImatrixEntry> {
        &self.entries
    }

    /// Sets the statistics of a weight.
    ///
    /// # Errors
    /// [`Error::Imatrix`] when the sums are not whole rows per count, or not all finite and non-negative.
    pub fn insert(&mut self, name: impl Into<String>, entry: ImatrixEntry) -> Result<()> {
        let name = name.into();
        let (values, matrices) = (entry.sums.len(), entry.counts.len());
        if matrices == 0 || values == 0 || !values.is_multiple_of(matrices) {
            return Err(reason(&name, format!("{values} sums do not divide into {matrices} matrices")));
        }
        if let Some(bad) = entry.sums.iter().position(|sum| !sum.is_finite() || *sum < 0.0) {
            let value = entry.sums[bad];
            return Err(reason(&name, format!("the sum of squares of column {bad} is {value}")));
        }
        self.entries.insert(name, entry);
        Ok(())
    }

    /// Adds the statistics of another run, as if both texts had been one.
    ///
    /// # Errors
    /// [`Error::Imatrix`] when an entry has another shape in the other run; then nothing is added.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        let shape = |entry: &ImatrixEntry| (entry.counts.len(), entry.n_columns());
        for (name, theirs) in &other.entries {
            match self.entries.get(name).map(shape) {
                Some(ours) if ours != shape(theirs) => {
                    let message = format!("shapes {ours:?} and {:?} do not add up", shape(theirs));
                    return Err(reason(name, message));
                }
                _ => {}
            }
        }
        for (name, theirs) in &other.entries {
            match self.entries.get_mut(name) {
                Some(ours) => {
                    ours.sums.iter_mut().zip(&theirs.sums).for_each(|(a, b)| *a += b);
                    ours.counts.iter_mut().zip(&theirs.counts).for_each(|(a, b)| *a = a.saturating_add(*b));
                }
                None => {
                    self.entries.insert(name.clone(), theirs.clone());
                }
            }
        }
        self.datasets.extend_from_slice(&other.datasets);
        self.chunk_count = self.chunk_count.saturating_add(other.chunk_count);
        Ok(())
    }

    /// Reads a file of either format: GGUF, or the older `.dat`.
    ///
    /// The older format has means in place of sums, and counts chunks instead of tokens, of a size that is not in
    /// the file; chunks of 512 are assumed, which only matters for merging.
    ///
    /// # Errors
    /// Those of [`GgufFile::open`](crate::GgufFile::open) for one file and [`Error::Imatrix`], wrapped in
    /// [`Error::InFile`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let map = MappedFile::open(path)?;
        Self::parse(&map).map_err(|error| error.in_file(path))
    }

    /// Reads the bytes of a file of either format.
    ///
    /// # Errors
    /// As [`open`](Self::open), without the name of a file.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        if bytes.starts_with(&MAGIC) { gguf::parse(bytes) } else { dat::parse(bytes) }
    }

    /// What [`encode`](crate::encode) takes for a weight, and what llama-quantize gives it: the mean squared
    /// activation per column, `[n_matrices, n_columns]`; `None` without an entry.
    ///
    /// # Errors
    /// [`Error::ImatrixLength`], wrapped in [`Error::InTensor`], when the entry has not `len` values, the columns
    /// of the weight times its matrices: then it was made with another model.
    pub fn importance(&self, name: &str, len: usize) -> Result<Option<Vec<f32>>> {
        let Some(entry) = self.entries.get(name) else { return Ok(None) };
        let found = entry.sums.len();
        if found != len {
            return Err(Error::ImatrixLength { expected: len, found }.in_tensor(name));
        }
        Ok(Some(entry.importance()))
    }

    /// Sets the `quantize.imatrix.*` keys ([`QuantizeKeys`]), `file` being the name of the matrix's own file.
    pub fn quantize_keys(&self, file: &str, metadata: &mut Metadata) {
        let keys = QuantizeKeys {
            file: Some(file),
            dataset: self.datasets.first().map(String::as_str),
            entries: self.entries.len(),
            chunks: self.chunk_count,
        };
        keys.write(metadata);
    }

    /// llama-quantize refuses a file without entries.
    fn check_not_empty(&self) -> Result<()> {
        if self.entries.is_empty() {
            return Err(Error::Imatrix { reason: "there are no entries".into() });
        }
        Ok(())
    }

    /// Writes the GGUF format, the default of llama-imatrix since 2025.
    ///
    /// # Errors
    /// As [`GgufWriter::create`](crate::GgufWriter::create): names of weights are limited to 55 bytes.
    /// [`Error::Imatrix`] when there are no entries, which llama-quantize would refuse.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        gguf::write(self, path.as_ref())
    }

    /// Writes the older `.dat` format, for tools from before 2025. Weights that have seen no token are left out.
    ///
    /// # Errors
    /// [`Error::Imatrix`] for sizes beyond 31 bits and when there are no entries, [`Error::Io`].
    pub fn save_dat(&self, path: impl AsRef<Path>) -> Result<()> {
        let bytes = dat::to_bytes(self)?;
        crate::write_atomically(path, |file| std::io::Write::write_all(file, &bytes))
    }
}

/// The `quantize.imatrix.*` keys that llama-quantize writes into a model that it quantizes with an importance matrix.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct QuantizeKeys<'a> {
    /// `quantize.imatrix.file`: the name of the matrix's file, if it has one.
    pub file: Option<&'a str>,
    /// `quantize.imatrix.dataset`: the text that it was measured on.
    pub dataset: Option<&'a str>,
    /// `quantize.imatrix.entries_count`: matrices that it knows.
    pub entries: usize,
    /// `quantize.imatrix.chunks_count`: windows of text; not written when 0, which is unknown.
    pub chunks: u32,
}

impl QuantizeKeys<'_> {
    /// Sets the keys; those of an earlier matrix go. Texts are cut to 127 bytes, as llama-quantize does.
    pub fn write(&self, metadata: &mut Metadata) {
        for (key, text) in
            [(keys::QUANTIZE_IMATRIX_FILE, self.file), (keys::QUANTIZE_IMATRIX_DATASET, self.dataset)]
        {
            metadata.remove(key);
            if let Some(text) = text {
                metadata.insert(key, first_bytes(text));
            }
        }
        metadata.remove(keys::QUANTIZE_IMATRIX_CHUNKS_COUNT);
        let entries = u32::try_from(self.entries).unwrap_or(u32::MAX);
        metadata.insert(keys::QUANTIZE_IMATRIX_ENTRIES_COUNT, entries);
        if self.chunks > 0 {
            metadata.insert(keys::QUANTIZE_IMATRIX_CHUNKS_COUNT, self.chunks);
        }
    }
}

/// At most 127 bytes of whole characters.
fn first_bytes(text: &str) -> &str {
    &text[..text.floor_char_boundary(127)]
}

fn reason(name: &str, reason: impl std::fmt::Display) -> Error {
    Error::Imatrix { reason: format!("`{name}`: {reason}") }
}

#[cfg(test)]
mod tests;
