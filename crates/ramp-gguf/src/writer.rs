//! The streaming writer, and the size of what it will write.

use std::collections::HashSet;
use std::io::{self, Read as _, Write};
use std::path::Path;

use crate::atomic::AtomicFile;
use crate::header::{MAGIC, VERSION, alignment_of, check_key, check_tensor_name, data_bytes, pad};
use crate::{Array, Error, GgmlType, Metadata, Result, Value, check_key_types, encode};

/// A tensor to be written: what its info in the header says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TensorSpec {
    /// The name, 1 to 63 bytes.
    pub name: String,
    /// Dimensions in ggml's `ne` order: `dims[0]` is the row length, the reverse of a PyTorch shape.
    pub dims: Vec<u64>,
    /// The storage type.
    pub ty: GgmlType,
}

impl TensorSpec {
    /// A tensor with these dimensions, row length first.
    pub fn new(name: impl Into<String>, dims: impl Into<Vec<u64>>, ty: GgmlType) -> Self {
        Self { name: name.into(), dims: dims.into(), ty }
    }

    /// Bytes of data, without padding.
    ///
    /// # Errors
    /// [`Error::InTensor`] around the rule that the dimensions break.
    pub fn n_bytes(&self) -> Result<u64> {
        data_bytes(&self.dims, self.ty).map_err(|error| error.in_tensor(&self.name))
    }
}

/// The exact length of the file that [`GgufWriter`] makes of these parts.
///
/// ```
/// use ramp_gguf::{GgmlType, Metadata, TensorSpec, file_bytes};
/// let metadata: Metadata = [("general.architecture", "llama")].into_iter().collect();
/// let spec = TensorSpec::new("output.weight", [256, 4], GgmlType::Q4_K);
/// assert_eq!(file_bytes(&metadata, &[spec])?, 128 + 4 * 144);
/// # Ok::<(), ramp_gguf::Error>(())
/// ```
///
/// # Errors
/// As [`GgufWriter::create`], without those of the file system.
pub fn file_bytes(metadata: &Metadata, specs: &[TensorSpec]) -> Result<u64> {
    Layout::new(metadata, specs).map(|layout| layout.file_bytes)
}

/// Where everything goes. Computed once, used for the budget and for the file (invariant 5).
#[derive(Debug)]
struct Layout {
    alignment: u64,
    /// Bytes of each tensor's data, without padding.
    n_bytes: Vec<u64>,
    /// Start of each tensor's data in the data section.
    offsets: Vec<u64>,
    /// Bytes of the header before its padding.
    header_bytes: u64,
    data_start: u64,
    file_bytes: u64,
}

impl Layout {
    fn new(metadata: &Metadata, specs: &[TensorSpec]) -> Result<Self> {
        let alignment = alignment_of(metadata)?;
        metadata.iter().try_for_each(|(key, _)| check_key(key))?;
        check_key_types(metadata)?;
        let mut names = HashSet::new();
        let (mut n_bytes, mut offsets, mut data_end) = (Vec::new(), Vec::new(), 0_u64);
        for spec in specs {
            check_tensor_name(&spec.name)?;
            if !names.insert(spec.name.as_str()) {
                return Err(Error::DuplicateTensor { name: spec.name.clone() });
            }
            let bytes = spec.n_bytes()?;
            n_bytes.push(bytes);
            offsets.push(data_end);
            data_end = checked_sum(data_end, pad(bytes, alignment)?)?;
        }
        let mut counter = ByteCount(0);
        write_header(&mut counter, metadata, specs, &offsets).expect("counting bytes cannot fail");
        let header_bytes = counter.0;
        // Without tensors there is no data section and nothing is padded.
        let data_start = if specs.is_empty() { header_bytes } else { pad(header_bytes, alignment)? };
        let file_bytes = checked_sum(data_start, data_end)?;
        Ok(Self { alignment, n_bytes, offsets, header_bytes, data_start, file_bytes })
    }
}

fn checked_sum(a: u64, b: u64) -> Result<u64> {
    a.checked_add(b).ok_or(Error::SizeOverflow { what: "the bytes of the file" })
}

