//! One text for calibration, search and report, in disjoint windows.

use std::{fs, path::Path};

use ramp_eval::{Bos, Protocol, Scored, Windows};
use ramp_model::Tokenizer;

use super::options::QuantizeOptions;
use crate::error::{Error, Result};

/// The text that comes with RAMP, sampled from its embedded model. A text like those that the quantized model
/// will see is better.
pub const DEFAULT_TEXT: &str = include_str!("../../../../assets/nano/sample.txt");

/// One in this many windows goes to the search, one to the report, the rest to calibration.
const PARTS: usize = 8;

/// Disjoint windows of one text.
#[derive(Clone, Debug)]
pub struct TextSplit {
    /// For activation statistics.
    pub calibration: Windows,
    /// For the search's score.
    pub search: Windows,
    /// For the report, seen by nothing before.
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
        let at_most = |windows: Windows, tokens: usize| {
            let keep = (tokens / ctx).max(1);
            let step = windows.len().div_ceil(keep);
            windows.strided(0, step)
        };
        let report_at = parts / 2;
        Ok(Self {
            calibration: at_most(
                all.filtered(|index| index % parts != 0 && index % parts != report_at),
                options.calibration_tokens,
            ),
            search: at_most(all.strided(0, parts), options.search_tokens),
            report: at_most(all.strided(report_at, parts), options.report_tokens),
        })
    }
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
