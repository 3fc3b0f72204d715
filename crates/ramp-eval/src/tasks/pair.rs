//! Text to tokens as the harness does it (`_encode_pair`).

use ramp_model::{ModelConfig, Tokenizer};

use super::Request;
use crate::{
    error::{Error, Result},
    python::is_space,
};

/// A row of tokens whose last ones are scored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenPair {
    pub(super) tokens: Vec<u32>,
    pub(super) scored: usize,
}

impl TokenPair {
    /// Context and continuation. A model is given all but the last.
    #[must_use]
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// How many of the last tokens are the continuation.
    #[must_use]
    pub const fn scored(&self) -> usize {
        self.scored
    }

    /// What a model is given.
    pub(super) fn input(&self) -> &[u32] {
        &self.tokens[..self.tokens.len() - 1]
    }

    /// The continuation.
    pub(super) fn targets(&self) -> &[u32] {
        &self.tokens[self.tokens.len() - self.scored..]
    }
}

/// Turns requests into tokens for one model.
#[derive(Clone, Debug)]
pub struct Encoder {
    tokenizer: Tokenizer,
    /// What stands in front of a continuation that has no context: BOS, or EOS where there is none.
    prefix: Option<u32>,
    max_length: usize,
}

impl Encoder {
    /// For a model. Rows longer than its context lose tokens on the left.
    #[must_use]
    pub fn new(tokenizer: Tokenizer, config: &ModelConfig) -> Self {
        let prefix = tokenizer.leading_bos().or(config.bos_token_id).or(config.eos_token_id);
        Self::with(tokenizer, prefix, config.max_position_embeddings)
    }

    /// For a model of one's own: `prefix` stands in front of a continuation that has no context, and rows longer than
    /// `max_length` tokens lose tokens on the left.
    #[must_use]
    pub const fn with(tokenizer: Tokenizer, prefix: Option<u32>, max_length: usize) -> Self {
        Self { tokenizer, prefix, max_length }
    }

    /// Tokens of a text with BOS in front where the tokenizer adds one, but not a second one.
    fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let mut ids = self.tokenizer.encode(text)?;
        if let Some(bos) = self.tokenizer.leading_bos()
            && ids.first() != Some(&bos)
        {
            ids.insert(0, bos);
        }
        Ok(ids)
    }

    /// Encodes context and continuation as one text, and the context alone; what the first has more is the
    /// continuation. White space between the two belongs to the continuation. Whether the tokens of the context
    /// are a prefix of those of the whole is not asked, as in the harness.
    ///
    /// # Errors
    /// When the tokenizer fails, the continuation has no token or more than the model's context, or the context
    /// is empty and there is neither BOS nor EOS.
    pub fn encode_pair(&self, request: &Request) -> Result<TokenPair> {
        let Request { context, continuation } = request;
        let (mut tokens, start) = if context.is_empty() {
            let prefix = self.prefix.ok_or(Error::NoPrefix)?;
            let mut tokens = self.tokenizer.encode(continuation)?;
            // A continuation that begins with the prefix is its own context.
            if tokens.first() != Some(&prefix) {
                tokens.insert(0, prefix);
            }
            (tokens, 1)
        } else {
            let start = self.encode(context.trim_end_matches(is_space))?.len();
            (self.encode(&format!("{context}{continuation}"))?, start)
        };
        let scored = tokens.len().saturating_sub(start);
        if scored == 0 || scored > self.max_length || scored >= tokens.len() {
            return Err(Error::Continuation {
                tokens: scored,
                max: self.max_length,
                text: continuation.chars().take(40).collect(),
            });
        }
        tokens.drain(..tokens.len().saturating_sub(self.max_length + 1));
        Ok(TokenPair { tokens, scored })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nano::{nano, tokenizer};

    fn encode(context: &str, continuation: &str) -> Result<TokenPair> {
        let request = Request { context: context.into(), continuation: continuation.into() };
        Encoder::new(tokenizer(), nano().config()).encode_pair(&request)
    }

    #[test]
    fn the_continuation_is_what_the_whole_has_more() {
        let ids = |text: &str| tokenizer().encode(text).unwrap();
        let bos = tokenizer().leading_bos().unwrap();
        let pair = encode("Question: who?\nAnswer:", " the old man").unwrap();
        let whole = ids("Question: who?\nAnswer: the old man");
        assert_eq!(pair.tokens[0], bos);
        assert_eq!(pair.tokens[1..], whole);
        assert_eq!(pair.scored, whole.len() - ids("Question: who?\nAnswer:").len());
        assert_eq!(pair.targets(), &whole[whole.len() - pair.scored..]);
        assert_eq!(pair.input(), &pair.tokens[..pair.tokens.len() - 1]);
        // White space goes with the continuation.
        assert_eq!(encode("the old \n", "man").unwrap(), encode("the old", " \nman").unwrap());
        // A BOS that is written out is not doubled.
        assert_eq!(encode("<s>the old", " man").unwrap().tokens.iter().filter(|&&id| id == bos).count(), 1);
    }

    #[test]
    fn without_context_the_prefix_predicts() {
        let pair = encode("", "the old man").unwrap();
        let ids = tokenizer().encode("the old man").unwrap();
        assert_eq!((pair.tokens[0], &pair.tokens[1..]), (1, ids.as_slice()));
        assert_eq!(pair.scored, ids.len());
    }

    #[test]
    fn long_rows_lose_their_left() {
        let max = nano().config().max_position_embeddings;
        let context = "the old man ".repeat(max);
        let pair = encode(&context, "and the sea").unwrap();
        assert_eq!((pair.tokens.len(), pair.input().len()), (max + 1, max));
        assert!(pair.scored > 1 && pair.scored < 10);
        let error = encode("a", &context).unwrap_err().to_string();
        assert!(
            error.contains("\"the old man") && error.contains(&format!("expected 1 to {max}")),
            "{error}"
        );
        let error = encode("a", "").unwrap_err().to_string();
        assert!(error.contains("has 0 tokens"), "{error}");
    }
}
