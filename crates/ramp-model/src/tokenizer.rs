//! Text to token ids, with the tokenizer of a Hugging Face folder or of a GGUF file.

use std::path::{Path, PathBuf};

use ramp_gguf::GgufFile;
use tokenizers::{
    AddedToken, DecoderWrapper, ModelWrapper, NormalizerWrapper, PreTokenizerWrapper, SplitDelimiterBehavior,
    decoders::byte_fallback::ByteFallback,
    models::bpe::{BPE, Vocab},
    normalizers::{Prepend, Replace, Sequence, replace::ReplacePattern},
    pre_tokenizers::{
        byte_level::ByteLevel,
        sequence::Sequence as PreSequence,
        split::{Split, SplitPattern},
    },
};

use crate::error::{Error, Result};

/// GGUF token types (`tokenizer.ggml.token_type`).
const NORMAL: i32 = 1;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const BYTE: i32 = 6;

/// The split of Llama 3 in front of byte-level BPE.
const LLAMA3_SPLIT: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// The split of Qwen2: Llama 3's with single digits.
const QWEN2_SPLIT: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// A model's tokenizer.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    path: PathBuf,
    bos: Option<u32>,
    adds_bos: bool,
}

impl Tokenizer {
    /// Reads `tokenizer.json` of a folder. `bos` is the beginning-of-sequence id of `config.json`.
    ///
    /// # Errors
    /// When the file is missing or broken, or has more tokens than the embedding has rows.
    pub fn from_dir(dir: &Path, bos: Option<u32>, vocab_size: usize) -> Result<Self> {
        let path = dir.join("tokenizer.json");
        let inner = tokenizers::Tokenizer::from_file(&path)
            .map_err(|e| Error::Tokenizer { path: path.clone(), why: e.to_string() })?;
        check_vocabulary(&inner, &path, vocab_size)?;
        // The post-processor says what a text starts with; encoding one with and without it shows it.
        let first = |special: bool| {
            let encoding = inner.encode_fast("a", special);
            encoding
                .map(|encoding| encoding.get_ids().first().copied())
                .map_err(|e| Error::Tokenizer { path: path.clone(), why: e.to_string() })
        };
        let leading = first(true)?;
        let adds_bos = leading != first(false)?;
        let bos = if adds_bos { leading } else { bos };
        Ok(Self { inner, path, bos, adds_bos })
    }

    /// Rebuilds the tokenizer that a GGUF file describes under `tokenizer.ggml.*`.
    ///
    /// # Errors
    /// When keys are missing or of another type, name a tokenizer or pre-tokenizer that is not known, or list more
    /// tokens than the embedding has rows.
    pub fn from_gguf(file: &GgufFile, path: &Path, vocab_size: usize) -> Result<Self> {
        let md = file.metadata();
        let fail = |why: String| Error::Tokenizer { path: path.to_owned(), why };
        let tokens = md.get_array_str("tokenizer.ggml.tokens")?;
        let types = md.get_array_i32("tokenizer.ggml.token_type")?;
        if types.len() != tokens.len() {
            let (n, m) = (tokens.len(), types.len());
            return Err(fail(format!("{n} tokens but {m} token types")));
        }
        let flag = |key: &str, default: bool| md.get_bool(key).unwrap_or(default);
        let (mut inner, adds_bos) = match md.get_str("tokenizer.ggml.model")? {
            "llama" => {
                let scores = md.get_array_f32("tokenizer.ggml.scores")?;
                if scores.len() != tokens.len() {
                    return Err(fail(format!("{} tokens but {} scores", tokens.len(), scores.len())));
                }
                let prefix = flag("tokenizer.ggml.add_space_prefix", true);
                (sentencepiece(tokens, scores, types, prefix), flag("tokenizer.ggml.add_bos_token", true))
            }
            "gpt2" => {
                let merges = md.get_array_str("tokenizer.ggml.merges")?;
                let pre = md.get_str("tokenizer.ggml.pre").unwrap_or("default");
                let llama3 = pre == "llama-bpe";
                let tokenizer = byte_level(tokens, merges, pre, llama3);
                (tokenizer, flag("tokenizer.ggml.add_bos_token", llama3))
            }
            other => (Err(format!("unknown tokenizer model `{other}` (known: llama, gpt2)")), false),
        };
        if let Ok(tokenizer) = &mut inner {
            add_special(tokenizer, tokens, types);
        }
        let inner = inner.map_err(fail)?;
        check_vocabulary(&inner, path, vocab_size)?;
        let bos = md.get_u32("tokenizer.ggml.bos_token_id").ok();
        Ok(Self { inner, path: path.to_owned(), bos, adds_bos: adds_bos && bos.is_some() })
    }

    /// Token ids of a text, without special tokens.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self
            .inner
            .encode_fast(text, false)
            .map_err(|e| Error::Tokenizer { path: self.path.clone(), why: e.to_string() })?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Token ids of a text in which the names of special tokens, such as `</s>`, are text like any other: how
    /// llama.cpp's tools read files.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn encode_plain(&self, text: &str) -> Result<Vec<u32>> {
        let mut plain = self.clone();
        plain.inner.set_encode_special_tokens(true);
        plain.encode(text)
    }

    /// Token ids of a text as a model expects it: with BOS in front where the tokenizer adds one.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn encode_with_bos(&self, text: &str) -> Result<Vec<u32>> {
        let mut ids: Vec<u32> = self.bos.filter(|_| self.adds_bos).into_iter().collect();
        ids.extend(self.encode(text)?);
        Ok(ids)
    }

    /// The beginning-of-sequence token, if the tokenizer puts one in front of a text.
    #[must_use]
    pub fn leading_bos(&self) -> Option<u32> {
        self.bos.filter(|_| self.adds_bos)
    }

    /// The file that the tokenizer was read from.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// A token id beyond the embedding would be found in the middle of a run; find it before.
