//! The main job on the embedded model, from start to end.
//!
//! ```text
//! cargo run --release --example quickstart
//! ```
//!
//! It calibrates `assets/nano` (a 3.7 M parameter Llama) on text sampled from it, folds scales, lets the SAC agent
//! search an allocation within 4.25 bits per weight, writes a GGUF file that llama.cpp loads, reopens the file
//! and evaluates it. Look at the table at the end: the agent, the measured knapsack and the uniform allocation at
//! the same bytes. `--episodes N` and `--bpw X` change the search; a folder as last argument keeps the file.
#![allow(clippy::print_stdout, reason = "an example talks to its reader")]

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use burn::tensor::Device;
use ramp::{
    pipeline::{QuantizeOptions, Report, quantize},
    quant::Budget,
};

fn main() -> Result<()> {
    let arguments = Arguments::parse()?;
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/nano");
    let temporary = tempfile::tempdir()?;
    let folder = arguments.folder.unwrap_or_else(|| temporary.path().to_owned());
    let output = folder.join("nano-ramp.gguf");

    let mut options =
        QuantizeOptions::new(model, output, Budget::BitsPerWeight(arguments.bits), Device::flex());
    options.episodes = Some(arguments.episodes);
    options.seed = 1;

    let mut last = "";
    let report = quantize(&options, &mut |step| {
        if step.name != last {
            last = step.name;
            println!("{:>16}: {} {}", step.name, step.total, step.unit);
        }
        true
    })?;
    print(&report);
    Ok(())
}

struct Arguments {
    episodes: usize,
    bits: f64,
    folder: Option<PathBuf>,
}

impl Arguments {
    fn parse() -> Result<Self> {
        let mut parsed = Self { episodes: 40, bits: 4.25, folder: None };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().with_context(|| format!("{argument} needs a number"));
            match argument.as_str() {
                "--episodes" => parsed.episodes = value()?.parse().context("--episodes")?,
                "--bpw" => parsed.bits = value()?.parse().context("--bpw")?,
                other if other.starts_with('-') => bail!("unknown option {other}"),
                folder => parsed.folder = Some(folder.into()),
            }
        }
        Ok(parsed)
    }
}

fn print(report: &Report) {
    println!("\n{:<10} {:>10} {:>7} {:>22}", "allocator", "bytes", "bpw", "KL divergence (nats)");
    for c in &report.candidates {
        let kld = format!("{:.5} +- {:.5}", c.score.kld, c.score.kld_se);
        println!("{:<10} {:>10} {:>7.3} {kld:>22}", c.allocator, c.file_bytes, c.bits_per_weight);
    }
    println!("\nThe file: {} bytes, allocation from {}.", report.file_bytes, report.origin);
    println!("On text that calibration and search did not see:");
    println!("  unquantized  perplexity {:.3}", report.base_perplexity);
    for (name, q) in [("the file", report.after), ("uniform", report.uniform)] {
        println!(
            "  {name:<12} perplexity {:.3}, KL divergence {:.5}, same top token {:.1} %",
            q.perplexity,
            q.kld,
            100.0 * q.same_top1
        );
    }
    let seconds: f64 = report.seconds.iter().map(|(_, seconds)| seconds).sum();
    println!("{seconds:.1} seconds, {} tokens forwarded.", report.tokens_forwarded);
}
