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
    /// Windows begin every `stride` tokens, and a token counts in the first window that has it.
    Fresh {
        /// Tokens from the start of one window to the start of the next, `1..=ctx`.
        stride: usize,
    },
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

    /// The protocol of the `transformers` documentation: windows begin every `stride` tokens and overlap; the
    /// last one is shorter. Every token but the text's first counts once, with at least `ctx - stride` tokens
    /// before it (fewer in the first window); with `stride = ctx` the first of each window does not count. Its text
    /// is [`gptq_text`], without BOS.
    ///
    /// `transformers` averages the windows' means with weights that are one too small; here every token has the
    /// same weight.
    #[must_use]
    pub const fn strided(ctx: usize, stride: usize) -> Self {
        Self { ctx, bos: Bos::Never, scored: Scored::Fresh { stride }, min_windows: 0, max_windows: None }
    }

    /// Uses the first `n` windows only.
    #[must_use]
    pub const fn with_max_windows(self, n: Option<usize>) -> Self {
        Self { max_windows: n, ..self }
    }

    /// Cuts `tokens`, a text without special tokens. `bos` is what the tokenizer puts in front of a text, if
    /// anything. What remains behind the last full window is dropped, unless windows overlap.
    ///
    /// # Errors
    /// When the text is too short, or the window cannot score a token.
    pub fn windows(&self, tokens: &[u32], bos: Option<u32>) -> Result<Windows> {
        let first_target = match self.scored {
            Scored::All | Scored::Fresh { .. } => 1,
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
        let needed = (self.min_windows * self.ctx).max(2);
        if stream.len() < needed {
            return Err(Error::TextTooShort { tokens: stream.len(), ctx: self.ctx, needed });
        }
        let max_windows = self.max_windows.unwrap_or(usize::MAX);
        let mut windows: Vec<Window> = match self.scored {
            Scored::Fresh { stride } => overlapping(&stream, self.ctx, stride)?.take(max_windows).collect(),
            Scored::All | Scored::SecondHalf => stream
                .chunks_exact(self.ctx)
                .take(max_windows)
                .map(|tokens| Window { tokens: tokens.to_vec(), first_target })
                .collect(),
        };
        if let (Bos::ReplaceFirst, Some(bos)) = (self.bos, head) {
            windows.iter_mut().for_each(|window| window.tokens[0] = bos);
        }
        Ok(Windows { windows, feeds_last: true })
    }
}

/// The windows of `transformers`' strided perplexity.
fn overlapping(stream: &[u32], ctx: usize, stride: usize) -> Result<impl Iterator<Item = Window> + '_> {
    if stride == 0 || stride > ctx {
        return Err(Error::Stride { stride, ctx });
    }
    // The window that reaches the end of the text is the last.
    let last = stream.len().saturating_sub(ctx).div_ceil(stride);
    Ok((0..=last).map(move |index| {
        let (begin, end) = (index * stride, (index * stride + ctx).min(stream.len()));
        let seen = if index == 0 { 0 } else { begin - stride + ctx };
        // Nothing predicts a window's first token.
        Window { tokens: stream[begin..end].to_vec(), first_target: (seen.saturating_sub(begin)).max(1) }
    }))
}

/// Tokens, and from where on they count.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Window {
    tokens: Vec<u32>,
    first_target: usize,
}

/// Windows of tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Windows {
    windows: Vec<Window>,
    /// Whether a model is given a window's last token, from which nothing is predicted.
    feeds_last: bool,
}

impl Windows {
    /// The windows in which lm-evaluation-harness scores whole documents (`loglikelihood_rolling`): every token
    /// of `documents` counts once. `prefix` predicts a document's first token. A model is given `max_len` tokens
    /// at most; windows do not overlap but for one token, except a document's last window, which reaches back as
    /// far as it may.
    ///
    /// The harness encodes a document with its special tokens, so that a BOS in front of it counts, too.
    ///
    /// # Errors
    /// When `max_len` is zero, or no document has a token.
    pub fn rolling<D: AsRef<[u32]>>(documents: &[D], prefix: u32, max_len: usize) -> Result<Self> {
        if max_len == 0 {
            return Err(Error::Context { ctx: 0, min: 1 });
        }
        let mut windows = Vec::new();
        for document in documents {
            let stream: Vec<u32> = [prefix].into_iter().chain(document.as_ref().iter().copied()).collect();
            // `stream[predicted]` is the last token that is predicted already, or the prefix.
            let mut predicted = 0;
            while predicted + 1 < stream.len() {
                let fresh = max_len.min(stream.len() - 1 - predicted);
                let end = predicted + fresh + 1;
                let begin = end.saturating_sub(max_len + 1);
                let first_target = predicted + 1 - begin;
                windows.push(Window { tokens: stream[begin..end].to_vec(), first_target });
                predicted += fresh;
            }
        }
        if windows.is_empty() {
            return Err(Error::TextTooShort { tokens: 0, ctx: max_len, needed: 1 });
        }
        Ok(Self { windows, feeds_last: false })
    }

    /// The windows.
    #[must_use]
    pub fn tokens(&self) -> Vec<&[u32]> {
        self.windows.iter().map(|window| window.tokens.as_slice()).collect()
    }

    /// What a model is given of a window.
    pub(crate) fn input(&self, window: usize) -> &[u32] {
        let tokens = &self.windows[window].tokens;
        &tokens[..tokens.len() - usize::from(!self.feeds_last)]
    }

