//! The text files of the repository.

use std::{fs, path::Path};

use anyhow::{Context, Result};

/// Kinds of files that people write.
const EXTENSIONS: &[&str] = &["rs", "toml", "md", "sh", "yml", "yaml", "py"];
/// Files without an extension that people write.
const NAMES: &[&str] = &[".ci/run", ".gitignore"];
/// Built or fetched, from the root.
const SKIPPED: &[&str] = &["target", ".git", "assets"];

/// A text file.
#[derive(Clone, Debug)]
pub(crate) struct File {
    /// From the root, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl File {
    /// A file for a rule's test.
    #[cfg(test)]
    pub(crate) fn fixture(path: &str, text: &str) -> Self {
        Self { path: path.into(), text: text.into() }
    }
}

/// Every text file below `root`, in the order of paths. Links are not followed.
pub(crate) fn collect(root: &Path) -> Result<Vec<File>> {
    let mut files = Vec::new();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        let dir = root.join(&folder);
        let entries = fs::read_dir(&dir).with_context(|| format!("cannot list {}", dir.display()))?;
        for entry in entries {
            let entry = entry?;
            let (kind, name) = (entry.file_type()?, entry.file_name());
            let Some(name) = name.to_str() else { continue };
            let path = if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
            if kind.is_dir() && !SKIPPED.contains(&path.as_str()) {
                folders.push(path);
            } else if kind.is_file() && is_text(&path) {
                let text = fs::read_to_string(entry.path()).with_context(|| format!("cannot read {path}"))?;
                files.push(File { path, text });
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

fn is_text(path: &str) -> bool {
    let extension = path.rsplit_once('.').map_or("", |(_, extension)| extension);
    NAMES.contains(&path) || EXTENSIONS.contains(&extension)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_files_are_found_and_built_ones_are_not() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let paths: Vec<String> = collect(&root).unwrap().into_iter().map(|file| file.path).collect();
        for path in ["Cargo.toml", ".ci/run", "xtask/src/tidy/files.rs", ".cargo/config.toml"] {
            assert!(paths.iter().any(|found| found == path), "{path} is missing");
        }
        assert!(!paths.iter().any(|path| path.starts_with("target/") || path.starts_with("assets/")));
        assert!(paths.is_sorted());
    }
}
