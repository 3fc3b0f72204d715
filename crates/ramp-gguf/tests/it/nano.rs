//! The tokenizer of the small model in the repository.

use std::path::Path;

use ramp_gguf::{Metadata, VocabOptions, check_vocabulary, sentencepiece_metadata, tokenizer_metadata};

/// `tokenizer.model`, `tokenizer.json`, and both together give the same keys.
#[test]
fn all_files_of_a_tokenizer_say_the_same() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/nano");
    let model = std::fs::read(folder.join("tokenizer.model")).unwrap();
    let text = std::fs::read_to_string(folder.join("tokenizer.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let opts = VocabOptions { vocab_size: 2048, eos: Some(2), ..VocabOptions::default() };

    let mut alone = Metadata::new();
    sentencepiece_metadata(&model, &opts, &mut alone).unwrap();
    check_vocabulary(&alone).unwrap();
    for sentencepiece in [Some(&model[..]), None] {
        let mut md = Metadata::new();
        tokenizer_metadata(&json, sentencepiece, &opts, &mut md).unwrap();
        for (key, value) in alone.iter() {
            assert!(md.get(key) == Some(value), "`{key}` differs");
        }
        assert_eq!(md.len(), alone.len());
    }
}
