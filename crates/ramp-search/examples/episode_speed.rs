//! Times an episode of a search beside the bare forward pass of the same windows, once for each line on the standard
//! input: `cargo xtask bench search` runs it.
//!
//! `episode_speed MODEL TEXT CTX WINDOWS`. Every episode scores an allocation whose every matrix may differ from the
//! last one's and whose embedding does, so that nothing is known of it: weights are swapped, the whole model runs, and
//! divergence and perplexity are computed.
#![allow(clippy::print_stdout, reason = "a program at the command line")]

use std::{env, error::Error, fs, io, path::PathBuf, time::Instant};

use burn::tensor::Device;
use ramp_eval::{Bos, LanguageModel, Protocol, perplexity, rows::batches};
use ramp_gguf::{GgmlType, Metadata};
use ramp_model::{CalibrationStats, ModelFiles};
use ramp_quant::{Budget, Rounding};
use ramp_search::{ActionSet, Choices, Evaluator, Problem, WeightBank};

/// Rows of logits at once, as the evaluation has them for a vocabulary of 8192.
const ROWS: usize = 256;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    let [model, text, ctx, windows] = args.as_slice() else {
        return Err("usage: episode_speed MODEL TEXT CTX WINDOWS".into());
    };
    let files = ModelFiles::open(&PathBuf::from(model))?;
    let ids = files.tokenizer()?.encode(&fs::read_to_string(text)?)?;
    let max_windows = Some(windows.parse()?);
    let protocol = Protocol { bos: Bos::Never, max_windows, ..Protocol::gptq(ctx.parse()?) };
    let windows = protocol.windows(&ids, None)?;
    let model = files.load(&Device::flex())?;
    let actions = ActionSet::new(vec![GgmlType::Q4_0, GgmlType::Q8_0])?;
    let problem = Problem::new(model.config(), &Metadata::new(), &actions, Budget::BitsPerWeight(6.0))?;
    let stats = CalibrationStats::default();
    let bank = WeightBank::build(&model, &stats, &problem, Rounding::Nearest, &mut |_| true)?;
    let mut evaluator = Evaluator::new(&model, &problem, &bank, windows.clone())?;

    println!("ready");
    for (episode, line) in io::stdin().lines().enumerate() {
        line?;
        let start = Instant::now();
        let all = windows.tokens();
        for batch in batches(&windows, model.pace().tokens) {
            let states = model.states(&all[batch])?;
            let [windows, seq, width] = states.dims();
            let states = states.reshape([windows * seq, width]);
            for row in (0..windows * seq).step_by(ROWS) {
                let rows = ROWS.min(windows * seq - row);
                model.logits_of(states.clone().narrow(0, row, rows))?;
            }
        }
        let forward = start.elapsed().as_secs_f64();

        let start = Instant::now();
        let nll = perplexity(&model, &windows, |_| true)?.mean_nll;
        let scoring = start.elapsed().as_secs_f64();

        // The embedding is the first slot and counts up, the others follow some pattern that never comes again.
        let pattern = |slot: usize| if slot == 0 { episode } else { episode >> (slot % 16) };
        let choices: Choices = (0..problem.slots().len()).map(|slot| pattern(slot) % 2).collect();
        let (start, before) = (Instant::now(), evaluator.tokens_forwarded());
        let score = evaluator.score(&choices)?;
        let seconds = start.elapsed().as_secs_f64();
        if evaluator.tokens_forwarded() - before != windows.n_tokens() || !nll.is_finite() {
            return Err("an episode was not a whole pass".into());
        }
        println!(
            "{}",
            serde_json::json!({ "forward": forward, "perplexity": scoring, "episode": seconds, "kld": score.kld })
        );
    }
    Ok(())
}