    /// The tokens of a window that count.
    pub(crate) fn targets(&self, window: usize) -> &[u32] {
        let Window { tokens, first_target } = &self.windows[window];
        &tokens[*first_target..]
    }

    /// Position in a window of the first token that counts; it is predicted from the position before. `None` when
    /// there is no such window.
    #[must_use]
    pub fn first_target(&self, window: usize) -> Option<usize> {
        self.windows.get(window).map(|window| window.first_target)
    }

    /// Whether two windows have the same length and the same positions that count, so that they can run together.
    pub(crate) fn alike(&self, a: usize, b: usize) -> bool {
        let shape = |window: usize| (self.windows[window].tokens.len(), self.windows[window].first_target);
        shape(a) == shape(b)
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

    /// Length of the first window in tokens; under most protocols all have it.
    #[must_use]
    pub fn ctx(&self) -> usize {
        self.windows.first().map_or(0, |window| window.tokens.len())
    }

    /// Tokens fed to a model by one evaluation.
    #[must_use]
    pub fn n_tokens(&self) -> usize {
        (0..self.len()).map(|window| self.input(window).len()).sum()
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
        Self { windows: kept.map(|(_, window)| window.clone()).collect(), feeds_last: self.feeds_last }
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
        assert_eq!(windows.first_target(0), Some(1));
    }

    #[test]
    fn llama_cpp_replaces_the_first_token() {
        let tokens: Vec<u32> = (10..20).collect();
        let windows = Protocol::llama_cpp(4).windows(&tokens, Some(1)).unwrap();
        assert_eq!(windows.tokens(), [[1, 10, 11, 12], [1, 14, 15, 16]]);
        // ctx - 1 - ctx / 2 = 1 token of four counts: the last.
        assert_eq!(windows.first_target(1), Some(3));
        let without = Protocol::llama_cpp(4).windows(&tokens, None).unwrap();
        assert_eq!(without.tokens(), [[10, 11, 12, 13], [14, 15, 16, 17]]);
    }

    /// The loop of the `transformers` documentation, literally.
    #[test]
    fn strided_windows_are_those_of_transformers() {
        for (n, max_length, stride) in [(23, 8, 4), (24, 8, 4), (8, 8, 4), (9, 8, 8), (5, 8, 4), (30, 7, 3)] {
            let stream: Vec<u32> = (0..n).collect();
            let (mut expected, mut prev_end, mut begin) = (Vec::new(), 0, 0);
            loop {
                let end = (begin + max_length).min(stream.len());
                let trg_len = end - prev_end;
                let window = &stream[begin..end];
                // Labels of the first `len - trg_len` tokens are masked; the first token has no prediction.
                expected.push((window.to_vec(), window.len().saturating_sub(trg_len).max(1)));
                prev_end = end;
                if end == stream.len() {
                    break;
                }
                begin += stride;
            }
            let windows = Protocol::strided(max_length, stride).windows(&stream, Some(99)).unwrap();
            let found: Vec<(Vec<u32>, usize)> =
                windows.windows.iter().map(|w| (w.tokens.clone(), w.first_target)).collect();
            assert_eq!(found, expected, "{n} tokens, {max_length}, {stride}");
            let scored: usize = (0..windows.len()).map(|w| windows.targets(w).len()).sum();
            // Windows that only touch do not predict their first tokens.
            let lost = if stride == max_length { windows.len() } else { 1 };
            assert_eq!(scored, stream.len() - lost);
        }
    }

    /// Hand-made after `get_rolling_token_windows` and `make_disjoint_window` with `context_len` 1.
    #[test]
    fn rolling_windows_score_every_token_once() {
        let windows =
            Windows::rolling(&[vec![1, 2, 3, 4, 5, 6, 7, 8, 9, 10], vec![20, 21], vec![]], 0, 4).unwrap();
        // Model input and the tokens that are scored. The last window of a document has more context.
        let found: Vec<(&[u32], &[u32])> = (0..4).map(|w| (windows.input(w), windows.targets(w))).collect();
        let expected: [(&[u32], &[u32]); 4] = [
            (&[0, 1, 2, 3], &[1, 2, 3, 4]),
            (&[4, 5, 6, 7], &[5, 6, 7, 8]),
            (&[6, 7, 8, 9], &[9, 10]),
            (&[0, 20], &[20, 21]),
        ];
        assert_eq!(found, expected);
        assert_eq!((windows.len(), windows.n_tokens()), (4, 14));
        assert!(windows.alike(0, 1) && !windows.alike(1, 2));
        assert!(Windows::rolling(&[vec![0u32; 0]], 0, 4).is_err());
        assert!(Windows::rolling(&[vec![1]], 0, 0).is_err());
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
        assert!(error(Protocol::strided(4, 5), 6).contains("a stride of 5 tokens"));
        assert!(error(Protocol::strided(4, 0), 6).contains("a stride of 0 tokens"));
        assert!(error(Protocol::strided(4, 2), 1).contains("need at least 2"));
        assert!(error(Protocol::gptq(4).with_max_windows(Some(0)), 6).contains("zero windows"));
    }

    #[test]
    fn rows_are_joined_as_the_scripts_do() {
        assert_eq!(gptq_text(" \n = A = \n \n text \n"), "\n\n = A = \n\n\n\n\n text \n");
    }
}