pub(crate) fn check_vocabulary(inner: &tokenizers::Tokenizer, path: &Path, vocab_size: usize) -> Result<()> {
    let tokenizer = inner.get_vocab(true).into_values().max().map_or(0, |id| id as usize + 1);
    if tokenizer > vocab_size {
        return Err(Error::Vocabulary { path: path.to_owned(), tokenizer, embedding: vocab_size });
    }
    Ok(())
}

/// SentencePiece BPE: pieces merge in the order of the merged piece's score.
fn sentencepiece(
    tokens: &[String],
    scores: &[f32],
    types: &[i32],
    space_prefix: bool,
) -> Result<tokenizers::Tokenizer, String> {
    let vocab: Vocab = tokens.iter().cloned().zip(0..).collect();
    let mut merges: Vec<(f32, u32, u32, u32)> = Vec::new();
    for (id, piece) in (0u32..).zip(tokens) {
        if types[id as usize] != NORMAL {
            continue;
        }
        for (at, _) in piece.char_indices().skip(1) {
            let (left, right) = piece.split_at(at);
            if let (Some(&left), Some(&right)) = (vocab.get(left), vocab.get(right)) {
                merges.push((scores[id as usize], id, left, right));
            }
        }
    }
    merges.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2, a.3).cmp(&(b.1, b.2, b.3))));
    let text = |id: u32| tokens[id as usize].clone();
    let merges = merges.into_iter().map(|(_, _, left, right)| (text(left), text(right))).collect();
    let bpe = BPE::builder()
        .vocab_and_merges(vocab, merges)
        .byte_fallback(types.contains(&BYTE))
        .fuse_unk(true)
        .build()
        .map_err(|e| e.to_string())?;
    let mut tokenizer = tokenizers::Tokenizer::new(ModelWrapper::BPE(bpe));
    let replace = Replace::new(ReplacePattern::String(" ".into()), "\u{2581}").map_err(|e| e.to_string())?;
    let mut normalizers: Vec<NormalizerWrapper> = Vec::new();
    if space_prefix {
        normalizers.push(Prepend::new("\u{2581}".into()).into());
    }
    normalizers.push(replace.into());
    tokenizer.with_normalizer(Some(Sequence::new(normalizers)));
    tokenizer.with_decoder(Some(DecoderWrapper::ByteFallback(ByteFallback::default())));
    Ok(tokenizer)
}

/// Byte-level BPE with the split that `tokenizer.ggml.pre` names.
fn byte_level(
    tokens: &[String],
    merges: &[String],
    pre: &str,
    ignore_merges: bool,
) -> Result<tokenizers::Tokenizer, String> {
    let split = match pre {
        "llama-bpe" => Some(LLAMA3_SPLIT),
        "qwen2" => Some(QWEN2_SPLIT),
        "gpt-2" | "default" => None,
        other => return Err(format!("unknown pre-tokenizer `{other}` (known: llama-bpe, qwen2, gpt-2)")),
    };
    let vocab: Vocab = tokens.iter().cloned().zip(0..).collect();
    let merges = merges
        .iter()
        .map(|merge| {
            let (left, right) =
                merge.split_once(' ').ok_or_else(|| format!("merge `{merge}` has no space"))?;
            Ok((left.to_owned(), right.to_owned()))
        })
        .collect::<Result<Vec<_>, String>>()?;
    let bpe = BPE::builder()
        .vocab_and_merges(vocab, merges)
        .ignore_merges(ignore_merges)
        .build()
        .map_err(|e| e.to_string())?;
    let mut tokenizer = tokenizers::Tokenizer::new(ModelWrapper::BPE(bpe));
    let bytes = PreTokenizerWrapper::ByteLevel(ByteLevel::new(false, true, split.is_none()));
    let pre_tokenizer = match split {
        None => bytes,
        Some(pattern) => {
            let split =
                Split::new(SplitPattern::Regex(pattern.into()), SplitDelimiterBehavior::Isolated, false)
                    .map_err(|e| e.to_string())?;
            PreTokenizerWrapper::Sequence(PreSequence::new(vec![PreTokenizerWrapper::Split(split), bytes]))
        }
    };
    tokenizer.with_pre_tokenizer(Some(pre_tokenizer));
    Ok(tokenizer)
}

/// Control and user-defined tokens are cut out of the text before the model sees it.
fn add_special(tokenizer: &mut tokenizers::Tokenizer, tokens: &[String], types: &[i32]) {
    for (token, &kind) in tokens.iter().zip(types) {
        match kind {
            CONTROL => {
                tokenizer.add_special_tokens(&[AddedToken::from(token.clone(), true)]);
            }
            USER_DEFINED => {
                tokenizer.add_tokens(&[AddedToken::from(token.clone(), false)]);
            }
            _ => {}
        }
    }
}
