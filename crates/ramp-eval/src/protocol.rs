//! How a text becomes windows of tokens, and which tokens count.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Where the beginning-of-sequence token goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bos {
    /// Nowhere.
    Never,
    /// Once, in front of the whole text.
    StreamStart,
    /// In place of the first token of every window.
    ReplaceFirst,
}

/// Which predictions of a window count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scored {
    /// All: every token but the window's first.
    All,
    /// Those of the second half: tokens `ctx / 2 + 1` and later.
    SecondHalf,
}

/// A way to cut a text into windows. Perplexities of different protocols do not compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Protocol {
    /// Window length in tokens.
    pub ctx: usize,
    /// Where BOS goes, for tokenizers that add one.
    pub bos: Bos,
    /// Which predictions count.
    pub scored: Scored,
    /// Windows a text must have at least.
    pub min_windows: usize,
    /// Windows used at most, from the start of the text.
    pub max_windows: Option<usize>,
}

impl Protocol {
    /// The protocol of GPTQ, AWQ and SmoothQuant: one stream with one BOS, windows without overlap, every
    /// prediction counts. Its text is [`gptq_text`].
    #[must_use]
    pub const fn gptq(ctx: usize) -> Self {
        Self { ctx, bos: Bos::StreamStart, scored: Scored::All, min_windows: 1, max_windows: None }
    }

    /// The protocol of llama.cpp's `llama-perplexity`: BOS in place of each window's first token, the second
    /// half counts.
    #[must_use]
    pub const fn llama_cpp(ctx: usize) -> Self {
        Self { ctx, bos: Bos::ReplaceFirst, scored: Scored::SecondHalf, min_windows: 2, max_windows: None }
    }

    /// Uses the first `n` windows only.
    #[must_use]
    pub const fn with_max_windows(self, n: Option<usize>) -> Self {
        Self { max_windows: n, ..self }
    }

    /// Cuts `tokens`, a text without special tokens. `bos` is what the tokenizer puts in front of a text, if
    /// anything. What remains behind the last full window is dropped.
    ///
    /// # Errors
    /// When the text is too short, or the window cannot score a token.
    pub fn windows(&self, tokens: &[u32], bos: Option<u32>) -> Result<Windows> {
        let first_target = match self.scored {
            Scored::All => 1,
            Scored::SecondHalf => self.ctx / 2 + 1,
        };
        if self.ctx <= first_target {
            return Err(Error::Context { ctx: self.ctx, min: 2 + usize::from(first_target > 1) });
        }
        if self.max_windows == Some(0) {
            return Err(Error::NoWindows);
        }
        let head = match self.bos {
            Bos::Never => None,
            Bos::StreamStart | Bos::ReplaceFirst => bos,
        };
        // llama.cpp tokenizes with BOS, too, before it cuts.
        let stream: Vec<u32> = head.into_iter().chain(tokens.iter().copied()).collect();
        let needed = self.min_windows * self.ctx;
        if stream.len() < needed {
            return Err(Error::TextTooShort { tokens: stream.len(), ctx: self.ctx, needed });
        }
        let mut windows: Vec<Vec<u32>> = stream
            .chunks_exact(self.ctx)
            .take(self.max_windows.unwrap_or(usize::MAX))
            .map(<[u32]>::to_vec)
            .collect();
        if let (Bos::ReplaceFirst, Some(bos)) = (self.bos, head) {
            windows.iter_mut().for_each(|window| window[0] = bos);
        }
        Ok(Windows { windows, first_target })
    }
}

/// Equally long windows of tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Windows {
    windows: Vec<Vec<u32>>,
    first_target: usize,
}

impl Windows {
    /// The windows.
    #[must_use]
    pub fn tokens(&self) -> Vec<&[u32]> {
        self.windows.iter().map(Vec::as_slice).collect()
    }

    /// Position of the first token that counts; it is predicted from the position before.
    #[must_use]
    pub const fn first_target(&self) -> usize {
        self.first_target
    }

    /// Number of windows.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.windows.len()
    }

    /// Whether there is no window.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.windows.is_empty()
    }

    /// Window length in tokens.
    #[must_use]
    pub fn ctx(&self) -> usize {
        self.windows.first().map_or(0, Vec::len)
    }

    /// Tokens fed to a model by one evaluation.
    #[must_use]
    pub fn n_tokens(&self) -> usize {
        self.len() * self.ctx()
    }

    /// Every `n`-th window from `offset`, for a smaller evaluation or a held-out part.
    #[must_use]
    pub fn strided(&self, offset: usize, n: usize) -> Self {
        self.filtered(|index| index >= offset && (index - offset).is_multiple_of(n.max(1)))
    }

    /// The windows whose index `keep` accepts.
    #[must_use]
    pub fn filtered(&self, keep: impl Fn(usize) -> bool) -> Self {
        let kept = self.windows.iter().enumerate().filter(|(index, _)| keep(*index));
        Self { windows: kept.map(|(_, window)| window.clone()).collect(), first_target: self.first_target }
    }
}

/// The text of the `gptq` protocol: the rows of the data set joined by blank lines.
///
/// A row of WikiText is a line with its line end; a blank line is an empty row. So lines end up three line
/// ends apart, as in the evaluation scripts of GPTQ and AWQ.
#[must_use]
pub fn gptq_text(raw: &str) -> String {
    let rows: Vec<String> = raw
        .lines()
        .map(|line| if line.trim().is_empty() { String::new() } else { format!("{line}\n") })
        .collect();
    rows.join("\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gptq_keeps_one_bos_and_drops_the_rest() {
        let tokens: Vec<u32> = (10..20).collect();
        let windows = Protocol::gptq(4).windows(&tokens, Some(1)).unwrap();
        assert_eq!(windows.tokens(), [[1, 10, 11, 12], [13, 14, 15, 16]]);
        assert_eq!(windows.first_target(), 1);
    }

    #[test]
    fn llama_cpp_replaces_the_first_token() {
        let tokens: Vec<u32> = (10..20).collect();
        let windows = Protocol::llama_cpp(4).windows(&tokens, Some(1)).unwrap();
        assert_eq!(windows.tokens(), [[1, 10, 11, 12], [1, 14, 15, 16]]);
        // ctx - 1 - ctx / 2 = 1 token of four counts: the last.
        assert_eq!(windows.first_target(), 3);
        let without = Protocol::llama_cpp(4).windows(&tokens, None).unwrap();
        assert_eq!(without.tokens(), [[10, 11, 12, 13], [14, 15, 16, 17]]);
    }

    #[test]
    fn short_texts_and_windows_are_errors() {
        let error = |p: Protocol, n: usize| p.windows(&vec![5; n], Some(1)).unwrap_err().to_string();
        assert!(
            error(Protocol::llama_cpp(8), 14).contains("has 15 tokens, windows of 8 tokens need at least 16")
        );
        assert!(error(Protocol::gptq(8), 6).contains("need at least 8"));
        assert!(error(Protocol::gptq(1), 6).contains("too short"));
        assert!(error(Protocol::llama_cpp(2), 6).contains("too short"));
        assert!(error(Protocol::gptq(4).with_max_windows(Some(0)), 6).contains("zero windows"));
    }

    #[test]
    fn rows_are_joined_as_the_scripts_do() {
        assert_eq!(gptq_text(" \n = A = \n \n text \n"), "\n\n = A = \n\n\n\n\n text \n");
    }
}
