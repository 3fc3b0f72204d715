//! Zero-shot multiple choice exactly as lm-evaluation-harness 0.4.13 asks and scores it.
//!
//! A task's files become [`Item`]s, an item's choices become token rows ([`TokenPair`]), the model gives each row the
//! log-likelihood of its continuation, and the largest is the answer.

mod arc;
mod hellaswag;
mod item;
mod likelihood;
mod outcome;
mod pair;
#[cfg(feature = "parquet")]
mod parquet;
mod piqa;
mod source;
mod winogrande;

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

pub use self::{
    item::{Item, Request},
    likelihood::{log_likelihoods, tokens_of},
    outcome::{PairedAccuracy, Sample, TaskResult, evaluate},
    pair::{Encoder, TokenPair},
};
use crate::error::{Error, Result};

/// A task. The names are those of the harness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// Physical commonsense: two ways to reach a goal (Bisk et al. 2020), validation split.
    Piqa,
    /// Four endings of a scene (Zellers et al. 2019), validation split.
    #[serde(rename = "hellaswag")]
    HellaSwag,
    /// Which of two nouns a pronoun means (Sakaguchi et al. 2019), XL, development split.
    #[serde(rename = "winogrande")]
    WinoGrande,
    /// Grade-school science questions that retrieval answers (Clark et al. 2018), test split.
    ArcEasy,
    /// Those that retrieval does not answer, test split.
    ArcChallenge,
}

impl Task {
    /// Every task.
    pub const ALL: [Self; 5] =
        [Self::Piqa, Self::HellaSwag, Self::WinoGrande, Self::ArcEasy, Self::ArcChallenge];

    /// The harness' name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Piqa => "piqa",
            Self::HellaSwag => "hellaswag",
            Self::WinoGrande => "winogrande",
            Self::ArcEasy => "arc_easy",
            Self::ArcChallenge => "arc_challenge",
        }
    }

    /// Whether the harness reports `acc_norm`, too. WinoGrande scores the same continuation in every choice, so
    /// that there is no length to divide by.
    #[must_use]
    pub const fn has_acc_norm(self) -> bool {
        !matches!(self, Self::WinoGrande)
    }

    /// The data file and, where labels have one of their own, the file of labels, in `dir`. The data sets' own
    /// folders, flat ones, and the parquet files of Hugging Face's copies are tried.
    ///
    /// # Errors
    /// When there is no data file.
    pub fn find(self, dir: &Path) -> Result<(PathBuf, Option<PathBuf>)> {
        let tried: &[&str] = match self {
            Self::Piqa => &[
                "piqa/valid.jsonl",
                "piqa/dev.jsonl",
                "physicaliqa-train-dev/dev.jsonl",
                "valid.jsonl",
                "piqa/plain_text/validation-00000-of-00001.parquet",
                "piqa/validation-00000-of-00001.parquet",
            ],
            Self::HellaSwag => &[
                "hellaswag/hellaswag_val.jsonl",
                "hellaswag_val.jsonl",
                "hellaswag/data/validation-00000-of-00001.parquet",
                "hellaswag/validation-00000-of-00001.parquet",
            ],
            Self::WinoGrande => &[
                "winogrande/dev.jsonl",
                "winogrande_1.1/dev.jsonl",
                "winogrande/winogrande_xl/validation-00000-of-00001.parquet",
                "winogrande/validation-00000-of-00001.parquet",
            ],
            Self::ArcEasy => &[
                "arc/ARC-Easy-Test.jsonl",
                "ARC-V1-Feb2018-2/ARC-Easy/ARC-Easy-Test.jsonl",
                "ARC-Easy/ARC-Easy-Test.jsonl",
                "ARC-Easy-Test.jsonl",
                "ai2_arc/ARC-Easy/test-00000-of-00001.parquet",
                "arc/ARC-Easy/test-00000-of-00001.parquet",
            ],
            Self::ArcChallenge => &[
                "arc/ARC-Challenge-Test.jsonl",
                "ARC-V1-Feb2018-2/ARC-Challenge/ARC-Challenge-Test.jsonl",
                "ARC-Challenge/ARC-Challenge-Test.jsonl",
                "ARC-Challenge-Test.jsonl",
                "ai2_arc/ARC-Challenge/test-00000-of-00001.parquet",
                "arc/ARC-Challenge/test-00000-of-00001.parquet",
            ],
        };
        let data = tried.iter().map(|name| dir.join(name)).find(|path| path.is_file());
        let data = data.ok_or_else(|| Error::NoTaskFile {
            task: self,
            dir: dir.to_owned(),
            tried: tried.join(", "),
        })?;
        let labels = match self {
            Self::Piqa | Self::WinoGrande => {
                let stem = data.file_stem().unwrap_or_default().to_string_lossy();
                Some(data.with_file_name(format!("{stem}-labels.lst"))).filter(|path| path.is_file())
            }
            _ => None,
        };
        Ok((data, labels))
    }

    /// Reads the items of a file, and their labels from another where the rows have none.
    ///
    /// The whole file is checked, also beyond the `limit` first items that are returned.
    ///
    /// # Errors
    /// When a file cannot be read, is of another task, is empty, or a row of it breaks a rule of the task.
    pub fn read(self, data: &Path, labels: Option<&Path>, limit: Option<usize>) -> Result<Vec<Item>> {
        let mut items = source::read(self, data, labels)?;
        items.truncate(limit.unwrap_or(usize::MAX));
        Ok(items)
    }

    /// [`Task::find`] and [`Task::read`].
    ///
    /// # Errors
    /// As those.
    pub fn load(self, dir: &Path, limit: Option<usize>) -> Result<Vec<Item>> {
        let (data, labels) = self.find(dir)?;
        self.read(&data, labels.as_deref(), limit)
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Task {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|task| task.name() == name);
        found.ok_or_else(|| Error::UnknownTask { name: name.to_owned() })
    }
}

#[cfg(test)]
mod tests;
