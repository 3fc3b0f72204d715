//! Scores random tokens with a Llama of random weights, and prints tokens per second: how fast a device is on a shape
//! that no file is needed for.
//!
//! `random_llama [--device cuda:0] [--precision bf16] [--blocks 32] [--windows 4] [--ctx 2048] [--rounds 5]`. The width
//! is Llama-2-7B's; with 32 blocks it is that model. `random_llama.py` beside this file does the same in PyTorch.
#![allow(clippy::print_stdout, reason = "a program at the command line")]

use std::{env, error::Error, path::Path, time::Instant};

use burn::tensor::Device;
use ramp::{
    eval::{Bos, Protocol, perplexity},
    model::{Architecture, CausalLm, HostTensor, ModelConfig, Parameter, Precision, WeightSource},
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    let option = |name: &str, default: &str| -> String {
        let at = args.iter().position(|arg| arg == name);
        at.and_then(|at| args.get(at + 1)).map_or_else(|| default.to_owned(), Clone::clone)
    };
    let device = open(&option("--device", "cpu"))?;
    let precision: Precision = option("--precision", "f32").parse()?;
    let config = llama(option("--blocks", "32").parse()?);
    let ctx: usize = option("--ctx", "2048").parse()?;
    let windows: usize = option("--windows", "4").parse()?;
    let rounds: usize = option("--rounds", "5").parse()?;

    let start = Instant::now();
    let model = CausalLm::load_as(&config, &Random(&config), &device, precision)?;
    println!("load: {:.1} s", start.elapsed().as_secs_f64());

    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let ids: Vec<u32> = (0..ctx * windows).map(|_| rng.random_range(0..config.vocab_size as u32)).collect();
    let protocol = Protocol { bos: Bos::Never, max_windows: Some(windows), ..Protocol::gptq(ctx) };
    let cut = protocol.windows(&ids, None)?;
    let mut best = f64::INFINITY;
    for round in 0..=rounds {
        let start = Instant::now();
        let nll = perplexity(&model, &cut, |_| true)?.mean_nll;
        let seconds = start.elapsed().as_secs_f64();
        println!("round {round}: {seconds:.3} s, mean NLL {nll:.5}");
        if round > 0 {
            best = best.min(seconds);
        }
    }
    println!("{} tokens, best round: {:.0} tokens/s", cut.n_tokens(), cut.n_tokens() as f64 / best);
    Ok(())
}

fn open(name: &str) -> Result<Device, String> {
    match name {
        #[cfg(feature = "flex")]
        "cpu" => Ok(Device::flex()),
        #[cfg(feature = "cuda")]
        "cuda" | "cuda:0" => Ok(Device::cuda(0)),
        _ => Err(format!("no device `{name}` in this build")),
    }
}

/// Llama-2-7B's shape.
fn llama(n_blocks: usize) -> ModelConfig {
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
struct Random<'a>(&'a ModelConfig);

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
