//! Everything before the tensor data: parsed and checked as a whole before any of it is handed out.

use std::collections::HashMap;

use crate::cursor::Cursor;
use crate::value::{TYPE_ARRAY, TYPE_STRING};
use crate::{Array, Error, GgmlType, Metadata, Result, Value};

/// The four bytes that every GGUF file starts with.
pub(crate) const MAGIC: [u8; 4] = *b"GGUF";
/// The version that is written; 2 is read too, the layout is the same.
pub(crate) const VERSION: u32 = 3;
/// Alignment of tensor data when `general.alignment` is absent.
pub(crate) const DEFAULT_ALIGNMENT: u32 = 32;
/// The key that overrides [`DEFAULT_ALIGNMENT`].
pub(crate) const ALIGNMENT_KEY: &str = "general.alignment";
/// A larger alignment than a huge page's base has no use, and would only blow up padding.
pub(crate) const MAX_ALIGNMENT: u32 = 1 << 16;
/// `GGML_MAX_NAME` less its terminating zero.
pub(crate) const MAX_TENSOR_NAME: usize = 63;
/// `GGML_MAX_DIMS`.
pub(crate) const MAX_DIMS: usize = 4;
/// Limit of the specification.
const MAX_KEY: usize = 65535;
/// The largest strings in use are chat templates, of some tens of kilobytes (llama.cpp allows 1 GiB).
const MAX_STRING: u64 = 1 << 24;
/// The largest arrays in use are vocabularies and merges, of some hundred thousand elements (llama.cpp: 2^30).
const MAX_ARRAY: u64 = 1 << 26;
/// Key length, one byte of key, type, one byte of value.
const MIN_KV_BYTES: u64 = 8 + 1 + 4 + 1;
/// Name length, one byte of name, dimension count, one dimension, type, offset.
const MIN_INFO_BYTES: u64 = 8 + 1 + 4 + 8 + 4 + 8;

/// Where and how one tensor is stored.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct TensorInfo {
    /// The name, at most 63 bytes.
    pub name: String,
    /// Dimensions in ggml's `ne` order: `dims[0]` is the row length, the reverse of a PyTorch shape.
    pub dims: Vec<u64>,
    /// The storage type.
    pub ty: GgmlType,
    /// Bytes from the start of the data section.
    pub offset: u64,
    /// Bytes of data, without padding.
    pub n_bytes: u64,
}

impl TensorInfo {
    /// The number of weights.
    pub fn n_elements(&self) -> u64 {
        // `Header::parse` has checked that the product fits.
        self.dims.iter().product()
    }

    /// Weights per row.
    pub fn n_per_row(&self) -> u64 {
        self.dims[0]
    }

    /// The number of rows.
    pub fn n_rows(&self) -> u64 {
        self.dims[1..].iter().product()
    }
}

/// The parsed head of a GGUF file: metadata, tensor infos, and where the data starts.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub struct Header {
    /// 2 or 3.
    pub version: u32,
    /// Every tensor's data starts at a multiple of this many bytes.
    pub alignment: u64,
    /// The key-value part.
    pub metadata: Metadata,
    /// The tensors in the order of the file.
    pub tensors: Vec<TensorInfo>,
    /// Bytes from the start of the file to the data section.
    pub data_start: u64,
}

