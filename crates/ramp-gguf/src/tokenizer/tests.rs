//! Both tokenizer families, on vocabularies small enough to read.

use serde_json::{Value as Json, json};

use super::{VocabOptions, sentencepiece_metadata, tokenizer_metadata};
use crate::{Error, Metadata, Result, Value};

const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Options for a vocabulary of this size and nothing else.
fn size(vocab_size: usize) -> VocabOptions {
    VocabOptions { vocab_size, ..VocabOptions::default() }
}

fn convert(json: &Json, model: Option<&[u8]>, opts: &VocabOptions) -> Result<Metadata> {
    let mut md = Metadata::new();
    tokenizer_metadata(json, model, opts, &mut md).inspect_err(|_| assert!(md.is_empty()))?;
    Ok(md)
}

#[track_caller]
fn check_error(json: &Json, opts: &VocabOptions, expected: &str) {
    let message = convert(json, None, opts).unwrap_err().to_string();
    assert!(message.contains(expected), "{message}");
}

fn special(id: u64, content: &str) -> Json {
    json!({"id": id, "content": content, "special": true})
}

fn template(single: &[&str], ids: &[(&str, &[u32])]) -> Json {
    let piece = |piece: &&str| match *piece {
        "A" => json!({"Sequence": {"id": "A", "type_id": 0}}),
        token => json!({"SpecialToken": {"id": token, "type_id": 0}}),
    };
    let tokens: serde_json::Map<_, _> =
        ids.iter().map(|(token, ids)| ((*token).into(), json!({"id": token, "ids": ids}))).collect();
    let single: Vec<_> = single.iter().map(piece).collect();
    json!({"type": "TemplateProcessing", "single": single, "special_tokens": tokens})
}

// ---- SentencePiece

/// Tokens `a`, `b`, their pairs, one byte and the three special tokens of Llama.
fn spm() -> Json {
    json!({
        "added_tokens": [special(0, "<unk>"), special(1, "<s>"), special(2, "</s>")],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        ]},
        "pre_tokenizer": null,
        "post_processor": template(&["<s>", "A"], &[("<s>", &[1])]),
        "model": {
            "type": "BPE", "unk_token": "<unk>", "byte_fallback": true, "ignore_merges": false,
            "vocab": {"<unk>": 0, "<s>": 1, "</s>": 2, "<0x0A>": 3, "▁a": 4, "ab": 5, "▁ab": 6, "▁": 7, "a": 8, "b": 9},
            "merges": [["▁", "a"], ["a", "b"], ["▁a", "b"], ["▁", "ab"]],
        },
    })
}

/// One field of a protocol buffer with a length.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, bytes.len() as u8], bytes].concat()
}

fn piece(text: &str, score: f32, kind: u8) -> Vec<u8> {
    field(
        1,
        &[field(1, text.as_bytes()), [&[2 << 3 | 5][..], &score.to_le_bytes()].concat(), vec![3 << 3, kind]]
            .concat(),
    )
}

/// The `tokenizer.model` of [`spm`], with fields that must be skipped.
fn spm_model() -> Vec<u8> {
    let bpe = field(2, &[&field(1, b"input.txt")[..], &[3 << 3, 2], &[0x80, 1, 7]].concat());
    let normalizer = field(3, &field(1, b"identity"));
    let fixed64 = [&[9 << 3 | 1][..], &[0; 8]].concat();
    [
        piece("<unk>", 0.0, 2),
        piece("<s>", 0.0, 3),
        piece("</s>", 0.0, 3),
        piece("<0x0A>", 0.0, 6),
        piece("▁a", 0.0, 1),
        piece("ab", -1.0, 1),
        piece("▁ab", -2.0, 1),
        piece("▁", -3.0, 1),
        piece("a", -4.0, 1),
        piece("b", -5.0, 1),
        bpe,
        normalizer,
        fixed64,
    ]
    .concat()
}

