//! Perplexity (Eq. 7 of the paper).

use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    language_model::LanguageModel,
    moments::Moments,
    protocol::Windows,
    rows::{batches, for_each_rows, located},
};

/// Perplexity of a model on windows of text.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Perplexity {
    /// `exp(mean_nll)`.
    pub perplexity: f64,
    /// Standard error of `perplexity`, by the delta method.
    pub perplexity_se: f64,
    /// Mean negative log-likelihood in nats per token.
    pub mean_nll: f64,
    /// Standard error of `mean_nll`.
    pub mean_nll_se: f64,
    /// Tokens that count.
    pub tokens: u64,
    /// Windows evaluated.
    pub windows: usize,
}

impl Perplexity {
    pub(crate) fn from_moments(nll: &Moments, windows: usize) -> Self {
        let (mean_nll, mean_nll_se) = (nll.mean(), nll.standard_error());
        let perplexity = mean_nll.exp();
        let perplexity_se = perplexity * mean_nll_se;
        Self { perplexity, perplexity_se, mean_nll, mean_nll_se, tokens: nll.count(), windows }
    }

    /// The same likelihood per word and per byte of `text`, whose every token must have been scored. These compare
    /// across tokenizers.
    #[must_use]
    pub fn per(&self, text: TextSize) -> TextPerplexity {
        let (total, total_se) = (self.mean_nll * self.tokens as f64, self.mean_nll_se * self.tokens as f64);
        let (words, bytes) = (text.words.max(1) as f64, text.bytes.max(1) as f64);
        let perplexity = |units: f64| ((total / units).exp(), (total / units).exp() * total_se / units);
        let (word_perplexity, word_perplexity_se) = perplexity(words);
        let (byte_perplexity, byte_perplexity_se) = perplexity(bytes);
        TextPerplexity {
            text,
            word_perplexity,
            word_perplexity_se,
            byte_perplexity,
            byte_perplexity_se,
            bits_per_byte: total / bytes / std::f64::consts::LN_2,
            bits_per_byte_se: total_se / bytes / std::f64::consts::LN_2,
        }
    }
}

/// How long a text is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextSize {
    /// Words: as lm-evaluation-harness counts them, the parts between white space, an empty one at either end
    /// included.
    pub words: u64,
    /// Bytes in UTF-8.
    pub bytes: u64,
}

impl TextSize {
    /// Of one document.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let mut spaces = 0u64;
        let mut in_space = false;
        for c in text.chars() {
            let space = crate::python::is_space(c);
            spaces += u64::from(space && !in_space);
            in_space = space;
        }
        Self { words: spaces + 1, bytes: text.len() as u64 }
    }
}

impl std::iter::Sum for TextSize {
    fn sum<I: Iterator<Item = Self>>(sizes: I) -> Self {
        sizes.fold(Self::default(), |a, b| Self { words: a.words + b.words, bytes: a.bytes + b.bytes })
    }
}

/// Likelihood of a text per word and per byte.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TextPerplexity {
    /// The text.
    #[serde(flatten)]
    pub text: TextSize,
    /// `exp` of the negative log-likelihood per word.
    pub word_perplexity: f64,
    /// Its standard error.
    pub word_perplexity_se: f64,
    /// `exp` of the negative log-likelihood per byte.
    pub byte_perplexity: f64,
    /// Its standard error.
    pub byte_perplexity_se: f64,
    /// Negative log-likelihood in bits per byte.
    pub bits_per_byte: f64,
    /// Its standard error.
    pub bits_per_byte_se: f64,
}

/// Perplexity of `model` on `windows`. `progress` is told the windows done and may stop by returning `false`.
///
/// # Errors
/// When the model fails or gives NaN or infinity, or [`Error::Interrupted`].
pub fn perplexity(
    model: &dyn LanguageModel,
    windows: &Windows,
    mut progress: impl FnMut(usize) -> bool,
) -> Result<Perplexity> {
    let mut nll = Moments::default();
    for batch in batches(windows, model.pace().tokens) {
        let done = batch.end;
        for_each_rows(model, windows, batch, |rows| {
            nll.extend(rows.nll()?);
            Ok(())
        })
        .map_err(|error| located(error, model, windows))?;
        if !progress(done) {
            return Err(Error::Interrupted);
        }
    }
    Ok(Perplexity::from_moments(&nll, windows.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_counted_as_the_harness_does() {
        // len(re.split(r"\s+", text))
        for (text, words) in [("a b", 2), (" a  b\n", 4), ("", 1), (" \n", 2), ("a\u{1c}b", 2)] {
            assert_eq!(TextSize::of(text).words, words, "{text:?}");
        }
        assert_eq!(TextSize::of("é").bytes, 2);
        let sum: TextSize = ["a b", "c"].into_iter().map(TextSize::of).sum();
        assert_eq!(sum, TextSize { words: 3, bytes: 4 });
    }

    #[test]
    fn per_byte_is_the_total_over_bytes() {
        let mut nll = Moments::default();
        nll.extend([1.0, 3.0, 2.0]);
        let text = Perplexity::from_moments(&nll, 1).per(TextSize { words: 2, bytes: 12 });
        assert!((text.word_perplexity - 3f64.exp()).abs() < 1e-12);
        assert!((text.byte_perplexity - 0.5f64.exp()).abs() < 1e-12);
        assert!((text.bits_per_byte - 0.5 / std::f64::consts::LN_2).abs() < 1e-12);
        // The sum of three numbers with standard error sqrt(1/3) of their mean.
        assert!((text.bits_per_byte_se - (1f64 / 3.0).sqrt() * 0.25 / std::f64::consts::LN_2).abs() < 1e-12);
    }
}