impl Header {
    /// Parses the bytes of a whole file and checks every rule that llama.cpp's loader relies on: limits on all
    /// counts and lengths before anything is allocated, unique names, known types, whole blocks, gap-free
    /// offsets, data inside the file.
    ///
    /// # Errors
    /// The variants of [`Error`] under "reading a container", wrapped in [`Error::InTensor`] where a tensor is
    /// at fault.
    pub fn parse(file: &[u8]) -> Result<Self> {
        let mut cursor = Cursor::new(file);
        let magic = cursor.take(4.min(file.len() as u64), "the magic number")?;
        if magic != MAGIC {
            return Err(Error::BadMagic { found: magic.to_owned() });
        }
        let version = cursor.u32("the version")?;
        match version {
            2 | 3 => {}
            // The low half of a byte-swapped small number is zero.
            _ if version != 0 && version & 0xffff == 0 => return Err(Error::BigEndian { version }),
            _ => return Err(Error::UnsupportedVersion { version }),
        }
        let n_tensors = cursor.u64("the tensor count")?;
        let n_kv = cursor.u64("the metadata count")?;
        let left = cursor.left() as u64;
        check_count("metadata keys", n_kv, left / MIN_KV_BYTES)?;
        check_count("tensors", n_tensors, left / MIN_INFO_BYTES)?;

        let mut metadata = Metadata::new();
        for _ in 0..n_kv {
            let key = read_key(&mut cursor)?;
            let value = read_value(&mut cursor, &key)?;
            if metadata.contains_key(&key) {
                return Err(Error::DuplicateKey { key });
            }
            metadata.insert(key, value);
        }
        let alignment = alignment_of(&metadata)?;

        let mut tensors = Vec::new();
        let mut index = HashMap::new();
        for at in 0..n_tensors {
            let name = read_string(&mut cursor, MAX_STRING, "a tensor name", || "a tensor name".into())?;
            check_tensor_name(&name)?;
            if index.insert(name.clone(), at).is_some() {
                return Err(Error::DuplicateTensor { name });
            }
            match read_info(&mut cursor) {
                Ok((dims, ty, offset, n_bytes)) => {
                    tensors.push(TensorInfo { name, dims, ty, offset, n_bytes });
                }
                Err(error) => return Err(error.in_tensor(&name)),
            }
        }

        let file_len = file.len() as u64;
        let infos_end = cursor.position() as u64;
        // Without tensors there is no data section and nothing is padded.
        let data_start = if tensors.is_empty() { infos_end } else { pad(infos_end, alignment)? };
        check_offsets(&tensors, alignment, data_start, file_len)?;
        Ok(Self { version, alignment, metadata, tensors, data_start })
    }

    /// The data of one of [`tensors`](Self::tensors), as a part of the bytes that were parsed.
    ///
    /// # Panics
    /// When `file` is shorter than the bytes that were parsed, or `tensor` is not from this header.
    pub(crate) fn data_of<'a>(&self, file: &'a [u8], tensor: &TensorInfo) -> &'a [u8] {
        data_of(file, self.data_start, tensor)
    }
}

/// The data of a tensor of a file whose data section starts at `data_start`.
pub(crate) fn data_of<'a>(file: &'a [u8], data_start: u64, tensor: &TensorInfo) -> &'a [u8] {
    // `Header::parse` has checked that the range lies inside the file, whose length is a `usize`.
    let start = (data_start + tensor.offset) as usize;
    &file[start..start + tensor.n_bytes as usize]
}

/// `length` rounded up to a multiple of `alignment`, a power of two.
pub(crate) fn pad(length: u64, alignment: u64) -> Result<u64> {
    length.checked_next_multiple_of(alignment).ok_or(Error::SizeOverflow { what: "the bytes of the file" })
}

/// The data alignment that the metadata asks for.
pub(crate) fn alignment_of(metadata: &Metadata) -> Result<u64> {
    let found = metadata.find::<u32>(ALIGNMENT_KEY)?.unwrap_or(DEFAULT_ALIGNMENT);
    if !found.is_power_of_two() || found > MAX_ALIGNMENT {
        return Err(Error::BadAlignment { found });
    }
    Ok(u64::from(found))
}

pub(crate) fn check_key(key: &str) -> Result<()> {
    if key.is_empty() || key.len() > MAX_KEY || !key.is_ascii() {
        // Do not let a hostile key fill the terminal.
        return Err(Error::BadKey { key: key.chars().take(80).collect() });
    }
    Ok(())
}