/// Writes a GGUF v3 file from its first byte to its last, so that no more than a part of one tensor is in memory.
///
/// The bytes go to a temporary name in the same folder; [`finish`](Self::finish) syncs and renames. Dropping the
/// writer before that removes the temporary file and leaves an earlier file of the final name as it was.
///
/// ```
/// use ramp_gguf::{GgmlType, GgufFile, GgufWriter, Metadata, TensorSpec, encode};
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("model.gguf");
/// let metadata: Metadata = [("general.architecture", "llama")].into_iter().collect();
/// let weights: Vec<f32> = (0..512).map(|i| (i as f32).sin()).collect();
///
/// let specs = vec![
///     TensorSpec::new("token_embd.weight", [256, 2], GgmlType::Q4_K),
///     TensorSpec::new("output.weight", [256, 2], GgmlType::Q6_K),
/// ];
/// let mut writer = GgufWriter::create(&path, metadata, specs)?;
/// // Weights are encoded on their way, a few rows at a time; finished bytes are written as they are.
/// writer.encode_tensor("token_embd.weight", &weights, None)?;
/// writer.write_tensor("output.weight", &encode(GgmlType::Q6_K, &weights, 256, None)?)?;
/// let bytes = writer.finish()?;
///
/// let file = GgufFile::open(&path)?;
/// assert_eq!(file.file_len(), bytes);
/// assert!((file.decode_tensor("output.weight")?[1] - weights[1]).abs() < 0.05);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct GgufWriter {
    file: AtomicFile,
    specs: Vec<TensorSpec>,
    layout: Layout,
    /// Tensors written completely.
    written: usize,
    /// Bytes written of the tensor that is due.
    begun: u64,
}

impl GgufWriter {
    /// Creates the temporary file and writes the header.
    ///
    /// # Errors
    /// [`Error::BadKey`], [`Error::BadAlignment`], [`Error::BadTensorName`], [`Error::DuplicateTensor`] and the
    /// shape errors for parts that make no valid file; [`Error::WrongType`] for a key that llama.cpp reads as
    /// another type ([`check_key_types`](crate::check_key_types)); [`Error::Io`] or [`Error::NotARegularFile`]
    /// when the file cannot be created.
    #[expect(clippy::needless_pass_by_value, reason = "a vocabulary need not stay while tensors are written")]
    pub fn create(path: impl AsRef<Path>, metadata: Metadata, specs: Vec<TensorSpec>) -> Result<Self> {
        let path = path.as_ref();
        let layout = Layout::new(&metadata, &specs)?;
        let mut file = AtomicFile::create(path)?;
        write_header(&mut file.writer, &metadata, &specs, &layout.offsets)
            .and_then(|()| write_zeros(&mut file.writer, layout.data_start - layout.header_bytes))
            .map_err(Error::io("write", path))?;
        Ok(Self { file, specs, layout, written: 0, begun: 0 })
    }

    /// Appends the data of the next tensor.
    ///
    /// # Errors
    /// [`Error::WrongOrder`] when `name` is not the next of the infos, [`Error::EncodedLength`] (wrapped in
    /// [`Error::InTensor`]) when `bytes` has another length than its shape and type need,
    /// [`Error::UnfinishedTensor`] after parts of a tensor, [`Error::Io`].
    pub fn write_tensor(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let (ty, expected) = self.due(name)?;
        let found = bytes.len() as u64;
        if found != expected {
            return Err(Error::EncodedLength { ty, expected, found }.in_tensor(name));
        }
        if self.begun > 0 {
            return Err(Error::UnfinishedTensor { expected, found: self.begun }.in_tensor(name));
        }
        self.append(name, bytes)
    }

    /// Appends a part of the data of the next tensor, which is complete with its last byte. A tensor that is
    /// larger than memory is written so, and what is written of it is never held.
    ///
    /// # Errors
    /// [`Error::WrongOrder`] when `name` is not the next of the infos, [`Error::TooMuchData`] (wrapped in
    /// [`Error::InTensor`]) when the parts have more bytes than its shape and type need, [`Error::Io`].
    pub fn append(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let (_, expected) = self.due(name)?;
        let found = self.begun.saturating_add(bytes.len() as u64);
        if found > expected {
            return Err(Error::TooMuchData { expected, found }.in_tensor(name));
        }
        let writer = &mut self.file.writer;
        writer.write_all(bytes).map_err(Error::io("write", self.file.path()))?;
        self.begun = found;
        if found == expected {
            let padding = pad(found, self.layout.alignment)? - found;
            write_zeros(&mut self.file.writer, padding).map_err(Error::io("write", self.file.path()))?;
            self.written += 1;
            self.begun = 0;
        }
        Ok(())
    }