#[test]
fn sentencepiece_keys() {
    let opts = VocabOptions { vocab_size: 12, eos: Some(2), ..VocabOptions::default() };
    let md = convert(&spm(), Some(&spm_model()), &opts).unwrap();
    let keys: Vec<_> = md.iter().map(|(key, _)| key.strip_prefix("tokenizer.ggml.").unwrap()).collect();
    assert_eq!(
        keys,
        [
            "model",
            "pre",
            "tokens",
            "scores",
            "token_type",
            "add_space_prefix",
            "bos_token_id",
            "eos_token_id",
            "unknown_token_id",
            "add_bos_token",
            "add_eos_token",
        ]
    );
    let key = |key: &str| format!("tokenizer.ggml.{key}");
    assert_eq!(md.get_str(&key("model")).unwrap(), "llama");
    assert_eq!(md.get_str(&key("pre")).unwrap(), "default");
    assert_eq!(
        md.get_array_str(&key("tokens")).unwrap(),
        ["<unk>", "<s>", "</s>", "<0x0A>", "▁a", "ab", "▁ab", "▁", "a", "b", "[PAD10]", "[PAD11]"]
    );
    assert_eq!(
        md.get_array_f32(&key("scores")).unwrap(),
        [0.0, 0.0, 0.0, 0.0, 0.0, -1.0, -2.0, -3.0, -4.0, -5.0, -10000.0, -10000.0]
    );
    assert_eq!(md.get_array_i32(&key("token_type")).unwrap(), [2, 3, 3, 6, 1, 1, 1, 1, 1, 1, 5, 5]);
    assert_eq!(md.get_u32(&key("bos_token_id")).unwrap(), 1);
    assert_eq!(md.get_u32(&key("eos_token_id")).unwrap(), 2);
    assert_eq!(md.get_u32(&key("unknown_token_id")).unwrap(), 0);
    assert!(md.get_bool(&key("add_bos_token")).unwrap());
    assert!(!md.get_bool(&key("add_eos_token")).unwrap());
    assert!(md.get_bool(&key("add_space_prefix")).unwrap());
}

#[test]
fn without_tokenizer_model_the_keys_are_the_same() {
    let with = convert(&spm(), Some(&spm_model()), &size(10)).unwrap();
    assert_eq!(convert(&spm(), None, &size(10)).unwrap(), with);
    // Merges as one string, as written until 2024.
    let mut joined = spm();
    joined["model"]["merges"] = json!(["▁ a", "a b", "▁a b", "▁ ab"]);
    assert_eq!(convert(&joined, None, &size(10)).unwrap(), with);
}

#[test]
fn scores_fall_in_the_order_of_the_merges() {
    let mut json = spm();
    json["model"]["merges"] = json!([["a", "b"], ["▁", "ab"], ["▁", "a"]]);
    let md = convert(&json, None, &size(10)).unwrap();
    let scores = md.get_array_f32("tokenizer.ggml.scores").unwrap();
    // ▁a is third now, ab first, ▁ab second; single characters follow in the order of their ids.
    assert_eq!(scores[4..], [-2.0, 0.0, -1.0, -3.0, -4.0, -5.0]);
}

#[test]
fn added_tokens_become_control_or_user_defined() {
    let mut json = spm();
    let added = json["added_tokens"].as_array_mut().unwrap();
    added.push(json!({"id": 10, "content": "▁new▁token", "special": false}));
    added.push(json!({"id": 11, "content": "<|im_end|>", "special": false}));
    added.push(special(12, "[INST]"));
    for model in [None, Some(&spm_model()[..])] {
        let md = convert(&json, model, &size(13)).unwrap();
        let tokens = md.get_array_str("tokenizer.ggml.tokens").unwrap();
        assert_eq!(tokens[10..], [" new token", "<|im_end|>", "[INST]"]);
        assert_eq!(md.get_array_i32("tokenizer.ggml.token_type").unwrap()[10..], [4, 3, 3]);
        assert_eq!(md.get_array_f32("tokenizer.ggml.scores").unwrap()[10..], [-1000.0; 3]);
    }
}

#[test]
fn spaces() {
    let prefix = |json: &Json| {
        convert(json, None, &size(10)).unwrap().get_bool("tokenizer.ggml.add_space_prefix").unwrap()
    };
    let mut json = spm();
    json["normalizer"] = json["normalizer"]["normalizers"][1].clone();
    assert!(!prefix(&json), "spaces are marked, none is put in front");
    json["normalizer"] = Json::Null;
    check_error(&json, &size(10), "spaces are not replaced by U+2581");

    let metaspace = |scheme: &str| json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": false});
    json["pre_tokenizer"] = metaspace("first");
    assert!(prefix(&json));
    json["pre_tokenizer"] = metaspace("never");
    assert!(!prefix(&json));
    json["pre_tokenizer"]["split"] = true.into();
    check_error(&json, &size(10), "the pre-tokenizer does more than llama.cpp's");

    let mut json = spm();
    json["normalizer"]["normalizers"][0] = json!({"type": "NFKC"});
    check_error(&json, &size(10), "the normalizer does more than llama.cpp's");
    let pre = VocabOptions { pre: Some("default".into()), ..size(10) };
    assert!(convert(&json, None, &pre).is_ok(), "naming it skips the check");
}

