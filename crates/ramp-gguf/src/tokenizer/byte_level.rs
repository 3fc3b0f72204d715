//! Byte-level BPE: `tokenizer.ggml.model = "gpt2"`.

use serde_json::Value;

use super::VocabOptions;
use super::json::{Normalizer, Pattern, PreTokenizer, TokenizerJson, reason};
use super::vocab::{Token, TokenType, Vocab};
use crate::{Error, Metadata, Result};

/// The split of GPT-2, which a ByteLevel pre-tokenizer does by itself.
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
/// Numbers in groups of up to three digits.
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// As Llama 3, numbers digit by digit.
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Words split where lower case turns to upper case (Mistral Nemo).
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Regular expression, whether whole words skip the merges, and the name of both in llama.cpp.
const SPLITS: [(&str, bool, &str); 5] = [
    (GPT2, false, "gpt-2"),
    (LLAMA3, true, "llama-bpe"),
    (LLAMA3, false, "smaug-bpe"),
    (QWEN2, false, "qwen2"),
    (TEKKEN, true, "tekken"),
];

pub(super) fn keys(json: &TokenizerJson<'_>, raw: &Value, opts: &VocabOptions) -> Result<Metadata> {
    let name = match &opts.pre {
        Some(pre) => pre.as_str(),
        None => {
            check_normalizer(json)?;
            recognise(json).ok_or_else(|| unknown(json, raw))?
        }
    };
    let mut vocab = Vocab::new(opts.vocab_size);
    for (text, &id) in &json.model.vocab {
        let token = Token { text: text.to_string(), score: 0.0, kind: TokenType::Normal };
        if let Some(first) = vocab.set(id, token)? {
            let (first, second) = (first.text, text.to_string());
            return Err(Error::DuplicateTokenId { id: id as u32, first, second });
        }
    }
    vocab.add_tokens(json)?;
    let merges: Vec<String> = json
        .model
        .merges
        .iter()
        .map(|merge| {
            let (left, right) = merge.pair()?;
            // The one space in the stored string is between the parts.
            Ok(format!("{} {}", left.replace(' ', "\u{120}"), right.replace(' ', "\u{120}")))
        })
        .collect::<Result<_>>()?;

    let mut keys = Metadata::new();
    keys.insert("tokenizer.ggml.model", "gpt2");
    keys.insert("tokenizer.ggml.pre", name);
    vocab.write(false, &mut keys)?;
    keys.insert("tokenizer.ggml.merges", merges);
    Ok(keys)
}

fn check_normalizer(json: &TokenizerJson<'_>) -> Result<()> {
    if json.normalizers().iter().all(|part| matches!(part, Normalizer::Nfc)) {
        return Ok(());
    }
    Err(reason("the normalizer changes text before byte-level BPE, which llama.cpp does not"))
}

/// The name under which llama.cpp splits text like this pre-tokenizer.
fn recognise(json: &TokenizerJson<'_>) -> Option<&'static str> {
    let split = match json.pre_tokenizers().as_slice() {
        [PreTokenizer::ByteLevel { add_prefix_space: false, use_regex: true }] => GPT2,
        [
            PreTokenizer::Split { pattern: Pattern::Regex(regex), behavior, invert: false },
            PreTokenizer::ByteLevel { add_prefix_space: false, use_regex: false },
        ] if behavior == "Isolated" => regex,
        [
            PreTokenizer::Digits { individual_digits: true },
            PreTokenizer::ByteLevel { add_prefix_space: false, use_regex: true },
        ] if !json.model.ignore_merges => return Some("smollm"),
        _ => return None,
    };
    SPLITS
        .into_iter()
        .find(|(regex, ignore_merges, _)| *regex == split && *ignore_merges == json.model.ignore_merges)
        .map(|(_, _, pre)| pre)
}

fn unknown(json: &TokenizerJson<'_>, raw: &Value) -> Error {
    let regexes: Vec<&str> = json
        .pre_tokenizers()
        .into_iter()
        .filter_map(|part| match part {
            PreTokenizer::Split { pattern: Pattern::Regex(regex), .. } => Some(regex.as_str()),
            _ => None,
        })
        .collect();
    let structure = match regexes.as_slice() {
        [] => raw.get("pre_tokenizer").map(Value::to_string).unwrap_or_default(),
        regexes => format!("regex {}", regexes.join(" and ")),
    };
    let structure: String = structure.chars().take(500).collect();
    Error::UnknownPreTokenizer { found: format!("{structure}, ignore_merges {}", json.model.ignore_merges) }
}
