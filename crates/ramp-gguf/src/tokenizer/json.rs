//! The parts of `tokenizer.json` that matter here.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::{Error, Result};

/// U+2581, which SentencePiece writes for a space.
pub(super) const SPACE_MARK: &str = "\u{2581}";

#[derive(Deserialize)]
pub(super) struct TokenizerJson<'a> {
    #[serde(borrow)]
    pub(super) model: Model<'a>,
    #[serde(default)]
    pub(super) added_tokens: Vec<AddedToken<'a>>,
    pub(super) normalizer: Option<Normalizer>,
    pub(super) pre_tokenizer: Option<PreTokenizer>,
    pub(super) post_processor: Option<PostProcessor>,
}

#[derive(Deserialize)]
pub(super) struct Model<'a> {
    /// Token to id. Ordered, so that errors do not depend on a hash.
    #[serde(borrow)]
    pub(super) vocab: BTreeMap<Cow<'a, str>, u64>,
    #[serde(borrow)]
    pub(super) merges: Vec<Merge<'a>>,
    #[serde(default)]
    pub(super) byte_fallback: bool,
    #[serde(default)]
    pub(super) ignore_merges: bool,
    pub(super) unk_token: Option<String>,
}

/// Two tokens that are joined: since 2024 a pair, earlier one string with a space between them.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Merge<'a> {
    Pair(#[serde(borrow)] Cow<'a, str>, #[serde(borrow)] Cow<'a, str>),
    Joined(#[serde(borrow)] Cow<'a, str>),
}

#[derive(Deserialize)]
pub(super) struct AddedToken<'a> {
    pub(super) id: u64,
    #[serde(borrow)]
    pub(super) content: Cow<'a, str>,
    #[serde(default)]
    pub(super) special: bool,
}

#[derive(Deserialize)]
#[serde(tag = "type")]
pub(super) enum Normalizer {
    Sequence {
        normalizers: Vec<Normalizer>,
    },
    Prepend {
        prepend: String,
    },
    Replace {
        pattern: Pattern,
        content: String,
    },
    #[serde(rename = "NFC")]
    Nfc,
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
pub(super) enum Pattern {
    String(String),
    Regex(String),
}

#[derive(Deserialize)]
#[serde(tag = "type")]
pub(super) enum PreTokenizer {
    Sequence {
        pretokenizers: Vec<PreTokenizer>,
    },
    Split {
        pattern: Pattern,
        behavior: String,
        #[serde(default)]
        invert: bool,
    },
    ByteLevel {
        #[serde(default = "yes")]
        add_prefix_space: bool,
        #[serde(default = "yes")]
        use_regex: bool,
    },
    Digits {
        #[serde(default)]
        individual_digits: bool,
    },
    Metaspace {
        replacement: String,
        prepend_scheme: Option<String>,
        add_prefix_space: Option<bool>,
        #[serde(default = "yes")]
        split: bool,
    },
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
#[serde(tag = "type")]
pub(super) enum PostProcessor {
    Sequence {
        processors: Vec<PostProcessor>,
    },
    TemplateProcessing {
        single: Vec<TemplatePiece>,
        #[serde(default)]
        special_tokens: BTreeMap<String, TemplateToken>,
    },
    ByteLevel,
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
pub(super) enum TemplatePiece {
    SpecialToken { id: String },
    Sequence {},
}

#[derive(Deserialize)]
pub(super) struct TemplateToken {
    pub(super) ids: Vec<u32>,
}

fn yes() -> bool {
    true
}

/// The two kinds of BPE that llama.cpp has.
pub(super) enum Family {
    SentencePiece,
    ByteLevel,
}

pub(super) fn reason(reason: impl Into<String>) -> Error {
    Error::TokenizerJson { reason: reason.into() }
}

impl<'a> TokenizerJson<'a> {
    pub(super) fn parse(json: &'a Value) -> Result<Self> {
        // Before the fields of BPE are missed in something else. The oldest files have no type.
        match json.pointer("/model/type").map(|kind| kind.as_str().unwrap_or("not a string")) {
            None | Some("BPE") => {}
            Some(kind) => return Err(reason(format!("model type is {kind}, only BPE is supported"))),
        }
        Self::deserialize(json).map_err(|error| reason(error.to_string()))
    }

    pub(super) fn family(&self) -> Result<Family> {
        if self.pre_tokenizers().iter().any(|part| matches!(part, PreTokenizer::ByteLevel { .. })) {
            Ok(Family::ByteLevel)
        } else if self.model.byte_fallback {
            Ok(Family::SentencePiece)
        } else {
            Err(reason("the model is neither byte-level BPE nor BPE with byte fallback"))
        }
    }

    pub(super) fn id_of(&self, token: &str) -> Option<u64> {
        self.model
            .vocab
            .get(token)
            .copied()
            .or_else(|| self.added_tokens.iter().find(|added| added.content == token).map(|added| added.id))
    }

    /// The normalizer with nested sequences flattened.
    pub(super) fn normalizers(&self) -> Vec<&Normalizer> {
        flatten(self.normalizer.as_ref(), |part| match part {
            Normalizer::Sequence { normalizers } => Some(normalizers),
            _ => None,
        })
    }

    /// The pre-tokenizer with nested sequences flattened.
    pub(super) fn pre_tokenizers(&self) -> Vec<&PreTokenizer> {
        flatten(self.pre_tokenizer.as_ref(), |part| match part {
            PreTokenizer::Sequence { pretokenizers } => Some(pretokenizers),
            _ => None,
        })
    }

    /// The post-processor with nested sequences flattened.
    pub(super) fn post_processors(&self) -> Vec<&PostProcessor> {
        flatten(self.post_processor.as_ref(), |part| match part {
            PostProcessor::Sequence { processors } => Some(processors),
            _ => None,
        })
    }
}

/// Parts in order, sequences replaced by their parts. Depth is bounded by serde_json's own recursion limit.
fn flatten<T>(root: Option<&T>, parts: impl Fn(&T) -> Option<&Vec<T>>) -> Vec<&T> {
    let mut flat = Vec::new();
    let mut stack: Vec<&T> = root.into_iter().collect();
    while let Some(part) = stack.pop() {
        match parts(part) {
            Some(parts) => stack.extend(parts.iter().rev()),
            None => flat.push(part),
        }
    }
    flat
}

impl Merge<'_> {
    pub(super) fn pair(&self) -> Result<(&str, &str)> {
        match self {
            Self::Pair(left, right) => Ok((left, right)),
            Self::Joined(joined) => {
                joined.split_once(' ').ok_or_else(|| reason(format!("merge `{joined}` is not two tokens")))
            }
        }
    }
}
