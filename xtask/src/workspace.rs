//! Where the repository is, and how to call cargo in it.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::process;

/// The repository.
#[derive(Debug)]
pub(crate) struct Workspace {
    root: PathBuf,
    cargo: OsString,
}

/// The parts of `cargo metadata` that tasks use.
#[derive(Debug, Deserialize)]
pub(crate) struct Metadata {
    /// The workspace's packages.
    pub(crate) packages: Vec<Package>,
    /// Where cargo builds.
    pub(crate) target_directory: PathBuf,
}

/// A package of the workspace.
#[derive(Debug, Deserialize)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) dependencies: Vec<Dependency>,
}

/// What a package's manifest asks for: normal, build and dev dependencies alike.
#[derive(Debug, Deserialize)]
pub(crate) struct Dependency {
    pub(crate) name: String,
}

impl Workspace {
    pub(crate) fn new() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new(".")).to_owned();
        Self { root, cargo: env::var_os("CARGO").unwrap_or_else(|| "cargo".into()) }
    }

    /// The folder of the workspace manifest.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The folder with outside data: as given, or as RAMP_SHARED names it, or beside the repository.
    pub(crate) fn shared(&self, given: Option<&Path>) -> PathBuf {
        let named = given.map(Path::to_owned).or_else(|| env::var_os("RAMP_SHARED").map(PathBuf::from));
        named.unwrap_or_else(|| self.root.join("../shared"))
    }

    /// A model of the zoo in `shared`, or, where there is none of this name, a path.
    pub(crate) fn model(shared: &Path, name: &str) -> PathBuf {
        let zoo = shared.join("zoo").join(name);
        if zoo.is_dir() { zoo } else { PathBuf::from(name) }
    }

    /// The test text of WikiText-2 in `shared`.
    pub(crate) fn test_text(shared: &Path) -> Result<PathBuf> {
        let text = shared.join("data/wikitext2/wiki.test.raw");
        ensure!(text.is_file(), "there is no {} (give the folder with --shared)", text.display());
        Ok(text)
    }

    /// `cargo ARGS`, in the root, as if called by hand. What cargo tells this program of its own package is taken back: the
    /// build script of `ring` runs again when such a variable is another one than last time, and with ring all of Burn
    /// would be compiled again whenever `cargo test` and `cargo xtask` take turns.
    pub(crate) fn cargo(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.cargo);
        command.args(args).current_dir(&self.root);
        for (name, _) in env::vars_os() {
            if ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|own| name.to_string_lossy().starts_with(own)) {
                command.env_remove(name);
            }
        }
        command
    }

    /// The packages of the workspace.
    pub(crate) fn metadata(&self) -> Result<Metadata> {
        let json = process::stdout(&mut self.cargo(&["metadata", "--no-deps", "--format-version", "1"]))?;
        serde_json::from_str(&json).context("cargo metadata")
    }
}
