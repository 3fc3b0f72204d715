//! Scores random tokens with a Llama of random weights, and prints tokens per second: how fast a device is on a shape
//! that no file is needed for.
//!
//! `random_llama [--device cuda:0] [--precision bf16] [--blocks 32] [--windows 4] [--ctx 2048] [--rounds 5]`. The width
//! is Llama-2-7B's; with 32 blocks it is that model. `random_llama.py` beside this file does the same in PyTorch.
#![allow(clippy::print_stdout, reason = "a program at the command line")]

#[path = "shared/random_model.rs"]
mod random_model;

use std::{env, error::Error, time::Instant};

use ramp::{
    eval::{Bos, Protocol, perplexity},
    model::{CausalLm, Precision},
};
use random_model::{Random, llama, open, tokens};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    let option = |name: &str, default: &str| random_model::option(&args, name, default);
    let device = open(&option("--device", "cpu"))?;
    let precision: Precision = option("--precision", "f32").parse()?;
    let config = llama(option("--blocks", "32").parse()?);
    let ctx: usize = option("--ctx", "2048").parse()?;
    let windows: usize = option("--windows", "4").parse()?;
    let rounds: usize = option("--rounds", "5").parse()?;

    let start = Instant::now();
    let model = CausalLm::load_as(&config, &Random(&config), &device, precision)?;
    println!("load: {:.1} s", start.elapsed().as_secs_f64());

    let ids = tokens(ctx * windows, config.vocab_size);
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
