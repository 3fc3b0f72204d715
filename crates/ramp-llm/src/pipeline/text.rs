//! One text for calibration, search and report, in disjoint windows.

use std::{
    fs,
    path::{Path, PathBuf},
};

use ramp_eval::{Bos, Protocol, Scored, Windows};
use ramp_model::Tokenizer;
use ramp_search::reward::RewardSplit;

use super::{options::QuantizeOptions, search::SearchTexts};
use crate::error::{Error, Result};

/// The text that comes with RAMP, sampled from its embedded model. A text like those that the quantized model
/// will see is better.
pub const DEFAULT_TEXT: &str = include_str!("../../../../assets/nano/sample.txt");

/// What marks a report whose text decided what is reported.
pub(super) const REWARDED_ON_TEST: &str =
    "the search was rewarded on the test windows: the report is no test";

/// One in this many windows goes to the search, one to the report, the rest to calibration.
const PARTS: usize = 8;

/// Disjoint windows of one text; under [`RewardSplit::Test`] the search has windows of the report.
#[derive(Clone, Debug)]
pub struct TextSplit {
    /// For activation statistics.
    pub calibration: Windows,
    /// For the search's score.
    pub search: Windows,
    /// For the report, seen by nothing before unless the options reward on it.
    pub report: Windows,
}

impl TextSplit {
    /// Reads and cuts the text. Search and report windows are spread over the whole text.
    ///
    /// # Errors
    /// When the file cannot be read, is not UTF-8, or has less than three windows.
    pub fn new(options: &QuantizeOptions, tokenizer: &Tokenizer, max_ctx: usize) -> Result<Self> {
        let (path, text) = match &options.text {
            Some(path) => (path.as_path(), read_text(path)?),
            None => (Path::new("built-in text"), DEFAULT_TEXT.to_owned()),
        };
        let tokens = tokenizer.encode(&text)?;
        let ctx = options.ctx.min(max_ctx);
        let protocol =
            Protocol { ctx, bos: Bos::ReplaceFirst, scored: Scored::All, min_windows: 3, max_windows: None };
        let all = protocol.windows(&tokens, tokenizer.leading_bos()).map_err(|error| match error {
            ramp_eval::Error::TextTooShort { tokens, needed, .. } => Error::Text {
                path: path.to_owned(),
                why: format!(
                    "has {tokens} tokens, calibration needs at least {needed} (three windows of {ctx})"
                ),
            },
            other => other.into(),
        })?;
        let parts = PARTS.min(all.len());
        let report_at = parts / 2;
        let report = at_most(&all.strided(report_at, parts), options.report_tokens, ctx);
        let search = match options.reward_text.split {
            RewardSplit::Search => &all.strided(0, parts),
            RewardSplit::Test => &report,
        };
        let calibration = all.filtered(|index| index % parts != 0 && index % parts != report_at);
        Ok(Self {
            calibration: at_most(&calibration, options.calibration_tokens, ctx),
            search: at_most(search, options.reward_text.tokens.limit(), ctx),
            report,
        })
    }
}

/// The windows of a comparison of searches. No window is in two parts, unless the search is rewarded on the test text.
#[derive(Clone, Debug)]
pub struct SearchSplit {
    /// For activation statistics.
    pub calibration: Windows,
    /// For the score of an allocation.
    pub search: Windows,
    /// For the choice among allocations.
    pub selection: Windows,
    /// For the report.
    pub report: Windows,
    /// Things to know.
    pub warnings: Vec<String>,
}

