//! A read-only memory map that is used as a byte slice.

use std::fmt;
use std::fs::File;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use crate::{Error, Result};

/// A file whose bytes are read straight from the page cache.
///
/// Nothing is copied: a 14 GB file costs address space, and memory only for the pages that are touched.
/// The file must not be changed while it is mapped; replace it by writing a new one and renaming it
/// ([`write_atomically`](crate::write_atomically)), which leaves existing maps as they were.
pub struct MappedFile {
    path: PathBuf,
    /// `None` for an empty file, which the operating system refuses to map.
    map: Option<Mmap>,
}

impl MappedFile {
    /// Maps a file.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be opened or mapped, [`Error::NotARegularFile`] for folders, devices
    /// and pipes.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let file = File::open(path).map_err(Error::io("open", path))?;
        let metadata = file.metadata().map_err(Error::io("open", path))?;
        if !metadata.is_file() {
            return Err(Error::NotARegularFile { path: path.to_owned() });
        }
        let map = match metadata.len() {
            0 => None,
            _ => Some(map_read_only(&file).map_err(Error::io("map", path))?),
        };
        Ok(Self { path: path.to_owned(), map })
    }

    /// The path that the file was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[allow(unsafe_code)]
fn map_read_only(file: &File) -> std::io::Result<Mmap> {
    // SAFETY: the map is private to this process and read only. What remains is that another process truncates
    // or rewrites the file while it is mapped, which no program can exclude for a map; files are replaced by
    // rename here, and every use of the bytes is bounds-checked against the length of the map.
    unsafe { Mmap::map(file) }
}

impl Deref for MappedFile {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.map.as_deref().unwrap_or_default()
    }
}

impl AsRef<[u8]> for MappedFile {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for MappedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MappedFile").field("path", &self.path).field("len", &self.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_an_empty_slice() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("empty");
        std::fs::write(&path, b"").unwrap();
        let map = MappedFile::open(&path).unwrap();
        assert!(map.is_empty());
        assert_eq!(map.path(), path);
    }

    #[test]
    fn a_folder_and_a_missing_file_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(MappedFile::open(folder.path()), Err(Error::NotARegularFile { .. })));
        assert!(matches!(
            MappedFile::open(folder.path().join("missing")),
            Err(Error::Io { action: "open", .. })
        ));
    }
}
