//! The table of tokens that becomes `tokenizer.ggml.tokens`, `.scores` and `.token_type`.

use std::collections::HashMap;

use super::json::{SPACE_MARK, TokenizerJson, reason};
use crate::facts::is_byte_token;
use crate::{Error, Metadata, Result};

/// `llama_token_type`, whose numbers are those of SentencePiece.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum TokenType {
    Normal = 1,
    Unknown = 2,
    Control = 3,
    UserDefined = 4,
    Unused = 5,
    Byte = 6,
}

/// Score of a token that is matched as a whole and never by merging.
const ADDED_SCORE: f32 = -1000.0;
/// Score of a row of the embedding matrix that no token has.
const PADDING_SCORE: f32 = -10000.0;

#[derive(Clone)]
pub(super) struct Token {
    pub(super) text: String,
    pub(super) score: f32,
    pub(super) kind: TokenType,
}

/// One entry per row of the embedding matrix.
pub(super) struct Vocab(Vec<Option<Token>>);

impl Vocab {
    pub(super) fn new(vocab_size: usize) -> Self {
        Self(vec![None; vocab_size])
    }

    pub(super) fn get(&self, id: u64) -> Option<&Token> {
        self.0.get(usize::try_from(id).ok()?)?.as_ref()
    }

    /// Sets an entry and returns the earlier one.
    pub(super) fn set(&mut self, id: u64, token: Token) -> Result<Option<Token>> {
        let vocab_size = self.0.len();
        match usize::try_from(id).ok().and_then(|at| self.0.get_mut(at)) {
            Some(entry) => Ok(entry.replace(token)),
            None => Err(Error::TokenOutOfRange { token: token.text, id, vocab_size }),
        }
    }

    /// Sets the tokens that are matched before any merging.
    pub(super) fn add_tokens(&mut self, json: &TokenizerJson<'_>) -> Result<()> {
        for added in &json.added_tokens {
            let text = added.content.as_ref();
            let earlier = self.get(added.id);
            let kind = match earlier.map(|token| token.kind) {
                Some(TokenType::Unknown) => TokenType::Unknown,
                _ if added.special || looks_special(text) => TokenType::Control,
                _ => TokenType::UserDefined,
            };
            let text = match kind {
                // Matched in the text before spaces are marked.
                TokenType::UserDefined => text.replace(SPACE_MARK, " "),
                _ => text.to_owned(),
            };
            let score = earlier.map_or(ADDED_SCORE, |token| token.score);
            self.set(added.id, Token { text, score, kind })?;
        }
        Ok(())
    }

    /// Fills the gaps and writes the keys; `scores` only where llama.cpp merges by them.
    pub(super) fn write(self, with_scores: bool, keys: &mut Metadata) -> Result<()> {
        let tokens: Vec<Token> = self
            .0
            .into_iter()
            .enumerate()
            .map(|(id, token)| {
                token.unwrap_or_else(|| Token {
                    text: format!("[PAD{id}]"),
                    score: PADDING_SCORE,
                    kind: TokenType::Unused,
                })
            })
            .collect();
        // llama.cpp takes the byte from the spelling, whatever that is.
        let bad =
            tokens.iter().position(|token| token.kind == TokenType::Byte && !is_byte_token(&token.text));
        if let Some(id) = bad {
            return Err(Error::ByteToken { id, text: tokens[id].text.chars().take(80).collect() });
        }
        // llama.cpp aborts the process on two tokens of the same text.
        let mut ids = HashMap::with_capacity(tokens.len());
        for (id, token) in tokens.iter().enumerate() {
            if let Some(first) = ids.insert(token.text.as_str(), id) {
                return Err(reason(format!("tokens {first} and {id} are both `{}`", token.text)));
            }
        }
        let scores: Vec<f32> = tokens.iter().map(|token| token.score).collect();
        let kinds: Vec<i32> = tokens.iter().map(|token| token.kind as i32).collect();
        let texts: Vec<String> = tokens.into_iter().map(|token| token.text).collect();
        keys.insert("tokenizer.ggml.tokens", texts);
        if with_scores {
            keys.insert("tokenizer.ggml.scores", scores);
        }
        keys.insert("tokenizer.ggml.token_type", kinds);
        Ok(())
    }
}

/// Tokens that are control tokens by their spelling, whatever `tokenizer.json` says (`<|im_end|>`, and the same
/// with full-width bars): llama.cpp warns about such tokens of another type.
fn looks_special(text: &str) -> bool {
    [("<|", "|>"), ("<\u{ff5c}", "\u{ff5c}>")]
        .into_iter()
        .any(|(start, end)| text.strip_prefix(start).is_some_and(|rest| rest.ends_with(end)))
}
