//! The log of a comparison: JSON, one line for what the runs were made with and one for each run.

use std::{fs, io::Write as _, path::Path};

use ramp_gguf::{GgmlType, write_atomically};
use ramp_model::Precision;
use ramp_quant::{Budget, FoldConfig, Rounding};
use ramp_search::{ActionSet, FeatureSource, Fixed, SearchCodec, reward::RewardSplit};
use serde::{Deserialize, Serialize};

use super::{
    options::{SearchAllocator, SearchOptions},
    report::SearchRun,
};
use crate::error::{Error, Result};

/// What every run of a log has in common. Budgets, searches and seeds may be added to a log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// Version of RAMP: another one may search in another way.
    pub ramp: String,
    /// SHA-256 of the model's configuration and every parameter.
    pub model: String,
    /// SHA-256 of the tokens of each part: calibration, search, selection, report.
    pub texts: [String; 4],
    /// Whether the search was rewarded on the test windows.
    pub reward_on_test_text: bool,
    /// The formats to choose from.
    pub types: Vec<GgmlType>,
    /// Types of embedding and head that were not searched.
    pub fixed: Fixed,
    /// Scale folding.
    pub fold: Option<FoldConfig>,
    /// How codes were chosen.
    pub rounding: Rounding,
    /// Which weights were evaluated.
    #[serde(default)]
    pub search_codec: SearchCodec,
    /// Which model features described.
    #[serde(default)]
    pub features: FeatureSource,
    /// Tokens that each run might forward.
    pub tokens: Option<usize>,
    /// Episodes of the agents, where they were not their own number.
    #[serde(default)]
    pub episodes: Option<usize>,
    /// What the blocks computed in.
    #[serde(default)]
    pub precision: Precision,
}

impl Header {
    pub(super) fn new(
        options: &SearchOptions,
        actions: &ActionSet,
        model: String,
        texts: [String; 4],
    ) -> Self {
        Self {
            ramp: env!("CARGO_PKG_VERSION").to_owned(),
            model,
            texts,
            reward_on_test_text: options.texts.reward_text.split == RewardSplit::Test,
            types: actions.types().to_vec(),
            fixed: options.fixed,
            fold: options.fold,
            rounding: options.rounding,
            search_codec: options.search_codec,
            features: options.features,
            tokens: options.tokens,
            episodes: options.episodes,
            precision: options.precision,
        }
    }
}

/// Finished runs, on disk where a path was given.
#[derive(Debug)]
pub(super) struct Log<'a> {
    path: Option<&'a Path>,
    header: Header,
    pub(super) runs: Vec<SearchRun>,
}

impl<'a> Log<'a> {
    /// Reads a log if there is one.
    ///
    /// # Errors
    /// When it is not one, or of runs that were made with something else.
    pub(super) fn open(path: Option<&'a Path>, header: Header) -> Result<Self> {
        let mut log = Self { path, header, runs: Vec::new() };
        let Some(path) = path.filter(|path| path.exists()) else { return Ok(log) };
        let refuse = |why: String| Error::Input { path: path.to_owned(), why };
        let text = fs::read_to_string(path).map_err(|source| Error::Io { path: path.to_owned(), source })?;
        let mut lines = text.lines().enumerate();
        let (_, first) =
            lines.next().ok_or_else(|| refuse("is empty, expected the log of a search".into()))?;
        let found: Header = serde_json::from_str(first)
            .map_err(|error| refuse(format!("is not the log of a search: line 1: {error}")))?;
        if let Some((field, there, here)) = difference(&found, &log.header) {
            return Err(refuse(format!(
                "is the log of another search: `{field}` is {there} there and {here} here; name another log"
            )));
        }
        for (at, line) in lines {
            let run = serde_json::from_str(line)
                .map_err(|error| refuse(format!("is not the log of a search: line {}: {error}", at + 1)))?;
            log.runs.push(run);
        }
        Ok(log)
    }

    /// Whether a run was made.
    pub(super) fn has(&self, allocator: SearchAllocator, budget: Budget, seed: u64) -> bool {
        self.runs.iter().any(|run| (run.allocator, run.budget, run.seed) == (allocator, budget, seed))
    }

    /// Adds a run and writes the log anew, so that it is complete at any time.
    pub(super) fn push(&mut self, run: SearchRun) -> Result<()> {
        self.runs.push(run);
        let Some(path) = self.path else { return Ok(()) };
        Ok(write_atomically(path, |file| {
            serde_json::to_writer(&mut *file, &self.header)?;
            file.write_all(b"\n")?;
            for run in &self.runs {
                serde_json::to_writer(&mut *file, run)?;
                file.write_all(b"\n")?;
            }
            Ok(())
        })?)
    }
}

/// The first field in which two headers differ, with both values.
fn difference(a: &Header, b: &Header) -> Option<(String, String, String)> {
    let fields = |header: &Header| match serde_json::to_value(header) {
        Ok(serde_json::Value::Object(fields)) => fields,
        _ => serde_json::Map::new(),
    };
    let (a, b) = (fields(a), fields(b));
    let differing = a.iter().find(|(name, value)| b.get(*name) != Some(value));
    differing.map(|(name, value)| {
        let other = b.get(name).map_or_else(String::new, ToString::to_string);
        (name.clone(), value.to_string(), other)
    })
}
