//! SentencePiece BPE with byte fallback: `tokenizer.ggml.model = "llama"`.

use std::collections::{HashMap, HashSet};

use super::VocabOptions;
use super::json::{self, Pattern, PreTokenizer, SPACE_MARK, TokenizerJson, reason};
use super::sentencepiece::{self, Model, Normalizer, Piece};
use super::vocab::{Token, TokenType, Vocab};
use crate::facts::is_byte_token;
use crate::{Error, Metadata, Result};

pub(super) fn keys(
    json: &TokenizerJson<'_>,
    sentencepiece_model: Option<&[u8]>,
    opts: &VocabOptions,
) -> Result<Metadata> {
    let spaces = Spaces::of(json);
    if opts.pre.is_none() {
        spaces.check()?;
    }
    let mut vocab = Vocab::new(opts.vocab_size);
    match sentencepiece_model {
        Some(model) => set_pieces(&mut vocab, sentencepiece::parse(model)?.pieces, json)?,
        None => set_from_merges(&mut vocab, json)?,
    }
    vocab.add_tokens(json)?;

    write(vocab, spaces.prefix, opts)
}

/// The keys for `tokenizer.model` alone.
pub(super) fn keys_of_model(model: Model, opts: &VocabOptions) -> Result<Metadata> {
    if opts.pre.is_none() {
        check_normalizer(&model)?;
    }
    let prefix = model.normalizer.add_dummy_prefix;
    let mut vocab = Vocab::new(opts.vocab_size);
    for (id, piece) in model.pieces.into_iter().enumerate() {
        vocab.set(id as u64, Token { text: piece.text, score: piece.score, kind: piece.kind })?;
    }
    write(vocab, prefix, opts)
}

/// Whether llama.cpp treats a text as the model does before it is split.
fn check_normalizer(model: &Model) -> Result<()> {
    let Normalizer { name, has_charsmap, remove_extra_whitespaces, escape_whitespaces, .. } =
        &model.normalizer;
    let refused = |reason: String| Err(Error::SentencePieceNormalizer { reason });
    if *has_charsmap {
        return refused(format!("normalizer `{name}` replaces characters"));
    }
    if *remove_extra_whitespaces {
        return refused("repeated spaces are removed".into());
    }
    if !escape_whitespaces {
        return refused("spaces are not replaced by U+2581".into());
    }
    if !model.byte_fallback {
        return refused("characters that are not in the vocabulary do not become bytes".into());
    }
    Ok(())
}

fn write(vocab: Vocab, prefix: bool, opts: &VocabOptions) -> Result<Metadata> {
    let mut keys = Metadata::new();
    keys.insert("tokenizer.ggml.model", "llama");
    keys.insert("tokenizer.ggml.pre", opts.pre.as_deref().unwrap_or("default"));
    vocab.write(true, &mut keys)?;
    keys.insert("tokenizer.ggml.add_space_prefix", prefix);
    Ok(keys)
}

/// Tokens, scores and types of `tokenizer.model`, which must be the vocabulary of `tokenizer.json`.
fn set_pieces(vocab: &mut Vocab, pieces: Vec<Piece>, json: &TokenizerJson<'_>) -> Result<()> {
    let count = pieces.len() as u64;
    for (id, piece) in pieces.into_iter().enumerate() {
        vocab.set(id as u64, Token { text: piece.text, score: piece.score, kind: piece.kind })?;
    }
    let added: HashMap<u64, &str> =
        json.added_tokens.iter().map(|added| (added.id, added.content.as_ref())).collect();
    for (text, &id) in &json.model.vocab {
        let is_added = added.get(&id).is_some_and(|added| added == text);
        let piece = vocab.get(id).map(|token| token.text.as_str());
        if piece != Some(text) && !is_added {
            return Err(Error::VocabMismatch {
                id: u32::try_from(id).unwrap_or(u32::MAX),
                json: text.to_string(),
                model: piece.map_or_else(|| format!("absent: it has {count} pieces"), str::to_owned),
            });
        }
    }
    Ok(())
}

/// Tokens and types by their spelling, and scores by the order of the merges: SentencePiece merges the pair
/// whose joint token has the highest score first, so scores that fall in the order of the merges do the same.
fn set_from_merges(vocab: &mut Vocab, json: &TokenizerJson<'_>) -> Result<()> {
    let mut ranks: HashMap<String, usize> = HashMap::new();
    for (rank, merge) in json.model.merges.iter().enumerate() {
        let (left, right) = merge.pair()?;
        ranks.entry(format!("{left}{right}")).or_insert(rank);
    }
    // Single characters, which no merge makes, come last, in the order of their ids.
    let mut normal: Vec<(usize, u64, &str)> = Vec::new();
    let added: HashSet<u64> = json.added_tokens.iter().map(|added| added.id).collect();
    for (text, &id) in &json.model.vocab {
        let text = text.as_ref();
        let kind = if json.model.unk_token.as_deref() == Some(text) {
            TokenType::Unknown
        } else if is_byte_token(text) {
            TokenType::Byte
        } else {
            TokenType::Normal
        };
        if let Some(first) = vocab.set(id, Token { text: text.to_owned(), score: 0.0, kind })? {
            let (first, second) = (first.text, text.to_owned());
            return Err(Error::DuplicateTokenId { id: id as u32, first, second });
        }
        if kind == TokenType::Normal && !added.contains(&id) {
            normal.push((ranks.get(text).copied().unwrap_or(usize::MAX), id, text));
        }
    }
    normal.sort_unstable();
    for (place, (_, id, text)) in normal.into_iter().enumerate() {
        let token = Token { text: text.to_owned(), score: -(place as f32), kind: TokenType::Normal };
        vocab.set(id, token)?;
    }
    Ok(())
}

/// What `tokenizer.json` does with spaces, and whether that is all that it does to the text.
struct Spaces {
    /// A text that does not start with a space gets one.
    prefix: bool,
    /// Spaces become [`SPACE_MARK`].
    marked: bool,
    /// The first part that does something else.
    other: Option<&'static str>,
}

impl Spaces {
    fn of(json: &TokenizerJson<'_>) -> Self {
        let mut spaces = Self { prefix: false, marked: false, other: None };
        for part in json.normalizers() {
            match part {
                json::Normalizer::Prepend { prepend } if prepend == SPACE_MARK => spaces.prefix = true,
                json::Normalizer::Replace { pattern: Pattern::String(from), content }
                    if from == " " && content == SPACE_MARK =>
                {
                    spaces.marked = true;
                }
                _ => spaces.other = spaces.other.or(Some("normalizer")),
            }
        }
        for part in json.pre_tokenizers() {
            match part {
                // Splitting at spaces would forbid tokens with a space inside, which llama.cpp would merge.
                PreTokenizer::Metaspace { replacement, prepend_scheme, add_prefix_space, split: false }
                    if replacement == SPACE_MARK =>
                {
                    spaces.marked = true;
                    spaces.prefix |= match prepend_scheme.as_deref() {
                        Some(scheme) => scheme != "never",
                        None => add_prefix_space.unwrap_or(true),
                    };
                }
                _ => spaces.other = spaces.other.or(Some("pre-tokenizer")),
            }
        }
        spaces
    }

    fn check(&self) -> Result<()> {
        if let Some(part) = self.other {
            return Err(reason(format!("the {part} does more than llama.cpp's SentencePiece tokenizer")));
        }
        if !self.marked {
            return Err(reason(
                "spaces are not replaced by U+2581, as llama.cpp's SentencePiece tokenizer does",
            ));
        }
        Ok(())
    }
}