#[test]
fn the_two_files_must_agree() {
    let mut json = spm();
    json["model"]["vocab"]["c"] = 10.into();
    let error = convert(&json, Some(&spm_model()), &size(11)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "token 10 is `c` in tokenizer.json and `absent: it has 10 pieces` in tokenizer.model"
    );

    let mut json = spm();
    json["model"]["vocab"].as_object_mut().unwrap().remove("b");
    json["model"]["vocab"]["c"] = 9.into();
    let error = convert(&json, Some(&spm_model()), &size(10)).unwrap_err();
    assert!(matches!(error, Error::VocabMismatch { id: 9, json, model } if json == "c" && model == "b"));
}

#[test]
fn broken_sentencepiece_models_are_refused() {
    let check = |model: &[u8], expected: &str| {
        let message = convert(&spm(), Some(model), &size(10)).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    };
    let model = spm_model();
    // Without the trainer's fields it counts as a unigram model, the default of the format.
    check(&piece("a", 0.0, 1), "not a BPE model");
    check(b"", "no pieces");
    check(&[1 << 3 | 2, 5, 0], "a field reaches past the end at byte 2");
    check(&[1 << 3 | 2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], "past the end");
    check(&[1 << 3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], "longer than ten bytes");
    check(&[1 << 3 | 3], "unknown wire type");
    check(&field(1, &field(1, b"\xff")), "a piece is not UTF-8");
    check(&piece("a", f32::NAN, 1), "the score of a piece is not finite");
    check(&piece("a", 0.0, 9), "unknown type of a piece");
    for end in 0..model.len() {
        // No panic, whatever the result.
        let _ = convert(&spm(), Some(&model[..end]), &size(10));
    }
}

// ---- SentencePiece without tokenizer.json

/// A trainer's or normalizer's fields, appended to [`spm_model`] (the last value of a field wins).
fn spm_model_with(number: u8, fields: &[u8]) -> Vec<u8> {
    [spm_model(), field(number, fields)].concat()
}

/// What Llama's models say: byte fallback, identity, no removal of spaces.
fn llama_model(normalizer: &[u8]) -> Vec<u8> {
    let byte_fallback = [0x98, 2, 1]; // 35 << 3 as a varint, true
    [spm_model_with(2, &byte_fallback), field(3, &[&[4 << 3, 0], normalizer].concat())].concat()
}

fn convert_model(model: &[u8], opts: &VocabOptions) -> Result<Metadata> {
    let mut md = Metadata::new();
    sentencepiece_metadata(model, opts, &mut md).inspect_err(|_| assert!(md.is_empty()))?;
    Ok(md)
}

#[test]
fn the_model_alone_gives_the_keys_of_both_files() {
    let both = convert(&spm(), Some(&spm_model()), &VocabOptions { eos: Some(2), ..size(10) }).unwrap();
    let alone = convert_model(&llama_model(&[]), &size(10)).unwrap();
    for (key, value) in both.iter() {
        // What tokenizer.json calls special is a control token even where the model has no such type.
        if key != "tokenizer.ggml.token_type" && key != "tokenizer.ggml.scores" {
            assert_eq!(alone.get(key), Some(value), "{key}");
        }
    }
    assert_eq!(alone.len(), both.len());
}

