//! A Llama of random weights in the width of Llama-2-7B.

use std::path::Path;

use burn::tensor::Device;
use ramp::model::{Architecture, HostTensor, ModelConfig, Parameter, WeightSource};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

/// The value of an option among the arguments of the program.
pub(crate) fn option(args: &[String], name: &str, default: &str) -> String {
    let at = args.iter().position(|arg| arg == name);
    at.and_then(|at| args.get(at + 1)).map_or_else(|| default.to_owned(), Clone::clone)
}

/// So many random tokens.
pub(crate) fn tokens(n: usize, vocab_size: usize) -> Vec<u32> {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    (0..n).map(|_| rng.random_range(0..vocab_size as u32)).collect()
}

/// The device of a name.
pub(crate) fn open(name: &str) -> Result<Device, String> {
    match name {
        #[cfg(feature = "flex")]
        "cpu" => Ok(Device::flex()),
        #[cfg(feature = "cuda")]
        "cuda" => Ok(Device::cuda(0_usize)),
        #[cfg(feature = "cuda")]
        _ if name.starts_with("cuda:") => {
            let index: usize = name["cuda:".len()..].parse().map_err(|error| format!("`{name}`: {error}"))?;
            Ok(Device::cuda(index))
        }
        _ => Err(format!("no device `{name}` in this build")),
    }
}

/// Llama-2-7B's shape.
pub(crate) fn llama(n_blocks: usize) -> ModelConfig {
    ModelConfig {
        architecture: Architecture::Llama,
        hidden_size: 4096,
        intermediate_size: 11008,
        n_blocks,
        n_heads: 32,
        n_kv_heads: 32,
        head_dim: 128,
        vocab_size: 32000,
        max_position_embeddings: 4096,
        norm_eps: 1e-5,
        rope_theta: 10_000.0,
        rope_scaling: None,
        sliding_window: None,
        tie_word_embeddings: false,
        bos_token_id: Some(1),
        eos_token_id: Some(2),
    }
}

/// Uniform weights of the variance that keeps the residual stream's size; norms are one.
pub(crate) struct Random<'a>(pub(crate) &'a ModelConfig);

impl WeightSource for Random<'_> {
    fn path(&self) -> &Path {
        Path::new("random weights")
    }

    fn name(&self, parameter: Parameter) -> String {
        parameter.gguf_name()
    }

    fn tensor(&self, parameter: Parameter) -> ramp::model::Result<HostTensor> {
        let shape = self.0.parameter_shape(parameter);
        let n: usize = shape.iter().product();
        let data = match shape.as_slice() {
            [_, columns] => {
                let bound = (3.0 / *columns as f32).sqrt();
                let mut data = vec![0.0; n];
                data.par_chunks_mut(1 << 16).enumerate().for_each(|(chunk, values)| {
                    let mut rng = ChaCha8Rng::seed_from_u64(chunk as u64);
                    values.iter_mut().for_each(|value| *value = rng.random_range(-bound..bound));
                });
                data
            }
            _ => vec![1.0; n],
        };
        Ok(HostTensor { shape, data })
    }
}
