//! Standard output, and files that a command is about to write.

use std::{
    io::{self, Write},
    path::Path,
};

use serde::Serialize;

use super::failure::{Failure, Result};

/// Prints text on standard output.
///
/// # Errors
/// When it is closed or full.
pub(crate) fn print(text: &str) -> Result {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::ClosedOutput,
        _ => Failure::User(format!("standard output: {error}")),
    })
}

/// Prints a value as indented JSON on standard output.
///
/// # Errors
/// As [`print()`].
pub(crate) fn print_json(value: &impl Serialize) -> Result {
    let mut json =
        serde_json::to_string_pretty(value).map_err(|why| Failure::User(format!("JSON: {why}")))?;
    json.push('\n');
    print(&json)
}

/// Writes a value as indented JSON into a file that is complete or absent.
///
/// # Errors
/// When the file cannot be written.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result {
    Ok(ramp::gguf::write_atomically(path, |file| {
        serde_json::to_writer_pretty(&mut *file, value)?;
        file.write_all(b"\n")
    })?)
}

/// Finds out before a long run that its result cannot be written.
///
/// # Errors
/// When the folder does not exist or cannot be written to, or the path is taken by something that is no file.
pub(crate) fn check_writable(path: &Path) -> Result {
    let fail = |why: String| Err(Failure::file(path, why));
    match path.metadata() {
        Ok(found) if found.is_dir() => return fail("cannot write: is a folder, expected a file".into()),
        Ok(found) if !found.is_file() => return fail("cannot write: is not a regular file".into()),
        _ => {}
    }
    if path.file_name().is_none() {
        return fail("cannot write: has no file name".into());
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() {
        return fail(format!("cannot write: there is no folder {}", folder.display()));
    }
    match tempfile::tempfile_in(folder) {
        Ok(_) => Ok(()),
        Err(error) => fail(format!("cannot write: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_in_existing_folders_are_writable() {
        let folder = tempfile::tempdir().unwrap();
        let message = |path: &Path| match check_writable(path) {
            Err(Failure::User(message)) => message,
            other => panic!("{other:?}"),
        };
        let path = folder.path().join("out.gguf");
        assert_eq!(check_writable(&path), Ok(()));
        assert!(!path.exists());
        std::fs::write(&path, b"an older file").unwrap();
        assert_eq!(check_writable(&path), Ok(()));
        assert_eq!(std::fs::read(&path).unwrap(), b"an older file");

        let missing = folder.path().join("no").join("out.gguf");
        assert!(message(&missing).contains("there is no folder"), "{}", message(&missing));
        assert!(message(folder.path()).contains("is a folder"));
        assert!(message(&path.join("out.gguf")).contains("there is no folder"));
        #[cfg(unix)]
        assert!(message(Path::new("/dev/null")).contains("not a regular file"));
    }
}