pub(crate) fn check_tensor_name(name: &str) -> Result<()> {
    if name.is_empty() || name.len() > MAX_TENSOR_NAME {
        return Err(Error::BadTensorName { name: name.chars().take(80).collect() });
    }
    Ok(())
}

/// Checks the dimensions against the type and returns the bytes of data.
pub(crate) fn data_bytes(dims: &[u64], ty: GgmlType) -> Result<u64> {
    if dims.is_empty() || dims.len() > MAX_DIMS {
        return Err(Error::BadDimCount { n_dims: dims.len() as u64 });
    }
    if let Some(axis) = dims.iter().position(|&dim| dim == 0) {
        return Err(Error::ZeroDim { axis, dims: dims.to_owned() });
    }
    let elements = dims.iter().try_fold(1_u64, |product, &dim| product.checked_mul(dim));
    let elements = elements
        .filter(|&elements| i64::try_from(elements).is_ok())
        .ok_or_else(|| Error::TooManyElements { dims: dims.to_owned() })?;
    let block_size = ty.block_size() as u64;
    if !dims[0].is_multiple_of(block_size) {
        return Err(Error::RowNotBlockMultiple { ty, n_per_row: dims[0] });
    }
    (elements / block_size)
        .checked_mul(ty.type_size() as u64)
        .ok_or(Error::SizeOverflow { what: "the bytes of a tensor" })
}

fn check_count(what: &'static str, count: u64, limit: u64) -> Result<()> {
    if count > limit {
        return Err(Error::CountTooLarge { what, count, limit });
    }
    Ok(())
}

fn read_string(
    cursor: &mut Cursor<'_>,
    limit: u64,
    what: &'static str,
    name: impl FnOnce() -> String,
) -> Result<String> {
    let length = cursor.u64(what)?;
    let limit = limit.min(cursor.left() as u64);
    if length > limit {
        return Err(Error::StringTooLong { what, length, limit });
    }
    let bytes = cursor.take(length, what)?;
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(_) => Err(Error::NotUtf8 { what: name() }),
    }
}

fn read_key(cursor: &mut Cursor<'_>) -> Result<String> {
    let key = read_string(cursor, MAX_STRING, "a metadata key", || "a metadata key".into())?;
    check_key(&key)?;
    Ok(key)
}

fn read_value(cursor: &mut Cursor<'_>, key: &str) -> Result<Value> {
    let id = cursor.u32("a value type")?;
    if id == TYPE_ARRAY {
        let element_id = cursor.u32("an array's element type")?;
        return read_array(cursor, key, element_id).map(Value::Array);
    }
    if id == TYPE_STRING {
        return read_text(cursor, key).map(Value::String);
    }
    const WHAT: &str = "a metadata value";
    Ok(match id {
        0 => Value::U8(u8::from_le_bytes(cursor.array(WHAT)?)),
        1 => Value::I8(i8::from_le_bytes(cursor.array(WHAT)?)),
        2 => Value::U16(u16::from_le_bytes(cursor.array(WHAT)?)),
        3 => Value::I16(i16::from_le_bytes(cursor.array(WHAT)?)),
        4 => Value::U32(u32::from_le_bytes(cursor.array(WHAT)?)),
        5 => Value::I32(i32::from_le_bytes(cursor.array(WHAT)?)),
        6 => Value::F32(f32::from_le_bytes(cursor.array(WHAT)?)),
        7 => Value::Bool(to_bool(cursor.array::<1>(WHAT)?[0], key)?),
        10 => Value::U64(u64::from_le_bytes(cursor.array(WHAT)?)),
        11 => Value::I64(i64::from_le_bytes(cursor.array(WHAT)?)),
        12 => Value::F64(f64::from_le_bytes(cursor.array(WHAT)?)),
        _ => return Err(Error::UnknownValueType { key: key.to_owned(), id }),
    })
}

