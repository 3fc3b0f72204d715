//! Agents against the measured knapsack at equal bytes, on one weight bank, over several seeds.
//!
//! `cargo run -p ramp-llm --example agents -- MODEL TEXT BITS_PER_WEIGHT SEEDS EPISODES ALLOCATORS`, for example
//! `-- llama2-xs wiki.train.raw 4.0 5 200 sac,discrete,ppo`. One line for each allocator and seed.

#![allow(clippy::print_stdout)]

use std::{path::PathBuf, time::Instant};

use burn::tensor::Device;
use ramp::{
    gguf::Metadata,
    model::{CalibrationStats, Gather, ModelFiles},
    pipeline::{QuantizeOptions, TextSplit},
    quant::{Budget, fold},
    search::{
        Allocator, Categorical, Evaluator, MeasuredKnapsack, Mode, ModelFeatures, Problem, Sac,
        SacSearchConfig, SearchContext, Uniform, WalkSearchConfig, WeightBank,
    },
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [model, text, bits, seeds, episodes, names] = args.as_slice() else {
        return Err("arguments: MODEL TEXT BITS_PER_WEIGHT SEEDS EPISODES ALLOCATORS".into());
    };
    let device = Device::flex();
    let budget = Budget::BitsPerWeight(bits.parse()?);
    let mut options = QuantizeOptions::new(PathBuf::from(model), PathBuf::new(), budget, device.clone());
    options.text = Some(PathBuf::from(text));
    let files = ModelFiles::open(&options.model)?;
    let config = files.config().clone();
    let problem = Problem::new(&config, &Metadata::new(), &options.actions, budget)?;
    let split = TextSplit::new(&options, &files.tokenizer()?, config.max_position_embeddings)?;
    let base = files.load(&device)?;
    let tokens = split.calibration.tokens();
    let what = Gather { gram: true, ..Gather::default() };
    let mut stats = CalibrationStats::gather(&base, &tokens, what, |_| true)?;
    let mut folded = base.clone();
    if let Some(config) = &options.fold {
        fold(&mut folded, &mut stats, config)?;
    }
    let clock = Instant::now();
    let bank = WeightBank::build(&folded, &stats, &problem, options.rounding, &mut |_| true)?;
    println!("bank built in {:.1} s", clock.elapsed().as_secs_f64());
    let features = ModelFeatures::new(&folded, &stats, &problem);
    // One for all: sensitivities are measured once, and what was scored before costs nothing.
    let evaluator = Evaluator::new(&folded, &problem, &bank, split.search.clone())?;
    let mut context = SearchContext::new(evaluator, &features);
    let seeds: u64 = seeds.parse()?;
    let episodes: usize = episodes.parse()?;
    println!("allocator seed evaluations seconds KL of the search windows, origin, bytes");
    for name in ["uniform", "knapsack"].into_iter().chain(names.split(',')) {
        let fixed = matches!(name, "uniform" | "knapsack");
        for seed in 0..if fixed { 1 } else { seeds } {
            let mut allocator: Box<dyn Allocator> = match name {
                "uniform" => Box::new(Uniform),
                "knapsack" => Box::new(MeasuredKnapsack),
                "sac" => {
                    let config = SacSearchConfig { episodes, ..SacSearchConfig::new(Mode::Sound, seed) };
                    Box::new(Sac::new(config, device.clone(), files.name()))
                }
                "discrete" => {
                    let config = WalkSearchConfig { episodes, ..WalkSearchConfig::discrete(seed) };
                    Box::new(Categorical::new(config, device.clone(), files.name()))
                }
                "returns" => {
                    let config = WalkSearchConfig { episodes, ..WalkSearchConfig::returns(seed) };
                    Box::new(Categorical::new(config, device.clone(), files.name()))
                }
                "wide-sac" => {
                    let config = WalkSearchConfig { episodes, ..WalkSearchConfig::continuous(seed) };
                    Box::new(Categorical::new(config, device.clone(), files.name()))
                }
                "ppo" => {
                    let config = WalkSearchConfig { episodes, ..WalkSearchConfig::ppo(seed) };
                    Box::new(Categorical::new(config, device.clone(), files.name()))
                }
                other => return Err(format!("no allocator is called {other}").into()),
            };
            let clock = Instant::now();
            let before = context.evaluator.evaluations();
            let found = allocator.allocate(&mut context, &mut |_| true)?;
            let own = found.policy.as_ref().map_or(f64::NAN, |policy| policy.provenance().kld);
            if let (Some(log), Ok(folder)) = (allocator.take_log(), std::env::var("RAMP_LOGS")) {
                log.save(&PathBuf::from(folder).join(format!("{name}-{seed}.json")))?;
            }
            println!(
                "{name} {seed} {} {:.1} {:.6} policy {own:.6} {} {}",
                context.evaluator.evaluations() - before,
                clock.elapsed().as_secs_f64(),
                found.score.kld,
                found.origin,
                problem.file_bytes(&found.choices),
            );
        }
    }
    Ok(())
}
