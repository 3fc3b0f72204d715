//! GGUF files put together byte by byte, so that each rule can be broken on its own.

use std::path::PathBuf;

use ramp_gguf::{Error, GgufFile, Header};

/// A file under construction.
#[derive(Clone, Default)]
pub(crate) struct Bytes(pub(crate) Vec<u8>);

impl Bytes {
    /// Magic, version and counts.
    pub(crate) fn start(version: u32, n_tensors: u64, n_kv: u64) -> Self {
        Self(b"GGUF".to_vec()).u32(version).u64(n_tensors).u64(n_kv)
    }

    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn u32(self, value: u32) -> Self {
        self.raw(&value.to_le_bytes())
    }

    pub(crate) fn u64(self, value: u64) -> Self {
        self.raw(&value.to_le_bytes())
    }

    pub(crate) fn string(self, text: &[u8]) -> Self {
        self.u64(text.len() as u64).raw(text)
    }

    /// A key with the id of its value's type.
    pub(crate) fn key(self, key: &str, type_id: u32) -> Self {
        self.string(key.as_bytes()).u32(type_id)
    }

    /// A tensor info.
    pub(crate) fn info(self, name: &str, dims: &[u64], type_id: u32, offset: u64) -> Self {
        let start = self.string(name.as_bytes()).u32(dims.len() as u32);
        dims.iter().fold(start, |bytes, &dim| bytes.u64(dim)).u32(type_id).u64(offset)
    }

    /// Zeros up to a multiple of `alignment`, and then `data` zeros.
    pub(crate) fn data(mut self, alignment: usize, data: usize) -> Self {
        self.0.resize(self.0.len().next_multiple_of(alignment) + data, 0);
        self
    }

    pub(crate) fn parse(&self) -> Result<Header, Error> {
        Header::parse(&self.0)
    }

    /// The message of the error that parsing gives.
    pub(crate) fn message(&self) -> String {
        self.parse().expect_err("the file is broken").to_string()
    }

    /// Writes the bytes to a file and opens it.
    pub(crate) fn open(&self) -> (tempfile::TempDir, PathBuf, Result<GgufFile, Error>) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("model.gguf");
        std::fs::write(&path, &self.0).expect("space in the temporary folder");
        let file = GgufFile::open(&path);
        (folder, path, file)
    }
}