#[test]
fn special_tokens_of_the_model_and_of_the_caller() {
    // unk 3, no bos, eos 1, pad 0; a negative number is ten bytes long.
    let minus_one = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
    let ids = [&[0xc0, 2, 3, 0xc8, 2][..], &minus_one, &[0xd0, 2, 1, 0xd8, 2, 0]].concat();
    let model = [llama_model(&[3 << 3, 0]), field(2, &ids)].concat();
    let md = convert_model(&model, &size(12)).unwrap();
    let id = |md: &Metadata, role: &str| md.find::<u32>(&format!("tokenizer.ggml.{role}_token_id")).unwrap();
    let roles = ["unknown", "bos", "eos", "padding"];
    assert_eq!(roles.map(|role| id(&md, role)), [Some(3), None, Some(1), Some(0)]);
    assert!(!md.get_bool("tokenizer.ggml.add_bos_token").unwrap());
    assert!(!md.get_bool("tokenizer.ggml.add_space_prefix").unwrap());
    assert_eq!(md.get_array_str("tokenizer.ggml.tokens").unwrap()[10..], ["[PAD10]", "[PAD11]"]);

    let opts = VocabOptions { bos: Some(5), eos: Some(6), add_eos: Some(true), ..size(12) };
    let md = convert_model(&model, &opts).unwrap();
    assert_eq!(roles.map(|role| id(&md, role)), [Some(3), Some(5), Some(6), Some(0)]);
    assert!(md.get_bool("tokenizer.ggml.add_bos_token").unwrap());
    assert!(md.get_bool("tokenizer.ggml.add_eos_token").unwrap());
    let error = convert_model(&model, &VocabOptions { add_bos: Some(true), ..size(12) }).unwrap_err();
    assert!(error.to_string().contains("a begin-of-sequence token is to be added"), "{error}");
}

#[test]
fn models_that_change_texts_need_an_override() {
    let nfkc = [field(1, b"nmt_nfkc"), field(2, b"map")].concat();
    for (model, expected) in [
        (llama_model(&nfkc), "normalizer `nmt_nfkc` replaces characters"),
        (llama_model(&[4 << 3, 1]), "repeated spaces are removed"),
        (llama_model(&[5 << 3, 0]), "spaces are not replaced by U+2581"),
        (spm_model_with(3, &[4 << 3, 0]), "characters that are not in the vocabulary do not become bytes"),
    ] {
        let error = convert_model(&model, &size(10)).unwrap_err();
        assert!(matches!(error, Error::SentencePieceNormalizer { .. }));
        assert!(error.to_string().contains(expected), "{error}");
        let opts = VocabOptions { pre: Some("default".into()), ..size(10) };
        assert!(convert_model(&model, &opts).is_ok());
    }
    assert!(matches!(convert_model(&llama_model(&[]), &size(9)), Err(Error::TokenOutOfRange { id: 9, .. })));
    assert!(matches!(convert_model(b"", &size(9)), Err(Error::SentencePiece { .. })));
    assert!(matches!(convert_model(b"", &size(usize::MAX)), Err(Error::CountTooLarge { .. })));
}

/// Found by the fuzz target `tokenizer`.
#[test]
fn byte_tokens_are_spelled_as_such() {
    let model = [llama_model(&[]), piece("<0x-1>", 0.0, 6)].concat();
    let expected = "token 10 is of type byte, but spelled `<0x-1>`";
    assert_eq!(convert_model(&model, &size(11)).unwrap_err().to_string(), expected);
    assert_eq!(convert(&spm(), Some(&model), &size(11)).unwrap_err().to_string(), expected);
}

#[test]
fn chat_template_and_end_of_sequence() {
    let opts = VocabOptions {
        chat_template: Some("{{ messages }}".into()),
        eos: Some(2),
        add_eos: Some(true),
        ..size(10)
    };
    for md in [convert(&spm(), None, &opts).unwrap(), convert_model(&llama_model(&[]), &opts).unwrap()] {
        assert_eq!(md.get_str("tokenizer.chat_template").unwrap(), "{{ messages }}");
        assert!(md.get_bool("tokenizer.ggml.add_eos_token").unwrap());
    }
    let without = VocabOptions { add_eos: Some(true), ..size(10) };
    check_error(&spm(), &without, "an end-of-sequence token is to be added");
}

// ---- byte-level

/// Bytes `a`, `b` and the space, and one special token.
fn byte_level(pre_tokenizer: &Json, ignore_merges: bool) -> Json {
    json!({
        "added_tokens": [special(5, "<|endoftext|>")],
        "normalizer": null,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": true},
        "model": {
            "type": "BPE", "unk_token": null, "byte_fallback": false, "ignore_merges": ignore_merges,
            "vocab": {"a": 0, "b": 1, "Ġ": 2, "ab": 3, "Ġab": 4},
            "merges": [["a", "b"], ["Ġ", "ab"]],
        },
    })
}

fn gpt2_split() -> Json {
    json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true})
}

fn regex_split(regex: &str) -> Json {
    json!({"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false},
        {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
    ]})
}

