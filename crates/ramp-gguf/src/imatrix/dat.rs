//! The older form, little-endian, without magic: the number of entries, then per entry its name, the number of
//! chunks, and the mean squared activations times that number; then the number of chunks and the dataset.

use super::{Imatrix, ImatrixEntry, reason};
use crate::cursor::Cursor;
use crate::{Error, Result};

/// llama-imatrix's default, which the format does not record.
const CHUNK_SIZE: u32 = 512;
/// Name length, calls, value count.
const MIN_ENTRY_BYTES: usize = 12;

pub(super) fn to_bytes(imatrix: &Imatrix) -> Result<Vec<u8>> {
    let chunk_size = u64::from(imatrix.chunk_size.max(1));
    imatrix.check_not_empty()?;
    let seen = || imatrix.entries.iter().filter(|(_, entry)| entry.counts.iter().any(|&count| count > 0));
    let mut bytes = Vec::new();
    bytes.extend(to_i32("the number of entries", seen().count() as u64)?);
    for (name, entry) in seen() {
        let calls = entry.counts.iter().max().map_or(0, |count| count.div_ceil(chunk_size));
        bytes.extend(to_i32(name, name.len() as u64)?);
        bytes.extend(name.as_bytes());
        bytes.extend(to_i32(name, calls)?);
        bytes.extend(to_i32(name, entry.sums.len() as u64)?);
        for value in entry.importance() {
            bytes.extend((value * calls as f32).to_le_bytes());
        }
    }
    bytes.extend(to_i32("the number of chunks", u64::from(imatrix.chunk_count))?);
    let dataset = imatrix.datasets.join(", ");
    bytes.extend(to_i32("the name of the dataset", dataset.len() as u64)?);
    bytes.extend(dataset.as_bytes());
    Ok(bytes)
}

fn to_i32(name: &str, value: u64) -> Result<[u8; 4]> {
    let value = i32::try_from(value).map_err(|_| reason(name, format!("{value} does not fit in 31 bits")))?;
    Ok(value.to_le_bytes())
}

pub(super) fn parse(bytes: &[u8]) -> Result<Imatrix> {
    let mut cursor = Cursor::new(bytes);
    let entries = read_length(&mut cursor, "the number of entries")?;
    let limit = (cursor.left() / MIN_ENTRY_BYTES) as u64;
    if entries == 0 || entries > limit {
        return Err(Error::CountTooLarge { what: "imatrix entries", count: entries, limit });
    }
    let mut imatrix = Imatrix { chunk_size: CHUNK_SIZE, ..Imatrix::default() };
    for _ in 0..entries {
        let length = read_length(&mut cursor, "the length of a name")?;
        let name = read_text(&mut cursor, length, "a name")?;
        let calls = read_length(&mut cursor, "the number of calls")?;
        let values = read_length(&mut cursor, "the number of values")?;
        let values = cursor.take(values * 4, "the values of an entry")?;
        // Back to sums over tokens: the values are means times calls. Without calls they are the means.
        let factor = if calls == 0 { 1.0 } else { CHUNK_SIZE as f32 };
        let count = if calls == 0 { 1 } else { calls * u64::from(CHUNK_SIZE) };
        let sums = values.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes) * factor).collect();
        if imatrix.entries.contains_key(&name) {
            return Err(reason(&name, "appears twice"));
        }
        imatrix.insert(name, ImatrixEntry { sums, counts: vec![count] })?;
    }
    // Files from before the trailer existed end here.
    if cursor.left() > 0 {
        imatrix.chunk_count = read_length(&mut cursor, "the number of chunks")? as u32;
        let length = read_length(&mut cursor, "the length of the dataset's name")?;
        imatrix.datasets.push(read_text(&mut cursor, length, "the dataset's name")?);
    }
    Ok(imatrix)
}

/// A signed number that must not be negative.
fn read_length(cursor: &mut Cursor<'_>, what: &'static str) -> Result<u64> {
    let length = cursor.i32(what)?;
    u64::try_from(length).map_err(|_| Error::Imatrix { reason: format!("{what} is {length}") })
}

fn read_text(cursor: &mut Cursor<'_>, length: u64, what: &'static str) -> Result<String> {
    let bytes = cursor.take(length, what)?;
    String::from_utf8(bytes.to_vec()).map_err(|_| Error::NotUtf8 { what: what.into() })
}
