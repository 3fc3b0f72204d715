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
        Self { tokenizer, prefix, max_length: config.max_position_embeddings }
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