    /// Encodes the weights of the next tensor, some rows at a time, and appends them.
    ///
    /// `weights` are row-major, with the row length last of `[.., rows, n_per_row]`. `imatrix` has one value per
    /// column for each matrix of the tensor: `n_per_row` values for a dense weight, `n_per_row` times the number
    /// of experts for a weight `[n_per_row, rows, experts]`.
    ///
    /// # Errors
    /// Those of [`encode`](crate::encode) and [`append`](Self::append); [`Error::NotWholeRows`] when `weights` has
    /// another length than the shape.
    pub fn encode_tensor(&mut self, name: &str, weights: &[f32], imatrix: Option<&[f32]>) -> Result<()> {
        /// Encoded at once: enough for all threads, and small against a tensor.
        const WEIGHTS_AT_ONCE: usize = 1 << 22;
        let (ty, expected) = self.due(name)?;
        if self.begun > 0 {
            return Err(Error::UnfinishedTensor { expected, found: self.begun }.in_tensor(name));
        }
        let dims = &self.specs[self.written].dims;
        let in_tensor = |error: Error| error.in_tensor(name);
        let too_large = |_| Error::SizeOverflow { what: "the weights of a tensor" }.in_tensor(name);
        let n_per_row = usize::try_from(dims[0]).map_err(too_large)?;
        let n_weights = usize::try_from(dims.iter().product::<u64>()).map_err(too_large)?;
        let n_matrices = usize::try_from(dims.iter().skip(2).product::<u64>()).map_err(too_large)?;
        if weights.len() != n_weights {
            return Err(in_tensor(Error::NotWholeRows { len: weights.len(), n_per_row }));
        }
        let columns = n_per_row.saturating_mul(n_matrices);
        if let Some(found) = imatrix.map(<[f32]>::len).filter(|&found| found != columns) {
            return Err(in_tensor(Error::ImatrixLength { expected: columns, found }));
        }
        let step = (WEIGHTS_AT_ONCE / n_per_row).max(1) * n_per_row;
        for (at, matrix) in weights.chunks(n_weights / n_matrices).enumerate() {
            let importance = imatrix.map(|values| &values[at * n_per_row..(at + 1) * n_per_row]);
            for (part, rows) in matrix.chunks(step).enumerate() {
                let first_row = (at * matrix.len() + part * step) / n_per_row;
                let bytes = encode(ty, rows, n_per_row, importance)
                    .map_err(|error| in_tensor(error.counted_from_row(first_row)))?;
                self.append(name, &bytes)?;
            }
        }
        Ok(())
    }

    /// The length that the finished file will have.
    pub fn file_bytes(&self) -> u64 {
        self.layout.file_bytes
    }

    /// The tensor whose data is due, or `None` after the last.
    pub fn next_tensor(&self) -> Option<&TensorSpec> {
        self.specs.get(self.written)
    }

    /// Syncs the file, gives it its name and returns its length in bytes.
    ///
    /// # Errors
    /// [`Error::MissingTensors`] when not every tensor was written, [`Error::Io`].
    pub fn finish(self) -> Result<u64> {
        if let Some(first) = self.specs.get(self.written) {
            let missing = self.specs.len() - self.written;
            return Err(Error::MissingTensors { missing, first: first.name.clone() });
        }
        self.file.commit()?;
        Ok(self.layout.file_bytes)
    }

    /// Type and bytes of the tensor that is due, when that is `name`.
    fn due(&self, name: &str) -> Result<(GgmlType, u64)> {
        match self.specs.get(self.written) {
            Some(spec) if spec.name == name => Ok((spec.ty, self.layout.n_bytes[self.written])),
            due => {
                let expected = due.map_or_else(|| "nothing".to_owned(), |spec| spec.name.clone());
                Err(Error::WrongOrder { expected, found: name.to_owned() })
            }
        }
    }
}

