//! Both forms of the file, and what is refused.

use super::*;
use crate::parameter::{NormId, Parameter};

fn parse(json: &str) -> Result<ModelConfig> {
    let path = Path::new("config.json");
    let raw: HfConfig =
        serde_json::from_str(json).map_err(|source| Error::Json { path: path.to_owned(), source })?;
    raw.into_config(path)
}

const OLDER: &str = r#"{"model_type":"llama","hidden_size":64,"intermediate_size":96,
    "num_hidden_layers":2,"num_attention_heads":4,"vocab_size":32,"rms_norm_eps":1e-5,
    "rope_theta":500000.0,"rope_scaling":{"rope_type":"llama3","factor":8.0,"low_freq_factor":1.0,
    "high_freq_factor":4.0,"original_max_position_embeddings":8192},"eos_token_id":[7,8]}"#;

#[test]
fn older_and_newer_rope_keys_agree() {
    let older = parse(OLDER).unwrap();
    let newer = OLDER.replace(
        "\"rope_theta\":500000.0,\"rope_scaling\":{",
        "\"rope_parameters\":{\"rope_theta\":500000.0,",
    );
    assert_eq!(older, parse(&newer.replace("\"rope_theta\":500000.0,\n", "")).unwrap());
    assert_eq!(older.rope_theta, 500_000.0);
    assert!(matches!(older.rope_scaling, Some(RopeScaling::Llama3 { factor: 8.0, .. })));
    assert_eq!((older.head_dim, older.n_kv_heads, older.eos_token_id), (16, 4, Some(7)));
}

#[test]
fn both_names_of_the_rope_type_may_stand_together() {
    let both = OLDER.replace("\"rope_type\":\"llama3\"", "\"rope_type\":\"llama3\",\"type\":\"llama3\"");
    let older = OLDER.replace("\"rope_type\"", "\"type\"");
    assert_eq!(parse(&both).unwrap(), parse(OLDER).unwrap());
    assert_eq!(parse(&older).unwrap(), parse(OLDER).unwrap());
}

