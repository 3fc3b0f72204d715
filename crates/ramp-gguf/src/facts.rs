//! What the metadata of a model says about its shape and its vocabulary, checked before anything is built from it.

use crate::{Array, Error, Metadata, Result, Value, keys};

/// `LLAMA_MAX_LAYERS`: llama.cpp has tables of this size.
const MAX_LAYERS: u64 = 512;
/// `LLAMA_MAX_EXPERTS`.
const MAX_EXPERTS: u64 = 1024;
/// Far more than any model has.
const MAX_HEADS: u64 = 1 << 16;

const TOKEN_TYPE_BYTE: i64 = 6;

/// The shape of a model, as far as quantizing it needs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ModelFacts {
    /// `general.architecture`, such as `llama`.
    pub architecture: String,
    /// Layers, at most 512.
    pub n_layer: u32,
    /// Query heads (of the first layer, where layers differ).
    pub n_head: u32,
    /// Key and value heads (of the first layer).
    pub n_head_kv: u32,
    /// Experts of each feed-forward part; 0 for a dense model.
    pub n_expert: u32,
}

impl ModelFacts {
    /// A dense model.
    pub fn dense(architecture: impl Into<String>, n_layer: u32, n_head: u32, n_head_kv: u32) -> Self {
        Self { architecture: architecture.into(), n_layer, n_head, n_head_kv, n_expert: 0 }
    }

    /// Reads and checks the keys of a model.
    ///
    /// # Errors
    /// [`Error::MissingKey`] and [`Error::WrongType`]; [`Error::ModelSize`] for a number that is 0 or beyond
    /// llama.cpp's tables (a file with more layers than those wrote past their end);
    /// [`Error::PerLayerLength`], [`Error::HeadGroups`].
    pub fn read(metadata: &Metadata) -> Result<Self> {
        let architecture = metadata.get_str(keys::ARCHITECTURE)?;
        let key = |name| keys::of(architecture, name);
        let n_layer = metadata.get_u32(&key(keys::BLOCK_COUNT))?;
        check_size(&key(keys::BLOCK_COUNT), n_layer.into(), MAX_LAYERS)?;
        let n_head = per_layer(metadata, &key(keys::HEAD_COUNT), n_layer)?
            .ok_or_else(|| Error::MissingKey { key: key(keys::HEAD_COUNT) })?;
        let n_head_kv = per_layer(metadata, &key(keys::HEAD_COUNT_KV), n_layer)?.unwrap_or(n_head);
        // A layer without attention has no heads.
        if n_head_kv > 0 && !n_head.is_multiple_of(n_head_kv) {
            return Err(Error::HeadGroups { n_head, n_head_kv });
        }
        let n_expert = metadata.find::<u32>(&key(keys::EXPERT_COUNT))?.unwrap_or(0);
        if n_expert > 0 {
            check_size(&key(keys::EXPERT_COUNT), n_expert.into(), MAX_EXPERTS)?;
        }
        Ok(Self { architecture: architecture.to_owned(), n_layer, n_head, n_head_kv, n_expert })
    }

    /// Query heads that share one key head, 0 without attention (`n_gqa`).
    pub fn n_gqa(&self) -> u32 {
        self.n_head.checked_div(self.n_head_kv).unwrap_or(0)
    }
}

fn check_size(key: &str, value: u64, limit: u64) -> Result<()> {
    if value == 0 || value > limit {
        return Err(Error::ModelSize { key: key.to_owned(), value, limit });
    }
    Ok(())
}