#[test]
fn byte_level_keys() {
    let opts =
        VocabOptions { vocab_size: 7, bos: Some(5), eos: Some(5), pad: Some(6), ..VocabOptions::default() };
    let md = convert(&byte_level(&gpt2_split(), false), None, &opts).unwrap();
    let expected: Metadata = [
        ("tokenizer.ggml.model", Value::from("gpt2")),
        ("tokenizer.ggml.pre", "gpt-2".into()),
        (
            "tokenizer.ggml.tokens",
            ["a", "b", "Ġ", "ab", "Ġab", "<|endoftext|>", "[PAD6]"].map(str::to_owned).to_vec().into(),
        ),
        ("tokenizer.ggml.token_type", vec![1, 1, 1, 1, 1, 3, 5].into()),
        ("tokenizer.ggml.merges", vec!["a b".to_owned(), "Ġ ab".to_owned()].into()),
        ("tokenizer.ggml.bos_token_id", 5_u32.into()),
        ("tokenizer.ggml.eos_token_id", 5_u32.into()),
        ("tokenizer.ggml.padding_token_id", 6_u32.into()),
        ("tokenizer.ggml.add_bos_token", false.into()),
        ("tokenizer.ggml.add_eos_token", false.into()),
    ]
    .into_iter()
    .collect();
    assert_eq!(md, expected);
}

#[test]
fn splits_are_recognised() {
    let digits = json!({"type": "Sequence", "pretokenizers": [
        {"type": "Digits", "individual_digits": true},
        {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true},
    ]});
    for (pre_tokenizer, ignore_merges, expected) in [
        (gpt2_split(), false, "gpt-2"),
        (regex_split(LLAMA3), true, "llama-bpe"),
        (regex_split(LLAMA3), false, "smaug-bpe"),
        (regex_split(QWEN2), false, "qwen2"),
        (digits, false, "smollm"),
    ] {
        let md = convert(&byte_level(&pre_tokenizer, ignore_merges), None, &size(6)).unwrap();
        assert_eq!(md.get_str("tokenizer.ggml.pre").unwrap(), expected);
    }
}

