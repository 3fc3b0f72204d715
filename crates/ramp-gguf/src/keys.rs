//! Names and types of the metadata keys that llama.cpp reads.
//!
//! Keys of an architecture start with its name: [`of`]`("llama", BLOCK_COUNT)` is `llama.block_count`.

use crate::{Error, Metadata, Result, Value};

/// The architecture's name, such as `llama`; required in a model.
pub const ARCHITECTURE: &str = "general.architecture";
/// `model`, `imatrix` or `adapter`.
pub const TYPE: &str = "general.type";
/// The model's name.
pub const NAME: &str = "general.name";
/// The prevailing mix, one of [`LlamaFtype::id`](crate::mix::LlamaFtype::id).
pub const FILE_TYPE: &str = "general.file_type";
/// The version of the block layouts: [`QUANTIZATION_VERSION_VALUE`].
pub const QUANTIZATION_VERSION: &str = "general.quantization_version";
/// `GGML_QNT_VERSION`.
pub const QUANTIZATION_VERSION_VALUE: u32 = 2;
/// Bytes that tensor data is aligned to; 32 without the key.
pub const ALIGNMENT: &str = "general.alignment";

/// Layers of the model, after the architecture's name.
pub const BLOCK_COUNT: &str = "block_count";
/// Width of the residual stream.
pub const EMBEDDING_LENGTH: &str = "embedding_length";
/// Width of the feed-forward part, one number or one per layer.
pub const FEED_FORWARD_LENGTH: &str = "feed_forward_length";
/// Tokens that the model was trained on at once.
pub const CONTEXT_LENGTH: &str = "context_length";
/// Rows of the embedding matrix.
pub const VOCAB_SIZE: &str = "vocab_size";
/// Experts of each feed-forward part.
pub const EXPERT_COUNT: &str = "expert_count";
/// Experts that each token uses.
pub const EXPERT_USED_COUNT: &str = "expert_used_count";
/// Query heads, one number or one per layer.
pub const HEAD_COUNT: &str = "attention.head_count";
/// Key and value heads, one number or one per layer; those of the queries without the key.
pub const HEAD_COUNT_KV: &str = "attention.head_count_kv";
/// Width of a key head, where it is not the embedding length over the query heads.
pub const KEY_LENGTH: &str = "attention.key_length";
/// Width of a value head.
pub const VALUE_LENGTH: &str = "attention.value_length";
/// The epsilon of RMS norms.
pub const LAYER_NORM_RMS_EPSILON: &str = "attention.layer_norm_rms_epsilon";
/// The epsilon of layer norms with a mean.
pub const LAYER_NORM_EPSILON: &str = "attention.layer_norm_epsilon";
/// Tokens that attention reaches back.
pub const SLIDING_WINDOW: &str = "attention.sliding_window";
/// Channels of a head that are rotated.
pub const ROPE_DIMENSION_COUNT: &str = "rope.dimension_count";
/// The base of the rotary frequencies.
pub const ROPE_FREQ_BASE: &str = "rope.freq_base";
/// `none`, `linear` or `yarn`.
pub const ROPE_SCALING_TYPE: &str = "rope.scaling.type";
/// By how much positions are stretched.
pub const ROPE_SCALING_FACTOR: &str = "rope.scaling.factor";
/// The context length before stretching.
pub const ROPE_SCALING_ORIGINAL_CONTEXT_LENGTH: &str = "rope.scaling.original_context_length";

/// `llama` (SentencePiece), `gpt2` (byte-level BPE) or another tokenizer of llama.cpp.
pub const TOKENIZER_MODEL: &str = "tokenizer.ggml.model";
/// How byte-level BPE splits text before it merges.
pub const TOKENIZER_PRE: &str = "tokenizer.ggml.pre";
/// The tokens by id.
pub const TOKENIZER_TOKENS: &str = "tokenizer.ggml.tokens";
/// A score per token.
pub const TOKENIZER_SCORES: &str = "tokenizer.ggml.scores";
/// A `llama_token_type` per token.
pub const TOKENIZER_TOKEN_TYPE: &str = "tokenizer.ggml.token_type";
/// The merges of byte-level BPE, `left right`.
pub const TOKENIZER_MERGES: &str = "tokenizer.ggml.merges";
/// A Jinja template that turns messages into text.
pub const CHAT_TEMPLATE: &str = "tokenizer.chat_template";

