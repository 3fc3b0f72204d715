//! Hugging Face folders of small models with random weights, for the architectures without a trained model here.
#![allow(dead_code, reason = "those who include it take what they need")]

use std::{collections::BTreeMap, fs, path::Path};

use ramp_model::{Architecture, LayerId, ModelConfig, NormId, Parameter};
use safetensors::{Dtype, tensor::TensorView};

pub(crate) const QWEN2: &str = r#"{"model_type": "qwen2", "hidden_size": 64, "intermediate_size": 160,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 2048,
    "max_position_embeddings": 512, "rms_norm_eps": 1e-6, "rope_theta": 1000000.0, "hidden_act": "silu",
    "use_sliding_window": false, "sliding_window": 32768, "max_window_layers": 1, "tie_word_embeddings": true,
    "bos_token_id": 1, "eos_token_id": 2}"#;

/// Heads are wider than `hidden_size / num_attention_heads`.
pub(crate) const QWEN3: &str = r#"{"model_type": "qwen3", "hidden_size": 64, "intermediate_size": 160,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32,
    "vocab_size": 2048, "max_position_embeddings": 512, "rms_norm_eps": 1e-6, "rope_theta": 1000000.0,
    "hidden_act": "silu", "attention_bias": false, "tie_word_embeddings": false, "bos_token_id": 1,
    "eos_token_id": 2}"#;

/// Its context was stretched from 64 tokens.
pub(crate) const QWEN2_YARN: &str = r#"{"model_type": "qwen2", "hidden_size": 64, "intermediate_size": 160,
    "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 2048,
    "max_position_embeddings": 512, "rms_norm_eps": 1e-6, "hidden_act": "silu", "tie_word_embeddings": true,
    "rope_parameters": {"rope_theta": 10000.0, "rope_type": "yarn", "factor": 4.0,
    "original_max_position_embeddings": 64}, "bos_token_id": 1, "eos_token_id": 2}"#;

pub(crate) const GPT2: &str = r#"{"model_type": "gpt2", "n_embd": 64, "n_head": 4, "n_layer": 2, "n_positions": 256,
    "n_inner": null, "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5, "vocab_size": 2048,
    "bos_token_id": 1, "eos_token_id": 2}"#;

/// Writes a folder: this `config.json`, random weights in f32, and the tokenizer of another folder.
pub(crate) fn folder(path: &Path, config: &str, tokenizer: &Path) {
    fs::create_dir_all(path).unwrap();
    for file in ["tokenizer.json", "tokenizer.model"] {
        fs::copy(tokenizer.join(file), path.join(file)).unwrap();
    }
    let config_path = path.join("config.json");
    fs::write(&config_path, config).unwrap();
    let config = ModelConfig::from_file(&config_path).unwrap();
    let tensors: BTreeMap<String, (Vec<usize>, Vec<u8>)> = config
        .parameters()
        .into_iter()
        .map(|parameter| {
            let mut shape = config.parameter_shape(parameter);
            // `Conv1D` keeps [in, out].
            if config.architecture == Architecture::Gpt2
                && matches!(parameter, Parameter::Matrix(LayerId::Block { .. }))
            {
                shape.reverse();
            }
            let name = parameter.hf_name(config.architecture);
            let values = values(&name, parameter, shape.iter().product());
            (name, (shape, values.iter().flat_map(|x| x.to_le_bytes()).collect()))
        })
        .collect();
    let views = tensors
        .iter()
        .map(|(name, (shape, bytes))| (name, TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
    safetensors::serialize_to_file(views, None, &path.join("model.safetensors")).unwrap();
}

/// Uniform numbers of a size at which no part of the model drowns another.
fn values(name: &str, parameter: Parameter, n: usize) -> Vec<f32> {
    let (mean, spread) = match parameter {
        Parameter::Matrix(LayerId::TokenEmbd | LayerId::Output) => (0.0, 0.5),
        Parameter::Matrix(_) => (0.0, 0.25),
        Parameter::Norm(NormId::QHead(_) | NormId::KHead(_)) => (1.0, 0.8),
        Parameter::Norm(_) => (1.0, 0.5),
        Parameter::Bias(_) | Parameter::NormBias(_) | Parameter::PositionEmbd => (0.0, 0.5),
    };
    // FNV-1a of the name seeds a xorshift.
    let seed = name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u32 << 23) as f32 - 1.0
    };
    (0..n).map(|_| mean + spread * next()).collect()
}