impl SearchSplit {
    /// Reads and cuts the texts. Parts that have the same text, by whatever name, share it: one window of eight each for
    /// search, selection and report, and all others for calibration; without calibration, in turns.
    ///
    /// # Errors
    /// When a file cannot be read, is not UTF-8, or is too short; when the text of the search is the test text, given as
    /// such, and [`RewardSplit::Test`] does not say so.
    pub fn new(texts: &SearchTexts, tokenizer: &Tokenizer, max_ctx: usize) -> Result<Self> {
        let read = |path: &Option<PathBuf>| -> Result<(PathBuf, String)> {
            match path.as_ref().or(texts.text.as_ref()) {
                Some(path) => Ok((path.clone(), read_text(path)?)),
                None => Ok((PathBuf::from("built-in text"), DEFAULT_TEXT.to_owned())),
            }
        };
        // In the order of `Part`.
        let sources = [&texts.text, &texts.search, &texts.selection, &texts.report].map(read);
        let [calibration, search, selection, report] = sources;
        let sources = [calibration?, search?, selection?, report?];
        let is_test = |part: usize| texts.report.is_some() && sources[part].1 == sources[3].1;
        if texts.reward_text.split != RewardSplit::Test {
            let named = [(1, &texts.search, "search"), (2, &texts.selection, "selection")];
            for (part, own, name) in named {
                if is_test(part) && (own.is_some() || texts.text.is_some()) {
                    let why = format!(
                        "is the test text and the {name} text: what is chosen by it cannot be tested on it (leave the test \
                         text out to split one text, or say --reward-on-test-text)"
                    );
                    return Err(Error::Text { path: sources[part].0.clone(), why });
                }
            }
        }
        let ctx = texts.ctx.min(max_ctx);
        let search_limit = texts.reward_text.tokens.limit();
        let limits = [texts.calibration_tokens, search_limit, texts.selection_tokens, texts.report_tokens];
        let part = |part: usize| -> Result<Windows> {
            let (path, text) = &sources[part];
            let sharing: Vec<usize> = (0..4).filter(|&other| sources[other].1 == *text).collect();
            let all = cut(path, text, tokenizer, ctx, sharing.len())?;
            let own = all.filtered(|window| owner(window, all.len(), &sharing) == part);
            Ok(at_most(&own, limits[part], ctx))
        };
        let report = part(3)?;
        let search = match texts.reward_text.split {
            RewardSplit::Test => at_most(&report, search_limit, ctx),
            RewardSplit::Search => part(1)?,
        };
        let mut warnings = Vec::new();
        if texts.text.is_none() {
            warnings
                .push("calibrated on RAMP's built-in text; pass a text like those the model will see".into());
        }
        Ok(Self { calibration: part(0)?, search, selection: part(2)?, report, warnings })
    }
}

/// Windows spread over a part, of at most so many tokens, and one at least.
fn at_most(windows: &Windows, tokens: usize, ctx: usize) -> Windows {
    let keep = (tokens / ctx).max(1);
    windows.strided(0, windows.len().div_ceil(keep))
}

/// Which of the parts that share a text a window belongs to: 0 is calibration, then search, selection and report.
fn owner(window: usize, windows: usize, sharing: &[usize]) -> usize {
    match sharing {
        [only] => *only,
        [0, others @ ..] => {
            // In every group of windows, the others are spread over it.
            let parts = PARTS.min(windows).max(sharing.len());
            let place = window % parts;
            let turn = (0..others.len()).find(|turn| turn * parts / others.len() == place);
            turn.map_or(0, |turn| others[turn])
        }
        _ => sharing[window % sharing.len()],
    }
}

fn cut(path: &Path, text: &str, tokenizer: &Tokenizer, ctx: usize, min_windows: usize) -> Result<Windows> {
    let tokens = tokenizer.encode(text)?;
    let protocol =
        Protocol { ctx, bos: Bos::ReplaceFirst, scored: Scored::All, min_windows, max_windows: None };
    protocol.windows(&tokens, tokenizer.leading_bos()).map_err(|error| match error {
        ramp_eval::Error::TextTooShort { tokens, needed, .. } => Error::Text {
            path: path.to_owned(),
            why: format!(
                "has {tokens} tokens, at least {needed} are needed ({min_windows} windows of {ctx})"
            ),
        },
        other => other.into(),
    })
}

/// Reads a text file.
///
/// # Errors
/// When it cannot be read, is not UTF-8 or is empty.
pub fn read_text(path: &Path) -> Result<String> {
    let bytes = fs::read(path).map_err(|source| Error::Io { path: path.to_owned(), source })?;
    let text = String::from_utf8(bytes).map_err(|error| Error::Text {
        path: path.to_owned(),
        why: format!("is not UTF-8 at byte {}", error.utf8_error().valid_up_to()),
    })?;
    if text.trim().is_empty() {
        return Err(Error::Text { path: path.to_owned(), why: "is empty".into() });
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_are_none_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("text");
        let cases: [(&[u8], &str); 3] =
            [(b"", "is empty"), (b" \n\t", "is empty"), (b"abc\xff", "is not UTF-8 at byte 3")];
        for (bytes, why) in cases {
            fs::write(&path, bytes).unwrap();
            let message = read_text(&path).unwrap_err().to_string();
            assert_eq!(message, format!("{}: {why}", path.display()));
        }
        fs::write(&path, "K\u{e4}se").unwrap();
        assert_eq!(read_text(&path).unwrap(), "K\u{e4}se");
    }
}
