//! What a run has gathered, in a folder from which the same run goes on.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::error::{Error, Result};

/// The folder. What belongs to another model, text or set of formats is refused by whoever reads it.
#[derive(Debug)]
pub(super) struct State(PathBuf);

impl State {
    /// Makes the folder where there is none.
    pub(super) fn open(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).map_err(|source| Error::Io { path: folder.to_owned(), source })?;
        Ok(Self(folder.to_owned()))
    }

    /// The sums of the calibration pass.
    pub(super) fn calibration(&self) -> PathBuf {
        self.0.join("calibration.safetensors")
    }

    /// Every score of the search.
    pub(super) fn scores(&self) -> PathBuf {
        self.0.join("scores.jsonl")
    }
}
