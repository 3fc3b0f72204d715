//! The memory-mapped reader.

use std::collections::HashMap;
use std::path::Path;

use crate::{Error, Header, MappedFile, Metadata, Result, TensorInfo, decode};

/// An open GGUF file. Opening reads and checks the header; tensor data is mapped and read where it is touched.
///
/// ```no_run
/// let file = ramp_gguf::GgufFile::open("model.gguf")?;
/// for tensor in file.tensors() {
///     println!("{:40} {:>6} {:?}", tensor.name, tensor.ty, tensor.dims);
/// }
/// let embedding: Vec<f32> = file.decode_tensor("token_embd.weight")?;
/// # Ok::<(), ramp_gguf::Error>(())
/// ```
#[derive(Debug)]
pub struct GgufFile {
    map: MappedFile,
    header: Header,
    index: HashMap<String, usize>,
}

impl GgufFile {
    /// Opens and checks a file.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::NotARegularFile`] when it cannot be mapped; every error of
    /// [`Header::parse`], wrapped in [`Error::InFile`], when it is not a valid GGUF file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let map = MappedFile::open(path)?;
        let header = Header::parse(&map).map_err(|error| error.in_file(map.path()))?;
        let index = header.tensors.iter().enumerate().map(|(at, tensor)| (tensor.name.clone(), at)).collect();
        Ok(Self { map, header, index })
    }

    /// The path that the file was opened by.
    pub fn path(&self) -> &Path {
        self.map.path()
    }

    /// The key-value part.
    pub fn metadata(&self) -> &Metadata {
        &self.header.metadata
    }

    /// All tensors, in the order of the file.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.header.tensors
    }

    /// One tensor's info.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.index.get(name).map(|&at| &self.header.tensors[at])
    }

    /// The stored bytes of a tensor.
    ///
    /// # Errors
    /// [`Error::NoSuchTensor`].
    pub fn tensor_data(&self, name: &str) -> Result<&[u8]> {
        self.require(name).map(|tensor| self.data_of(tensor))
    }

    /// The weights of a tensor, row after row.
    ///
    /// # Errors
    /// [`Error::NoSuchTensor`], or [`Error::CannotDecode`] for a type without a decoder.
    pub fn decode_tensor(&self, name: &str) -> Result<Vec<f32>> {
        let tensor = self.require(name)?;
        let in_context = |error: Error| error.in_tensor(name).in_file(self.path());
        // Types without a decoder may have far more elements than bytes of file; refuse them before allocating.
        if !tensor.ty.can_decode() {
            return Err(in_context(Error::CannotDecode { ty: tensor.ty }));
        }
        let n_elements = usize::try_from(tensor.n_elements())
            .map_err(|_| in_context(Error::SizeOverflow { what: "the elements of a tensor" }))?;
        let mut weights = vec![0.0; n_elements];
        decode(tensor.ty, self.data_of(tensor), &mut weights).map_err(in_context)?;
        Ok(weights)
    }

    /// Bytes of the whole file.
    pub fn file_len(&self) -> u64 {
        self.map.len() as u64
    }

    /// Every tensor's data starts at a multiple of this many bytes.
    pub fn alignment(&self) -> u64 {
        self.header.alignment
    }

    /// The container version, 2 or 3.
    pub fn version(&self) -> u32 {
        self.header.version
    }

    /// Bytes from the start of the file to the first tensor's data.
    pub fn data_start(&self) -> u64 {
        self.header.data_start
    }

    fn require(&self, name: &str) -> Result<&TensorInfo> {
        self.tensor(name).ok_or_else(|| Error::NoSuchTensor { name: name.to_owned() }.in_file(self.path()))
    }

    fn data_of(&self, tensor: &TensorInfo) -> &[u8] {
        // `Header::parse` has checked that the range lies inside the map, whose length is a `usize`.
        let start = (self.header.data_start + tensor.offset) as usize;
        &self.map[start..start + tensor.n_bytes as usize]
    }
}
