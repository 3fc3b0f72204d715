//! `cargo xtask tidy`: the invariants that a machine can check.
//!
//! A rule is a function from a file, a manifest or the dependency graph to violations.

mod code;
mod files;
mod graph;
mod manifest;
mod source;
mod text;

use std::fmt;

use anyhow::{Result, bail};

use crate::{process, workspace::Workspace};

/// A broken rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Violation {
    /// File from the root, with its line if the rule has one; or a package.
    place: String,
    /// What is wrong, and what to do instead where that is not plain.
    message: String,
}

impl Violation {
    fn new(place: impl Into<String>, message: impl Into<String>) -> Self {
        Self { place: place.into(), message: message.into() }
    }

    /// `line` counts from zero.
    fn at(path: &str, line: usize, message: impl Into<String>) -> Self {
        Self::new(format!("{path}:{}", line + 1), message)
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let files = files::collect(workspace.root())?;
    let mut violations = Vec::new();
    for file in &files {
        violations.extend(text::check(file));
        if file.path.ends_with(".rs") {
            violations.extend(source::check(file));
        }
        if file.path.ends_with("Cargo.toml") {
            violations.extend(manifest::check(file));
        }
    }
    let packages = workspace.metadata()?.packages;
    violations.extend(graph::check(&packages));
    let tree = ["tree", "-p", "ramp-gguf", "--edges", "normal,build", "--prefix", "none", "--format", "{p}"];
    violations.extend(graph::container_without_burn(&process::stdout(&mut workspace.cargo(&tree))?));

    violations.sort();
    violations.iter().for_each(|violation| println!("{violation}"));
    if !violations.is_empty() {
        bail!("{} violations", violations.len());
    }
    println!("{} files and {} packages are tidy", files.len(), packages.len());
    Ok(())
}