fn read_text(cursor: &mut Cursor<'_>, key: &str) -> Result<String> {
    read_string(cursor, MAX_STRING, "a metadata string", || format!("a string of metadata key `{key}`"))
}

fn to_bool(byte: u8, key: &str) -> Result<bool> {
    match byte {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Error::BadBool { key: key.to_owned(), byte }),
    }
}

fn read_array(cursor: &mut Cursor<'_>, key: &str, element_id: u32) -> Result<Array> {
    let count = cursor.u64("an array's length")?;
    let element_bytes: u64 = match element_id {
        0 | 1 | 7 => 1,
        2 | 3 => 2,
        4..=6 => 4,
        // Every string has at least its length.
        TYPE_STRING | 10..=12 => 8,
        TYPE_ARRAY => return Err(Error::NestedArray { key: key.to_owned() }),
        id => return Err(Error::UnknownValueType { key: key.to_owned(), id }),
    };
    let limit = MAX_ARRAY.min(cursor.left() as u64 / element_bytes);
    if count > limit {
        return Err(Error::ArrayTooLong { key: key.to_owned(), count, limit });
    }
    if element_id == TYPE_STRING {
        // Grown by pushing: the handles of empty strings take three times their bytes in the file.
        let mut strings = Vec::new();
        for _ in 0..count {
            strings.push(read_text(cursor, key)?);
        }
        return Ok(Array::String(strings));
    }
    let bytes = cursor.take(count * element_bytes, "a metadata array")?;
    macro_rules! elements {
        ($element:ty) => {{
            let (chunks, _) = bytes.as_chunks();
            chunks.iter().map(|chunk| <$element>::from_le_bytes(*chunk)).collect::<Vec<_>>().into()
        }};
    }
    Ok(match element_id {
        0 => elements!(u8),
        1 => elements!(i8),
        2 => elements!(u16),
        3 => elements!(i16),
        4 => elements!(u32),
        5 => elements!(i32),
        6 => elements!(f32),
        7 => Array::Bool(bytes.iter().map(|&byte| to_bool(byte, key)).collect::<Result<_>>()?),
        10 => elements!(u64),
        11 => elements!(i64),
        _ => elements!(f64),
    })
}

fn read_info(cursor: &mut Cursor<'_>) -> Result<(Vec<u64>, GgmlType, u64, u64)> {
    const WHAT: &str = "a tensor info";
    let n_dims = cursor.u32(WHAT)?;
    if !(1..=MAX_DIMS as u32).contains(&n_dims) {
        return Err(Error::BadDimCount { n_dims: u64::from(n_dims) });
    }
    let dims = (0..n_dims).map(|_| cursor.u64(WHAT)).collect::<Result<Vec<_>>>()?;
    let ty = GgmlType::from_id(cursor.u32(WHAT)?)?;
    let offset = cursor.u64(WHAT)?;
    let n_bytes = data_bytes(&dims, ty)?;
    Ok((dims, ty, offset, n_bytes))
}

fn check_offsets(tensors: &[TensorInfo], alignment: u64, data_start: u64, file_len: u64) -> Result<()> {
    let mut expected = 0;
    for tensor in tensors {
        let check = || {
            let offset = tensor.offset;
            if !offset.is_multiple_of(alignment) {
                return Err(Error::MisalignedOffset { offset, alignment });
            }
            if offset != expected {
                return Err(Error::WrongOffset { expected, found: offset });
            }
            let past = || Error::SizeOverflow { what: "the bytes of the file" };
            let end = offset.checked_add(tensor.n_bytes).ok_or_else(past)?;
            let end = data_start.checked_add(end).ok_or_else(past)?;
            if end > file_len {
                return Err(Error::DataPastEnd { end, file_len });
            }
            Ok(offset + pad(tensor.n_bytes, alignment)?)
        };
        expected = check().map_err(|error| error.in_tensor(&tensor.name))?;
    }
    Ok(())
}