#[test]
fn each_broken_value_is_named() {
    for (from, to, expected) in [
        ("\"llama\"", "\"gemma\"", "unsupported architecture `gemma`"),
        ("\"num_hidden_layers\":2", "\"num_hidden_layers\":0", "`num_hidden_layers` is 0"),
        ("\"vocab_size\":32,", "", "`vocab_size` is missing"),
        ("\"num_attention_heads\":4", "\"num_attention_heads\":5", "not a divisor of hidden_size 64"),
        ("\"hidden_size\":64", "\"hidden_size\":60", "`head_dim` is 15"),
        ("\"rope_type\":\"llama3\"", "\"rope_type\":\"longrope\"", "`rope_type` is `longrope`"),
        ("\"rms_norm_eps\":1e-5", "\"rms_norm_eps\":-1.0", "`rms_norm_eps` is -1"),
        ("\"vocab_size\":32", "\"vocab_size\":32,\"attention_bias\":true", "`attention_bias` is true"),
    ] {
        let text = OLDER.replace(from, to);
        assert_ne!(text, OLDER, "{from}");
        let message = parse(&text).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn shapes_cover_every_parameter() {
    let config = parse(OLDER).unwrap();
    assert_eq!(config.layers().len(), 2 * 7 + 2);
    let per_block = 4 * 64 * 64 + 3 * 64 * 96 + 2 * 64;
    assert_eq!(config.n_params(), 2 * per_block + 2 * 32 * 64 + 64);
}

#[test]
fn gpt2_has_keys_of_its_own() {
    let json = r#"{"model_type":"gpt2","n_embd":64,"n_head":4,"n_layer":3,"n_positions":128,"n_inner":null,
        "activation_function":"gelu_new","layer_norm_epsilon":1e-5,"vocab_size":32}"#;
    let config = parse(json).unwrap();
    assert_eq!((config.intermediate_size, config.head_dim, config.n_kv_heads), (256, 16, 4));
    assert!(config.tie_word_embeddings);
    assert_eq!(config.max_tokens(), Some(128));
    assert_eq!(config.layers().len(), 1 + 3 * 4);
    let per_block = 12 * 64 * 64 + (3 + 1 + 4 + 1) * 64 + 4 * 64;
    assert_eq!(config.n_params(), 32 * 64 + 128 * 64 + 3 * per_block + 2 * 64);
    for (from, to, expected) in [
        ("gelu_new", "relu", "`activation_function` is `relu`"),
        ("\"n_head\":4", "\"n_head\":5", "`n_head` is 5, not a divisor of n_embd 64"),
        ("\"n_layer\":3,", "", "`n_layer` is missing"),
        ("1e-5", "2.0", "`layer_norm_epsilon` is 2"),
        ("\"n_layer\":3", "\"n_layer\":3,\"add_cross_attention\":true", "`add_cross_attention` is true"),
        ("\"n_layer\":3", "\"n_layer\":3,\"scale_attn_weights\":false", "`scale_attn_weights` is false"),
        (
            "\"n_layer\":3",
            "\"n_layer\":3,\"scale_attn_by_inverse_layer_idx\":true",
            "`scale_attn_by_inverse_layer_idx` is true",
        ),
    ] {
        let text = json.replace(from, to);
        assert_ne!(text, json, "{from}");
        let message = parse(&text).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn windows_of_qwen_are_refused_where_they_do_something() {
    let qwen = |extra: &str| {
        let text = OLDER.replace("\"llama\"", "\"qwen2\"");
        parse(&text.replace("\"vocab_size\":32", &format!("\"vocab_size\":32,\"sliding_window\":64{extra}")))
    };
    assert_eq!(qwen("").unwrap().sliding_window, None);
    assert_eq!(qwen(",\"use_sliding_window\":true,\"max_window_layers\":2").unwrap().sliding_window, None);
    let message = qwen(",\"use_sliding_window\":true,\"max_window_layers\":1").unwrap_err().to_string();
    assert!(message.contains("`use_sliding_window` is true"), "{message}");
}

#[test]
fn heads_of_qwen3_are_128_wide_unless_said_otherwise() {
    let config = parse(&OLDER.replace("\"llama\"", "\"qwen3\"")).unwrap();
    assert_eq!((config.head_dim, config.hidden_size), (128, 64));
    assert!(config.parameters().contains(&Parameter::Norm(NormId::QHead(1))));
    assert_eq!(config.norm_width(NormId::KHead(0)), 128);
}

#[test]
fn dynamic_scaling_ends_where_it_would_begin() {
    let scaled = |extra: &str| {
        let start = OLDER.find("\"rope_scaling\"").unwrap();
        let rope =
            format!("\"max_position_embeddings\":4096,\"rope_scaling\":{{\"type\":\"dynamic\",{extra}}}}}");
        parse(&format!("{}{rope}", &OLDER[..start])).unwrap()
    };
    let config = scaled("\"factor\":2.0");
    assert_eq!(config.rope_scaling, Some(RopeScaling::Dynamic { factor: 2.0 }));
    assert_eq!(config.max_tokens(), Some(4096));
    let stretched = scaled("\"factor\":2.0,\"original_max_position_embeddings\":2048");
    assert_eq!((stretched.max_tokens(), stretched.max_position_embeddings), (Some(2048), 2048));
}

#[test]
fn yarn_is_taken_with_its_defaults_only() {
    let yarn = |extra: &str| {
        let text = OLDER.replace("\"rope_type\":\"llama3\"", "\"rope_type\":\"yarn\"");
        parse(&text.replace("\"low_freq_factor\":1.0", extra))
    };
    let expected = Some(RopeScaling::Yarn { factor: 8.0, original_context: 8192.0 });
    for same in ["\"beta_fast\":32", "\"beta_slow\":1.0", "\"attention_factor\":1.2079441541679836"] {
        assert_eq!(yarn(same).unwrap().rope_scaling, expected, "{same}");
    }
    for (extra, message) in [
        ("\"beta_fast\":16", "`beta_fast` is 16"),
        ("\"attention_factor\":1.0", "`attention_factor` is 1"),
        ("\"mscale\":1.0", "`mscale` is 1"),
        ("\"truncate\":false", "`truncate` is false"),
    ] {
        let found = yarn(extra).unwrap_err().to_string();
        assert!(found.contains(message), "{found}");
    }
}