/// The file of the importance matrix that a model was quantized with, as llama-quantize writes it.
pub const QUANTIZE_IMATRIX_FILE: &str = "quantize.imatrix.file";
/// The text of that importance matrix.
pub const QUANTIZE_IMATRIX_DATASET: &str = "quantize.imatrix.dataset";
/// The entries of that importance matrix.
pub const QUANTIZE_IMATRIX_ENTRIES_COUNT: &str = "quantize.imatrix.entries_count";
/// The chunks of text of that importance matrix.
pub const QUANTIZE_IMATRIX_CHUNKS_COUNT: &str = "quantize.imatrix.chunks_count";

/// The key of an architecture.
///
/// ```
/// use ramp_gguf::keys;
/// assert_eq!(keys::of("qwen3", keys::BLOCK_COUNT), "qwen3.block_count");
/// ```
pub fn of(architecture: &str, key: &str) -> String {
    format!("{architecture}.{key}")
}

/// Type names that a key may have; the first part of a row is the message.
type Types = (&'static str, &'static [&'static str]);

const STRING: Types = ("string", &["string"]);
const STRINGS: Types = ("array of string", &["array of string"]);
const U32: Types = ("u32", &["u32"]);
const F32: Types = ("f32", &["f32"]);
const BOOL: Types = ("bool", &["bool"]);
const U16: Types = ("u16", &["u16"]);
const I32: Types = ("i32", &["i32"]);
/// llama-quantize has written both.
const COUNT: Types = ("u32 or i32", &["u32", "i32"]);
/// `get_key_or_arr`: one number, or one per layer.
const PER_LAYER: Types = ("u32 or an array of u32 or i32", &["u32", "array of u32", "array of i32"]);
const SCORES: Types = ("array of f32 or i32", &["array of f32", "array of i32"]);
const TOKEN_TYPES: Types = ("array of i32 or u32", &["array of i32", "array of u32"]);

const GLOBAL: &[(&str, Types)] = &[
    (ARCHITECTURE, STRING),
    (TYPE, STRING),
    (NAME, STRING),
    ("general.size_label", STRING),
    ("general.basename", STRING),
    ("general.finetune", STRING),
    ("general.version", STRING),
    ("general.license", STRING),
    ("general.quantized_by", STRING),
    (FILE_TYPE, U32),
    (QUANTIZATION_VERSION, U32),
    (ALIGNMENT, U32),
    ("split.no", U16),
    ("split.count", U16),
    ("split.tensors.count", I32),
    (TOKENIZER_MODEL, STRING),
    (TOKENIZER_PRE, STRING),
    (TOKENIZER_TOKENS, STRINGS),
    (TOKENIZER_SCORES, SCORES),
    (TOKENIZER_TOKEN_TYPE, TOKEN_TYPES),
    (TOKENIZER_MERGES, STRINGS),
    ("tokenizer.ggml.bos_token_id", U32),
    ("tokenizer.ggml.eos_token_id", U32),
    ("tokenizer.ggml.eot_token_id", U32),
    ("tokenizer.ggml.eom_token_id", U32),
    ("tokenizer.ggml.unknown_token_id", U32),
    ("tokenizer.ggml.seperator_token_id", U32),
    ("tokenizer.ggml.padding_token_id", U32),
    ("tokenizer.ggml.mask_token_id", U32),
    ("tokenizer.ggml.add_bos_token", BOOL),
    ("tokenizer.ggml.add_eos_token", BOOL),
    ("tokenizer.ggml.add_space_prefix", BOOL),
    (CHAT_TEMPLATE, STRING),
    ("imatrix.datasets", STRINGS),
    ("imatrix.chunk_count", U32),
    ("imatrix.chunk_size", U32),
    (QUANTIZE_IMATRIX_FILE, STRING),
    (QUANTIZE_IMATRIX_DATASET, STRING),
    (QUANTIZE_IMATRIX_ENTRIES_COUNT, COUNT),
    (QUANTIZE_IMATRIX_CHUNKS_COUNT, COUNT),
];

/// After the architecture's name.
const OF_ARCHITECTURE: &[(&str, Types)] = &[
    (BLOCK_COUNT, U32),
    (EMBEDDING_LENGTH, U32),
    (FEED_FORWARD_LENGTH, PER_LAYER),
    (CONTEXT_LENGTH, U32),
    (VOCAB_SIZE, U32),
    (EXPERT_COUNT, U32),
    (EXPERT_USED_COUNT, U32),
    (HEAD_COUNT, PER_LAYER),
    (HEAD_COUNT_KV, PER_LAYER),
    (KEY_LENGTH, U32),
    (VALUE_LENGTH, U32),
    (LAYER_NORM_RMS_EPSILON, F32),
    (LAYER_NORM_EPSILON, F32),
    (ROPE_DIMENSION_COUNT, U32),
    (ROPE_FREQ_BASE, F32),
    (ROPE_SCALING_TYPE, STRING),
    (ROPE_SCALING_FACTOR, F32),
    (ROPE_SCALING_ORIGINAL_CONTEXT_LENGTH, U32),
];

/// Checks that each key which llama.cpp reads has the type that it reads: `get_key` of its loader throws on a
/// number of another width, although the GGUF specification allows it. Keys that are not known pass.
///
/// ```
/// use ramp_gguf::{Metadata, check_key_types};
/// let mut metadata = Metadata::new();
/// metadata.insert("general.architecture", "llama");
/// metadata.insert("llama.block_count", 32_u64);
/// let error = check_key_types(&metadata).unwrap_err();
/// assert_eq!(error.to_string(), "metadata key `llama.block_count` is u64, expected u32");
/// ```
///
/// # Errors
/// [`Error::WrongType`].
pub fn check_key_types(metadata: &Metadata) -> Result<()> {
    let check = |key: &str, (expected, types): Types| match metadata.get(key).map(Value::type_name) {
        Some(found) if !types.contains(&found) => {
            Err(Error::WrongType { key: key.to_owned(), expected, found })
        }
        _ => Ok(()),
    };
    for &(key, types) in GLOBAL {
        check(key, types)?;
    }
    if let Some(architecture) = metadata.get(ARCHITECTURE).and_then(Value::as_str) {
        for &(key, types) in OF_ARCHITECTURE {
            check(&of(architecture, key), types)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_key_refuses_another_type() {
        // No key may be an array of bools.
        let other = || Value::from(vec![true]);
        for &(key, (expected, _)) in GLOBAL {
            let metadata: Metadata = [(key, other())].into_iter().collect();
            let error = check_key_types(&metadata).unwrap_err().to_string();
            assert_eq!(error, format!("metadata key `{key}` is array of bool, expected {expected}"));
        }
        for &(key, _) in OF_ARCHITECTURE {
            let mut metadata: Metadata = [(of("gpt2", key), other())].into_iter().collect();
            assert!(check_key_types(&metadata).is_ok(), "without an architecture there are no such keys");
            metadata.insert(ARCHITECTURE, "gpt2");
            assert!(matches!(check_key_types(&metadata), Err(Error::WrongType { .. })), "{key}");
        }
    }

    #[test]
    fn both_forms_of_a_number_per_layer_pass() {
        for value in [Value::from(8_u32), vec![8_u32, 4].into(), vec![8_i32, 4].into()] {
            let mut metadata = Metadata::new();
            metadata.insert(ARCHITECTURE, "llama");
            metadata.insert(of("llama", HEAD_COUNT), value);
            metadata.insert("llama.own.key", vec![true]);
            assert!(check_key_types(&metadata).is_ok());
        }
    }
}