fn write_header(
    out: &mut impl Write,
    metadata: &Metadata,
    specs: &[TensorSpec],
    offsets: &[u64],
) -> io::Result<()> {
    out.write_all(&MAGIC)?;
    out.write_all(&VERSION.to_le_bytes())?;
    write_u64(out, specs.len() as u64)?;
    write_u64(out, metadata.len() as u64)?;
    for (key, value) in metadata.iter() {
        write_string(out, key)?;
        write_value(out, value)?;
    }
    for (spec, &offset) in specs.iter().zip(offsets) {
        write_string(out, &spec.name)?;
        out.write_all(&(spec.dims.len() as u32).to_le_bytes())?;
        spec.dims.iter().try_for_each(|&dim| write_u64(out, dim))?;
        out.write_all(&spec.ty.id().to_le_bytes())?;
        write_u64(out, offset)?;
    }
    Ok(())
}

fn write_value(out: &mut impl Write, value: &Value) -> io::Result<()> {
    out.write_all(&value.type_id().to_le_bytes())?;
    match value {
        Value::U8(v) => out.write_all(&v.to_le_bytes()),
        Value::I8(v) => out.write_all(&v.to_le_bytes()),
        Value::U16(v) => out.write_all(&v.to_le_bytes()),
        Value::I16(v) => out.write_all(&v.to_le_bytes()),
        Value::U32(v) => out.write_all(&v.to_le_bytes()),
        Value::I32(v) => out.write_all(&v.to_le_bytes()),
        Value::F32(v) => out.write_all(&v.to_le_bytes()),
        Value::Bool(v) => out.write_all(&[u8::from(*v)]),
        Value::String(v) => write_string(out, v),
        Value::Array(v) => write_array(out, v),
        Value::U64(v) => out.write_all(&v.to_le_bytes()),
        Value::I64(v) => out.write_all(&v.to_le_bytes()),
        Value::F64(v) => out.write_all(&v.to_le_bytes()),
    }
}

fn write_array(out: &mut impl Write, array: &Array) -> io::Result<()> {
    out.write_all(&array.element_type_id().to_le_bytes())?;
    write_u64(out, array.len() as u64)?;
    match array {
        Array::U8(v) => out.write_all(v),
        Array::I8(v) => v.iter().try_for_each(|v| out.write_all(&v.to_le_bytes())),
        Array::U16(v) => v.iter().try_for_each(|v| out.write_all(&v.to_le_bytes())),
        Array::I16(v) => v.iter().try_for_each(|v| out.write_all(&v.to_le_bytes())),
        Array::U32(v) => v.iter().try_for_each(|v| out.write_all(&v.to_le_bytes())),
        Array::I32(v) => v.iter().try_for_each(|v| out.write_all(&v.to_le_bytes())),
        Array::F32(v) => v.iter().try_for_each(|v| out.write_all(&v.to_le_bytes())),
        Array::Bool(v) => v.iter().try_for_each(|v| out.write_all(&[u8::from(*v)])),
        Array::String(v) => v.iter().try_for_each(|v| write_string(out, v)),
        Array::U64(v) => v.iter().try_for_each(|v| out.write_all(&v.to_le_bytes())),
        Array::I64(v) => v.iter().try_for_each(|v| out.write_all(&v.to_le_bytes())),
        Array::F64(v) => v.iter().try_for_each(|v| out.write_all(&v.to_le_bytes())),
    }
}

fn write_string(out: &mut impl Write, text: &str) -> io::Result<()> {
    write_u64(out, text.len() as u64)?;
    out.write_all(text.as_bytes())
}

fn write_u64(out: &mut impl Write, value: u64) -> io::Result<()> {
    out.write_all(&value.to_le_bytes())
}

fn write_zeros(out: &mut impl Write, count: u64) -> io::Result<()> {
    io::copy(&mut io::repeat(0).take(count), out).map(drop)
}

/// Counts what is written to it.
struct ByteCount(u64);

impl Write for ByteCount {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
