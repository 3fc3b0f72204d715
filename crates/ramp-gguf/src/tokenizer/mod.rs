//! From a Hugging Face `tokenizer.json` to the `tokenizer.ggml.*` keys.
//!
//! llama.cpp implements tokenizers itself and picks one by these keys, so the aim is not to copy a file but to
//! find the keys under which llama.cpp gives the same tokens as Hugging Face. Where there are none, this is an
//! error and not a guess.

mod byte_level;
mod json;
mod sentencepiece;
mod spm;
mod template;
mod vocab;

use crate::{Error, Metadata, Result};
use json::{Family, TokenizerJson};
use template::Template;

/// What the tokenizer keys need to know beyond `tokenizer.json`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct VocabOptions {
    /// Rows of the embedding matrix. The vocabulary is padded to it with `[PAD{i}]` of type unused.
    pub vocab_size: usize,
    /// Begin of sequence. The token that `tokenizer.json` puts in front of a text takes precedence.
    pub bos: Option<u32>,
    /// End of sequence. The token that `tokenizer.json` puts behind a text takes precedence.
    pub eos: Option<u32>,
    /// The unknown token; `None` takes that of `tokenizer.json`.
    pub unk: Option<u32>,
    /// Padding.
    pub pad: Option<u32>,
    /// Whether a text starts with the begin-of-sequence token; `None` takes it from the post-processor.
    pub add_bos: Option<bool>,
    /// The value of `tokenizer.ggml.pre`; `None` recognises it. Naming it also skips the checks that llama.cpp
    /// normalises and splits text as `tokenizer.json` does.
    pub pre: Option<String>,
}

/// More tokens than any vocabulary has (the largest in use are a quarter million).
const MAX_VOCAB: usize = 1 << 24;

/// Sets the `tokenizer.ggml.*` keys for a parsed `tokenizer.json`, for both families that llama.cpp knows as
/// `llama` (SentencePiece BPE with byte fallback) and `gpt2` (byte-level BPE).
///
/// `sentencepiece_model` is `tokenizer.model` when the folder has one: it holds the scores and types of the
/// pieces. Without it the scores are derived from the order of the merges, which for vocabularies made by
/// SentencePiece gives the same numbers.
///
/// llama.cpp applies no Unicode normalisation to byte-level BPE; an `NFC` normalizer (Qwen) is accepted all the
/// same, as in llama.cpp's own converter, and differs on text that is not in that form.
///
/// # Errors
/// [`Error::TokenizerJson`] for a missing field, another model type than BPE, or a normalizer, splitter or
/// post-processor without counterpart in llama.cpp; [`Error::UnknownPreTokenizer`]; [`Error::SentencePiece`] and
/// [`Error::VocabMismatch`] for `tokenizer.model`; [`Error::TokenOutOfRange`] and [`Error::DuplicateTokenId`] for
/// ids; [`Error::CountTooLarge`] for an absurd `vocab_size`. `md` is unchanged after an error.
pub fn tokenizer_metadata(
    tokenizer_json: &serde_json::Value,
    sentencepiece_model: Option<&[u8]>,
    opts: &VocabOptions,
    md: &mut Metadata,
) -> Result<()> {
    if opts.vocab_size > MAX_VOCAB {
        return Err(Error::CountTooLarge {
            what: "vocabulary entries",
            count: opts.vocab_size as u64,
            limit: MAX_VOCAB as u64,
        });
    }
    let json = TokenizerJson::parse(tokenizer_json)?;
    let mut keys = match json.family()? {
        Family::SentencePiece => spm::keys(&json, sentencepiece_model, opts)?,
        Family::ByteLevel => byte_level::keys(&json, tokenizer_json, opts)?,
    };
    add_special_tokens(&json, &Template::parse(&json)?, opts, &mut keys)?;
    md.extend(keys);
    Ok(())
}

fn add_special_tokens(
    json: &TokenizerJson<'_>,
    template: &Template,
    opts: &VocabOptions,
    keys: &mut Metadata,
) -> Result<()> {
    let bos = template.bos.or(opts.bos);
    let eos = template.eos.or(opts.eos);
    let unk = match (opts.unk, json.model.unk_token.as_deref()) {
        (Some(id), _) => Some(id),
        (None, Some(token)) => json.id_of(token).and_then(|id| u32::try_from(id).ok()),
        (None, None) => None,
    };
    for (role, id) in [("bos", bos), ("eos", eos), ("unknown", unk), ("padding", opts.pad)] {
        let Some(id) = id else { continue };
        if id as usize >= opts.vocab_size {
            return Err(Error::TokenOutOfRange {
                token: format!("the {role} token"),
                id: u64::from(id),
                vocab_size: opts.vocab_size,
            });
        }
        keys.insert(format!("tokenizer.ggml.{role}_token_id"), id);
    }
    let add_bos = opts.add_bos.unwrap_or(template.bos.is_some());
    if add_bos && bos.is_none() {
        return Err(json::reason("a begin-of-sequence token is to be added, but none is given"));
    }
    keys.insert("tokenizer.ggml.add_bos_token", add_bos);
    keys.insert("tokenizer.ggml.add_eos_token", template.eos.is_some());
    Ok(())
}

#[cfg(test)]
mod tests;