/// One number for all layers, or the first of one per layer.
fn per_layer(metadata: &Metadata, key: &str, n_layer: u32) -> Result<Option<u32>> {
    let Some(value) = metadata.get(key) else { return Ok(None) };
    let values: Vec<i64> = match value {
        Value::U32(value) => {
            check_size(key, (*value).into(), MAX_HEADS)?;
            return Ok(Some(*value));
        }
        Value::Array(Array::U32(values)) => values.iter().map(|&value| value.into()).collect(),
        Value::Array(Array::I32(values)) => values.iter().map(|&value| value.into()).collect(),
        other => {
            let expected = "u32 or an array of u32 or i32";
            return Err(Error::WrongType { key: key.to_owned(), expected, found: other.type_name() });
        }
    };
    if values.len() != n_layer as usize {
        return Err(Error::PerLayerLength { key: key.to_owned(), n_layer, found: values.len() });
    }
    for value in &values {
        // 0 is a layer without attention; a negative number is larger than every limit.
        let value = u64::try_from(*value).unwrap_or(u64::MAX);
        if value > MAX_HEADS {
            return Err(Error::ModelSize { key: key.to_owned(), value, limit: MAX_HEADS });
        }
    }
    Ok(values.first().map(|&value| value as u32))
}

/// Checks the vocabulary of a model: scores and types have one element per token and the types that are read,
/// byte tokens are spelled as such, and the ids of special tokens are tokens. llama.cpp has read past the end of
/// arrays for each of these. A model without a vocabulary passes.
///
/// # Errors
/// [`Error::WrongType`], [`Error::TokenArrayLength`], [`Error::ByteToken`], [`Error::SpecialToken`].
pub fn check_vocabulary(metadata: &Metadata) -> Result<()> {
    keys::check_key_types(metadata)?;
    let Some(tokens) = metadata.find::<&[String]>(keys::TOKENIZER_TOKENS)? else { return Ok(()) };
    for key in [keys::TOKENIZER_SCORES, keys::TOKENIZER_TOKEN_TYPE] {
        if let Some(Value::Array(array)) = metadata.get(key)
            && array.len() != tokens.len()
        {
            return Err(Error::TokenArrayLength { key, expected: tokens.len(), found: array.len() });
        }
    }
    let is_byte: Box<dyn Fn(usize) -> bool> = match metadata.get(keys::TOKENIZER_TOKEN_TYPE) {
        Some(Value::Array(Array::I32(types))) => Box::new(|id| i64::from(types[id]) == TOKEN_TYPE_BYTE),
        Some(Value::Array(Array::U32(types))) => Box::new(|id| i64::from(types[id]) == TOKEN_TYPE_BYTE),
        _ => Box::new(|_| false),
    };
    for (id, text) in tokens.iter().enumerate() {
        if is_byte(id) && !is_byte_token(text) {
            return Err(Error::ByteToken { id, text: text.chars().take(80).collect() });
        }
    }
    for (key, value) in metadata.iter() {
        let Value::U32(id) = *value else { continue };
        let special = key.starts_with("tokenizer.ggml.") && key.ends_with("_token_id");
        if special && id as usize >= tokens.len() {
            return Err(Error::SpecialToken { key: key.to_owned(), id, n_tokens: tokens.len() });
        }
    }
    Ok(())
}

