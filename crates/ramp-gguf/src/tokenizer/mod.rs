//! From a Hugging Face `tokenizer.json` to the `tokenizer.ggml.*` keys.
//!
//! llama.cpp implements tokenizers itself and picks one by these keys, so the aim is not to copy a file but to
//! find the keys under which llama.cpp gives the same tokens as Hugging Face. Where there are none, this is an
//! error and not a guess.

mod byte_level;
mod chat_template;
mod json;
mod pre;
mod sentencepiece;
mod spm;
mod template;
mod vocab;

use crate::{Error, Metadata, Result};
use json::{Family, TokenizerJson};
use template::Template;

pub use chat_template::chat_template;
pub use pre::PRE_TOKENIZERS;

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
    /// Whether a text ends with the end-of-sequence token; `None` takes it from the post-processor.
    pub add_eos: Option<bool>,
    /// The value of `tokenizer.ggml.pre`, one of [`PRE_TOKENIZERS`]; `None` recognises it. Naming it also skips
    /// the checks that llama.cpp normalises and splits text as the tokenizer does.
    pub pre: Option<String>,
    /// A Jinja template that turns messages into text, for `tokenizer.chat_template`: see [`chat_template`].
    pub chat_template: Option<String>,
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
/// post-processor without counterpart in llama.cpp; [`Error::UnknownPreTokenizer`] for one that is not recognised
/// and [`Error::NoSuchPreTokenizer`] for a name that llama.cpp does not know; [`Error::SentencePiece`] and
/// [`Error::VocabMismatch`] for `tokenizer.model`; [`Error::ByteToken`]; [`Error::TokenOutOfRange`] and [`Error::DuplicateTokenId`] for
/// ids; [`Error::CountTooLarge`] for an absurd `vocab_size`. `md` is unchanged after an error.
pub fn tokenizer_metadata(
    tokenizer_json: &serde_json::Value,
    sentencepiece_model: Option<&[u8]>,
    opts: &VocabOptions,
    md: &mut Metadata,
) -> Result<()> {
    check_options(opts)?;
    let json = TokenizerJson::parse(tokenizer_json)?;
    let mut keys = match json.family()? {
        Family::SentencePiece => spm::keys(&json, sentencepiece_model, opts)?,
        Family::ByteLevel => byte_level::keys(&json, tokenizer_json, opts)?,
    };
    let template = Template::parse(&json)?;
    let unk = json.model.unk_token.as_deref().and_then(|token| json.id_of(token));
    let special = Special {
        bos: template.bos.or(opts.bos),
        eos: template.eos.or(opts.eos),
        unk: opts.unk.or_else(|| unk.and_then(|id| u32::try_from(id).ok())),
        pad: opts.pad,
        add_bos: opts.add_bos.unwrap_or(template.bos.is_some()),
        add_eos: opts.add_eos.unwrap_or(template.eos.is_some()),
    };
    special.write(opts, &mut keys)?;
    md.extend(keys);
    Ok(())
}

/// Sets the `tokenizer.ggml.*` keys for a SentencePiece `tokenizer.model` alone, for folders without a
/// `tokenizer.json`: tokens, scores, types and special ids are those of the model, which `opts` overrides. A text
/// starts with the begin-of-sequence token unless `opts` says otherwise, as with llama.cpp's own converter.
///
/// # Errors
/// [`Error::SentencePiece`] for a file that is no BPE model; [`Error::SentencePieceNormalizer`] where it changes a
/// text in a way that llama.cpp does not, unless `opts.pre` names a pre-tokenizer;
/// [`Error::ByteToken`]; [`Error::TokenOutOfRange`] for more pieces than `vocab_size`; [`Error::CountTooLarge`] for an absurd
/// `vocab_size`. `md` is unchanged after an error.
pub fn sentencepiece_metadata(model: &[u8], opts: &VocabOptions, md: &mut Metadata) -> Result<()> {
    check_options(opts)?;
    let model = sentencepiece::parse(model)?;
    let bos = opts.bos.or(model.bos);
    let special = Special {
        bos,
        eos: opts.eos.or(model.eos),
        unk: opts.unk.or(model.unk),
        pad: opts.pad.or(model.pad),
        add_bos: opts.add_bos.unwrap_or(bos.is_some()),
        add_eos: opts.add_eos.unwrap_or(false),
    };
    let mut keys = spm::keys_of_model(model, opts)?;
    special.write(opts, &mut keys)?;
    md.extend(keys);
    Ok(())
}

fn check_options(opts: &VocabOptions) -> Result<()> {
    if opts.vocab_size > MAX_VOCAB {
        return Err(Error::CountTooLarge {
            what: "vocabulary entries",
            count: opts.vocab_size as u64,
            limit: MAX_VOCAB as u64,
        });
    }
    opts.pre.as_deref().map_or(Ok(()), pre::check)
}

/// The special tokens, and which of them are put around a text.
struct Special {
    bos: Option<u32>,
    eos: Option<u32>,
    unk: Option<u32>,
    pad: Option<u32>,
    add_bos: bool,
    add_eos: bool,
}

impl Special {
    fn write(&self, opts: &VocabOptions, keys: &mut Metadata) -> Result<()> {
        let ids = [("bos", self.bos), ("eos", self.eos), ("unknown", self.unk), ("padding", self.pad)];
        for (role, id) in ids {
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
        if self.add_bos && self.bos.is_none() {
            return Err(json::reason("a begin-of-sequence token is to be added, but none is given"));
        }
        if self.add_eos && self.eos.is_none() {
            return Err(json::reason("an end-of-sequence token is to be added, but none is given"));
        }
        keys.insert("tokenizer.ggml.add_bos_token", self.add_bos);
        keys.insert("tokenizer.ggml.add_eos_token", self.add_eos);
        if let Some(template) = &opts.chat_template {
            keys.insert(crate::keys::CHAT_TEMPLATE, template.as_str());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
