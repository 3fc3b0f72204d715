//! A whole search on a Llama of random weights: bank, sensitivities, episodes. How long it takes on a shape that no file
//! is needed for; what it finds means nothing.
//!
//! `random_search [--device cuda:0[,cuda:1...]] [--precision bf16] [--blocks 32] [--tokens 16384] [--ctx 2048]
//! [--episodes 200] [--calibration 8192] [--encode cpu]`. All devices evaluate, the first does the rest. The width is
//! Llama-2-7B's; with 32 blocks it is that model. Formats are Q3_K to Q6_K, rounded to nearest. With `--episodes 0` it ends
//! when the bank is filled, and with `--encode cpu` the CPU then encodes the same matrices in the same formats.
#![allow(clippy::print_stdout, reason = "a program at the command line")]

#[path = "shared/random_model.rs"]
mod random_model;

use std::{env, error::Error, time::Instant};

use ramp::{
    eval::{Bos, Protocol},
    gguf::Metadata,
    model::{CalibrationStats, CausalLm, Gather, Precision},
    quant::{Budget, Format, Rounding, imatrix},
    search::{
        ActionSet, Allocator, BankSource, Evaluator, MeasuredKnapsack, Mode, ModelFeatures, Problem,
        Progress, Replica, Sac, SacSearchConfig, SearchContext, WeightBank,
    },
};
use random_model::{Random, llama, open, tokens};

/// Seconds between two lines of progress.
const EVERY: f64 = 10.0;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    let option = |name: &str, default: &str| random_model::option(&args, name, default);
    let names = option("--device", "cpu");
    let mut names = names.split(',');
    let (device, cpu) = (open(names.next().unwrap_or("cpu"))?, open("cpu")?);
    let precision: Precision = option("--precision", "f32").parse()?;
    let config = llama(option("--blocks", "32").parse()?);
    let ctx: usize = option("--ctx", "2048").parse()?;
    let n_tokens: usize = option("--tokens", "16384").parse()?;
    let calibration: usize = option("--calibration", "8192").parse()?;
    let episodes: usize = option("--episodes", "200").parse()?;
    let all = Instant::now();
    let mut last = Instant::now();
    let mut lap = |what: &str| {
        println!("{what}: {:.1} s", last.elapsed().as_secs_f64());
        last = Instant::now();
    };

    let weights = CausalLm::load(&config, &Random(&config), &cpu)?;
    lap("random weights");
    let model = weights.to(&device, precision)?;
    lap("to the device");

    let windows = |n: usize| -> Result<_, Box<dyn Error>> {
        let protocol = Protocol { bos: Bos::Never, ..Protocol::gptq(ctx) };
        Ok(protocol.windows(&tokens(n, config.vocab_size), None)?)
    };
    let calibration = windows(calibration)?;
    let stats = CalibrationStats::gather(&model, &calibration.tokens(), Gather::default(), |_| true)?;
    lap("calibrate");

    let problem = Problem::new(&config, &Metadata::new(), &ActionSet::paper(), Budget::BitsPerWeight(4.5))?;
    let source = BankSource::new(&weights, &model);
    let bank = WeightBank::build(source, &stats, &problem, Rounding::Nearest, &mut |_| true)?;
    println!("bank: {:?}", bank.residence());
    lap("bank");
    if option("--encode", "") == "cpu" {
        encode(&weights, &stats, &problem)?;
        lap("the CPU encodes the same");
    }
    if episodes == 0 {
        return Ok(());
    }

    let features = ModelFeatures::new(&weights, &stats, &problem);
    let replicas = names.map(|name| Ok(Replica::new(name, &open(name)?, &model, &bank, &problem)?));
    let replicas = replicas.collect::<Result<Vec<_>, Box<dyn Error>>>()?;
    lap("copies");
    let evaluator = Evaluator::with_replicas(&model, &problem, &bank, windows(n_tokens)?, &replicas)?;
    let mut context = SearchContext::new(evaluator, &features);
    lap("unquantized model");
    let mut shown = Instant::now();
    let mut progress = |p: Progress| {
        if shown.elapsed().as_secs_f64() > EVERY {
            println!("  {:?} {} of {}, {:.0} s", p.stage, p.done, p.total, all.elapsed().as_secs_f64());
            shown = Instant::now();
        }
        true
    };
    MeasuredKnapsack.allocate(&mut context, &mut progress)?;
    let forwarded = context.evaluator.tokens_forwarded();
    println!("{forwarded} tokens forwarded");
    lap("sensitivities and knapsack");

    let search = SacSearchConfig { episodes, ..SacSearchConfig::new(Mode::Sound, 1) };
    let found = Sac::new(search, cpu, "random".into()).allocate(&mut context, &mut progress)?;
    println!("KL divergence {} nats", found.score.kld);
    println!("{} tokens forwarded", context.evaluator.tokens_forwarded() - forwarded);
    lap(&format!("{episodes} episodes"));
    println!("all: {:.1} s", all.elapsed().as_secs_f64());
    Ok(())
}

/// Every matrix in every format, with its importance matrix; bytes alone.
fn encode(weights: &CausalLm, stats: &CalibrationStats, problem: &Problem) -> Result<(), Box<dyn Error>> {
    for slot in problem.slots() {
        let (values, importance) = (weights.weight_values(slot.id)?, imatrix(stats, slot.id));
        for choice in &slot.choices {
            if let Format::Ggml(ty) = choice.format {
                drop(ramp::gguf::encode(ty, &values, slot.columns, importance.as_deref())?);
            }
        }
    }
    Ok(())
}