/// `<0x00>` to `<0xFF>`.
pub(crate) fn is_byte_token(text: &str) -> bool {
    let digits = text.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    digits.is_some_and(|digits| {
        digits.len() == 2 && digits.bytes().all(|c| matches!(c, b'0'..=b'9' | b'A'..=b'F'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn llama(entries: &[(&str, Value)]) -> Metadata {
        let mut metadata = Metadata::new();
        metadata.insert(keys::ARCHITECTURE, "llama");
        metadata.insert("llama.block_count", 2_u32);
        metadata.insert("llama.attention.head_count", 8_u32);
        metadata.extend(entries.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
        metadata
    }

    fn message(entries: &[(&str, Value)]) -> String {
        ModelFacts::read(&llama(entries)).unwrap_err().to_string()
    }

    #[test]
    fn facts_of_dense_and_expert_models() {
        let facts = ModelFacts::read(&llama(&[])).unwrap();
        assert_eq!(facts, ModelFacts::dense("llama", 2, 8, 8));
        let facts = ModelFacts::read(&llama(&[
            ("llama.attention.head_count_kv", vec![2_i32, 0].into()),
            ("llama.expert_count", 8_u32.into()),
        ]))
        .unwrap();
        assert_eq!((facts.n_head_kv, facts.n_gqa(), facts.n_expert), (2, 4, 8));
        let without = ModelFacts { n_head_kv: 0, ..facts };
        assert_eq!(without.n_gqa(), 0);
    }

    #[test]
    fn sizes_beyond_the_tables_of_llama_cpp_are_refused() {
        let limit = |key: &str, value: Value| message(&[(key, value)]);
        assert_eq!(
            limit("llama.block_count", 513_u32.into()),
            "metadata key `llama.block_count` is 513, expected 1 to 512"
        );
        assert!(limit("llama.block_count", 0_u32.into()).contains("is 0"));
        assert!(limit("llama.attention.head_count", 65537_u32.into()).contains("expected 1 to 65536"));
        assert!(limit("llama.attention.head_count", vec![8_i32, -1].into()).contains("expected 1 to 65536"));
        assert!(limit("llama.expert_count", 1025_u32.into()).contains("expected 1 to 1024"));
        assert!(ModelFacts::read(&llama(&[("llama.block_count", 512_u32.into())])).is_ok());
    }

    #[test]
    fn per_layer_arrays_have_one_number_per_layer() {
        assert_eq!(
            message(&[("llama.attention.head_count", vec![8_u32].into())]),
            "metadata key `llama.attention.head_count` has 1 elements for 2 layers"
        );
        assert_eq!(
            message(&[("llama.attention.head_count", 8_u64.into())]),
            "metadata key `llama.attention.head_count` is u64, expected u32 or an array of u32 or i32"
        );
        assert_eq!(
            message(&[("llama.attention.head_count_kv", 3_u32.into())]),
            "8 query heads do not share 3 key heads evenly"
        );
    }

    fn vocabulary(entries: &[(&str, Value)]) -> Result<()> {
        let mut metadata = llama(entries);
        metadata.insert(keys::TOKENIZER_TOKENS, vec!["a".to_owned(), "<0x41>".to_owned()]);
        check_vocabulary(&metadata)
    }

    #[test]
    fn vocabularies() {
        let check = |entries: &[(&str, Value)], expected: &str| {
            assert_eq!(vocabulary(entries).unwrap_err().to_string(), expected);
        };
        assert!(vocabulary(&[]).is_ok());
        assert!(check_vocabulary(&llama(&[("tokenizer.ggml.bos_token_id", 9_u32.into())])).is_ok());
        let types = |types: [i32; 2]| (keys::TOKENIZER_TOKEN_TYPE, Value::from(types.to_vec()));
        assert!(vocabulary(&[types([1, 6]), (keys::TOKENIZER_SCORES, vec![0.0_f32, -1.0].into())]).is_ok());
        check(
            &[(keys::TOKENIZER_SCORES, vec![0.0_f32].into())],
            "metadata key `tokenizer.ggml.scores` has 1 elements for 2 tokens",
        );
        check(
            &[(keys::TOKENIZER_TOKEN_TYPE, vec![1_i32; 3].into())],
            "metadata key `tokenizer.ggml.token_type` has 3 elements for 2 tokens",
        );
        check(
            &[(keys::TOKENIZER_SCORES, vec![0.0_f64; 2].into())],
            "metadata key `tokenizer.ggml.scores` is array of f64, expected array of f32 or i32",
        );
        check(&[types([6, 6])], "token 0 is of type byte, but spelled `a`");
        check(
            &[("tokenizer.ggml.eos_token_id", 2_u32.into())],
            "metadata key `tokenizer.ggml.eos_token_id` is 2, but there are 2 tokens",
        );
    }
}