#[test]
fn other_splits_are_named_in_the_error_and_can_be_overridden() {
    let mut prefixed = gpt2_split();
    prefixed["add_prefix_space"] = true.into();
    let mut inverted = regex_split(QWEN2);
    inverted["pretokenizers"][0]["invert"] = true.into();
    for (pre_tokenizer, ignore_merges, expected) in [
        (regex_split(r"\w+|\S"), false, r"(regex \w+|\S, ignore_merges false)"),
        (regex_split(QWEN2), true, "ignore_merges true"),
        (inverted, false, QWEN2),
        (prefixed, false, r#""add_prefix_space":true"#),
    ] {
        let json = byte_level(&pre_tokenizer, ignore_merges);
        let error = convert(&json, None, &size(6)).unwrap_err();
        assert!(matches!(error, Error::UnknownPreTokenizer { .. }));
        assert!(error.to_string().contains(expected), "{error}");
        let opts = VocabOptions { pre: Some("viking".into()), ..size(6) };
        let md = convert(&json, None, &opts).unwrap();
        assert_eq!(md.get_str("tokenizer.ggml.pre").unwrap(), "viking");
    }
}

#[test]
fn a_name_that_llama_cpp_does_not_know_is_refused() {
    let opts = VocabOptions { pre: Some("quen2".into()), ..size(6) };
    let error = convert(&byte_level(&gpt2_split(), false), None, &opts).unwrap_err();
    assert!(matches!(&error, Error::NoSuchPreTokenizer { name } if name == "quen2"));
    assert!(error.to_string().contains(", qwen2, "), "{error}");
}

#[test]
fn byte_level_normalizers() {
    let mut json = byte_level(&regex_split(QWEN2), false);
    json["normalizer"] = json!({"type": "NFC"});
    assert!(convert(&json, None, &size(6)).is_ok());
    json["normalizer"] = json!({"type": "Lowercase"});
    check_error(&json, &size(6), "the normalizer changes text before byte-level BPE");
}

#[test]
fn spaces_inside_merges_are_encoded() {
    let mut json = byte_level(&gpt2_split(), false);
    json["model"]["merges"] = json!([["a b", "b"]]);
    let md = convert(&json, None, &size(6)).unwrap();
    assert_eq!(md.get_array_str("tokenizer.ggml.merges").unwrap(), ["aĠb b"]);
}

// ---- what both share

#[test]
fn tokens_around_the_text() {
    let keys = |json: &Json, opts: &VocabOptions| {
        let md = convert(json, None, opts).unwrap();
        let id = |key: &str| md.find::<u32>(&format!("tokenizer.ggml.{key}_token_id")).unwrap();
        let add = |key: &str| md.get_bool(&format!("tokenizer.ggml.add_{key}_token")).unwrap();
        (id("bos"), add("bos"), id("eos"), add("eos"))
    };
    let mut json = spm();
    assert_eq!(keys(&json, &size(10)), (Some(1), true, None, false));
    let opts = VocabOptions { add_bos: Some(false), eos: Some(2), ..size(10) };
    assert_eq!(keys(&json, &opts), (Some(1), false, Some(2), false));

    // The template decides which token it is, whatever the configuration calls it.
    json["post_processor"] = json!({"type": "Sequence", "processors": [
        {"type": "ByteLevel"},
        template(&["<s>", "A", "</s>"], &[("<s>", &[1]), ("</s>", &[2])]),
    ]});
    let opts = VocabOptions { bos: Some(7), ..size(10) };
    assert_eq!(keys(&json, &opts), (Some(1), true, Some(2), true));

    json["post_processor"] = Json::Null;
    assert_eq!(keys(&json, &opts), (Some(7), false, None, false));
    let opts = VocabOptions { add_bos: Some(true), ..opts };
    assert_eq!(keys(&json, &opts), (Some(7), true, None, false));
    check_error(&json, &VocabOptions { bos: None, ..opts }, "a begin-of-sequence token is to be added");
}

#[test]
fn post_processors_without_counterpart() {
    let mut json = spm();
    json["post_processor"] = template(&["<s>", "<s>", "A"], &[("<s>", &[1])]);
    check_error(&json, &size(10), "more than one token to an end");
    json["post_processor"] = template(&["<s>", "A"], &[]);
    check_error(&json, &size(10), "template token `<s>` has no single id");
    json["post_processor"] = json!({"type": "RobertaProcessing", "sep": ["a", 1], "cls": ["b", 2]});
    check_error(&json, &size(10), "adds tokens in a way that llama.cpp cannot");
}

#[test]
fn ids_must_fit_the_embedding() {
    check_error(&spm(), &size(9), "token `b` has id 9, the vocabulary has 9 entries");
    check_error(&byte_level(&gpt2_split(), false), &size(5), "token `<|endoftext|>` has id 5");
    let error = convert(&spm(), Some(&spm_model()), &size(9)).unwrap_err();
    assert!(matches!(error, Error::TokenOutOfRange { id: 9, vocab_size: 9, .. }));
    check_error(&spm(), &VocabOptions { pad: Some(10), ..size(10) }, "token `the padding token` has id 10");
    check_error(&spm(), &size(usize::MAX), "vocabulary entries");
    let mut json = spm();
    json["model"]["vocab"]["c"] = u64::MAX.into();
    check_error(&json, &size(10), "token `c` has id 18446744073709551615");
}

#[test]
fn duplicates() {
    let mut json = spm();
    json["model"]["vocab"]["c"] = 9.into();
    check_error(&json, &size(10), "tokens `b` and `c` both have id 9");
    let mut json = byte_level(&gpt2_split(), false);
    json["model"]["vocab"]["c"] = 4.into();
    check_error(&json, &size(6), "tokens `c` and `Ġab` both have id 4");
    json["model"]["vocab"]["c"] = 6.into();
    json["added_tokens"][0]["content"] = "a".into();
    check_error(&json, &size(7), "tokens 0 and 5 are both `a`");
}

#[test]
fn other_models_are_refused() {
    let mut json = spm();
    json["model"]["type"] = "Unigram".into();
    check_error(&json, &size(10), "model type is Unigram, only BPE is supported");
    json["model"]["type"] = "BPE".into();
    json["model"]["byte_fallback"] = false.into();
    check_error(&json, &size(10), "neither byte-level BPE nor BPE with byte fallback");
    json["model"].as_object_mut().unwrap().remove("merges");
    check_error(&json, &size(10), "missing field `merges`");
    check_error(&json!({}), &size(10), "missing field `model`");
    check_error(&json!([1, 2]), &size(10), "tokenizer.json: ");
    let mut json = spm();
    json["model"]["merges"] = json!(["ab"]);
    check_error(&json, &size(10), "merge `ab` is not two tokens");
}
