//! The memory-mapped reader.

use std::collections::HashMap;
use std::path::Path;

use crate::header::data_of;
use crate::split::{self, Part};
use crate::{Error, Header, MappedFile, Metadata, Result, TensorInfo, TensorView};

/// An open GGUF file. Opening reads and checks the header; tensor data is mapped and read where it is touched.
///
/// A model in several files (`NAME-00001-of-00003.gguf` and so on, as `llama-gguf-split` writes them) is opened
/// by the path of any of them and then looks like one file: all tensors, and the metadata of the first part
/// without the `split.*` keys.
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
    /// One file, or the parts in order.
    parts: Vec<OpenPart>,
    metadata: Metadata,
    /// All parts' tensors.
    tensors: Vec<TensorInfo>,
    /// By name: the place in `tensors`, and the part.
    index: HashMap<String, (usize, usize)>,
}

#[derive(Debug)]
struct OpenPart {
    map: MappedFile,
    version: u32,
    alignment: u64,
    data_start: u64,
}

impl GgufFile {
    /// Opens and checks a file, or all parts of a model of which it is one.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::NotARegularFile`] when a file cannot be mapped; every error of
    /// [`Header::parse`], wrapped in [`Error::InFile`], when it is not a valid GGUF file. For the parts of a model
    /// also [`Error::SplitName`], [`Error::SplitNo`], [`Error::SplitNoRange`], [`Error::SplitCount`],
    /// [`Error::SplitTensors`], and [`Error::DuplicateTensor`] for a tensor that is in two parts.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let (map, header) = open_part(path)?;
        let in_file = |error: Error| error.in_file(path);
        let Some(part) = Part::of(&header.metadata).map_err(in_file)? else {
            let mut file = Self::empty();
            file.metadata = header.metadata.clone();
            file.add(map, header)?;
            return Ok(file);
        };
        let paths = part.siblings(path).map_err(in_file)?;
        Self::open_parts(&paths, part.count)
    }

    fn open_parts(paths: &[impl AsRef<Path>], count: u16) -> Result<Self> {
        let mut file = Self::empty();
        for (no, path) in (0..count).zip(paths) {
            let path = path.as_ref();
            let (map, header) = open_part(path)?;
            Part { no, count }.check(&header.metadata).map_err(|error| error.in_file(path))?;
            if no == 0 {
                file.metadata = header.metadata.clone();
            }
            file.add(map, header)?;
        }
        split::check_tensor_count(&file.metadata, file.tensors.len())
            .map_err(|error| error.in_file(file.path()))?;
        split::remove_keys(&mut file.metadata);
        Ok(file)
    }

    fn empty() -> Self {
        Self { parts: Vec::new(), metadata: Metadata::new(), tensors: Vec::new(), index: HashMap::new() }
    }

    fn add(&mut self, map: MappedFile, header: Header) -> Result<()> {
        for tensor in header.tensors {
            let place = (self.tensors.len(), self.parts.len());
            if self.index.insert(tensor.name.clone(), place).is_some() {
                return Err(Error::DuplicateTensor { name: tensor.name }.in_file(map.path()));
            }
            self.tensors.push(tensor);
        }
        let Header { version, alignment, data_start, .. } = header;
        self.parts.push(OpenPart { map, version, alignment, data_start });
        Ok(())
    }

    /// The path of the file, or of the first part.
    pub fn path(&self) -> &Path {
        self.first().map.path()
    }

    /// The paths of all parts, in order: one for a model in one file.
    pub fn part_paths(&self) -> impl ExactSizeIterator<Item = &Path> {
        self.parts.iter().map(|part| part.map.path())
    }

    /// The key-value part.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// All tensors, in the order of the file, part after part. In a model of several parts
    /// [`TensorInfo::offset`] counts from the start of the data section of the tensor's own part.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// One tensor's info.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.index.get(name).map(|&(at, _)| &self.tensors[at])
    }

    /// One tensor with its data, without a copy.
    ///
    /// # Errors
    /// [`Error::NoSuchTensor`].
    pub fn view(&self, name: &str) -> Result<TensorView<'_>> {
        match self.index.get(name) {
            Some(&(at, part)) => Ok(self.view_at(at, part)),
            None => Err(Error::NoSuchTensor { name: name.to_owned() }.in_file(self.path())),
        }
    }

    /// All tensors with their data, in the order of [`tensors`](Self::tensors).
    pub fn views(&self) -> impl ExactSizeIterator<Item = TensorView<'_>> {
        self.tensors.iter().map(|tensor| {
            let (at, part) = self.index[&tensor.name];
            self.view_at(at, part)
        })
    }

    /// The stored bytes of a tensor.
    ///
    /// # Errors
    /// [`Error::NoSuchTensor`].
    pub fn tensor_data(&self, name: &str) -> Result<&[u8]> {
        self.view(name).map(|tensor| tensor.bytes())
    }

    /// The weights of a tensor, row after row.
    ///
    /// # Errors
    /// [`Error::NoSuchTensor`], or [`Error::CannotDecode`] for a type without a decoder.
    pub fn decode_tensor(&self, name: &str) -> Result<Vec<f32>> {
        self.view(name)?.decode().map_err(|error| error.in_file(self.path()))
    }

    /// Bytes of the whole file, or of all parts together.
    pub fn file_len(&self) -> u64 {
        self.parts.iter().map(|part| part.map.len() as u64).sum()
    }

    /// Every tensor's data starts at a multiple of this many bytes (in the first part, where there are several).
    pub fn alignment(&self) -> u64 {
        self.first().alignment
    }

    /// The container version, 2 or 3.
    pub fn version(&self) -> u32 {
        self.first().version
    }

    /// Bytes from the start of the file to the first tensor's data (in the first part, where there are several).
    pub fn data_start(&self) -> u64 {
        self.first().data_start
    }

    fn first(&self) -> &OpenPart {
        // `open` adds one part or more.
        &self.parts[0]
    }

    fn view_at(&self, at: usize, part: usize) -> TensorView<'_> {
        let (tensor, part) = (&self.tensors[at], &self.parts[part]);
        TensorView::new(tensor, data_of(&part.map, part.data_start, tensor))
    }
}

fn open_part(path: &Path) -> Result<(MappedFile, Header)> {
    let map = MappedFile::open(path)?;
    let header = Header::parse(&map).map_err(|error| error.in_file(path))?;
    Ok((map, header))
}
