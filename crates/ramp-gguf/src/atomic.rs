//! Files that are either complete or absent.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use tempfile::TempPath;

use crate::{Error, Result};

/// Writes a file so that no reader ever sees a part of it.
///
/// The bytes go to a temporary name in the same folder, are synced to the disk and renamed over `path`; then the
/// folder is synced. When `write` fails the temporary file is removed and an earlier `path` stays as it was.
///
/// ```
/// use std::io::Write;
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("report.json");
/// ramp_gguf::write_atomically(&path, |file| file.write_all(b"{}"))?;
/// assert_eq!(std::fs::read(&path)?, b"{}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`Error::Io`] when the folder cannot be written to, when `write` fails, or when syncing or renaming fails;
/// [`Error::NotARegularFile`] when `path` is a folder or a device.
pub fn write_atomically(
    path: impl AsRef<Path>,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> Result<()> {
    let path = path.as_ref();
    let mut file = AtomicFile::create(path)?;
    write(&mut file.writer).map_err(Error::io("write", path))?;
    file.commit()
}

/// A file under a temporary name, removed on drop unless [`commit`](Self::commit)ted.
#[derive(Debug)]
pub(crate) struct AtomicFile {
    path: PathBuf,
    pub(crate) writer: BufWriter<File>,
    temporary: TempPath,
}

impl AtomicFile {
    pub(crate) fn create(path: &Path) -> Result<Self> {
        // Renaming over a device (`-o /dev/null` as root) would replace it.
        if path.metadata().is_ok_and(|metadata| !metadata.is_file()) {
            return Err(Error::NotARegularFile { path: path.to_owned() });
        }
        let name = path.file_name().ok_or_else(|| Error::NotARegularFile { path: path.to_owned() })?;
        let mut prefix = std::ffi::OsString::from(".");
        prefix.push(name);
        prefix.push(".");
        let mut builder = tempfile::Builder::new();
        builder.prefix(&prefix).suffix(".tmp");
        #[cfg(unix)]
        {
            // The mode of an ordinary new file; the process's umask still applies.
            use std::os::unix::fs::PermissionsExt as _;
            builder.permissions(std::fs::Permissions::from_mode(0o666));
        }
        let (file, temporary) =
            builder.tempfile_in(folder_of(path)).map_err(Error::io("create", path))?.into_parts();
        Ok(Self { path: path.to_owned(), writer: BufWriter::with_capacity(1 << 20, file), temporary })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Flushes, syncs and renames.
    pub(crate) fn commit(mut self) -> Result<()> {
        let path = self.path;
        self.writer.flush().map_err(Error::io("write", &path))?;
        self.writer.get_ref().sync_all().map_err(Error::io("sync", &path))?;
        self.temporary.persist(&path).map_err(|error| Error::io("rename to", &path)(error.error))?;
        sync_folder(&path)
    }
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Makes the rename itself survive a power failure.
fn sync_folder(path: &Path) -> Result<()> {
    // Only Unix lets a folder be opened and synced.
    if cfg!(unix) {
        let folder = folder_of(path);
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(Error::io("sync", folder))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        write_atomically(&path, |file| file.write_all(b"old")).unwrap();
        let error = write_atomically(&path, |file| {
            file.write_all(b"half")?;
            Err(io::Error::other("disk on fire"))
        })
        .unwrap_err();
        assert!(matches!(&error, Error::Io { action: "write", .. }), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(names(folder.path()), ["a"]);
    }

    #[test]
    fn the_file_replaces_an_earlier_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, b"a longer old file").unwrap();
        write_atomically(&path, |file| file.write_all(b"new")).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(names(folder.path()), ["a"]);
    }

    #[cfg(unix)]
    #[test]
    fn the_file_has_the_mode_of_an_ordinary_file() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let ordinary = folder.path().join("ordinary");
        std::fs::write(&ordinary, b"").unwrap();
        let path = folder.path().join("a");
        write_atomically(&path, |file| file.write_all(b"new")).unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode();
        assert_eq!(mode(&path), mode(&ordinary));
    }

    #[test]
    fn folders_and_missing_folders_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(write_atomically(folder.path(), |_| Ok(())), Err(Error::NotARegularFile { .. })));
        let path = folder.path().join("missing").join("a");
        assert!(matches!(write_atomically(path, |_| Ok(())), Err(Error::Io { action: "create", .. })));
    }
}
