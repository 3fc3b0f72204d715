//! Scores the first windows of a text, once for each line on the standard input, and prints the time of each pass:
//! `cargo xtask bench forward` runs it in turns with another program.
//!
//! `score_windows MODEL TEXT CTX WINDOWS TOKENS.json [--prompt]`; the last file is written, for the other program. With
//! `--prompt` nothing is scored: logits of each window's last position only, as `llama-bench` runs a prompt.
#![allow(clippy::print_stdout, reason = "a program at the command line")]

use std::{env, error::Error, fs, io, path::PathBuf, time::Instant};

use burn::tensor::Device;
use ramp_eval::{Bos, LanguageModel, Protocol, perplexity, rows::batches};
use ramp_model::ModelFiles;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args: Vec<String> = env::args().skip(1).collect();
    let prompt = args.pop_if(|last| last == "--prompt").is_some();
    let [model, text, ctx, windows, tokens] = args.as_slice() else {
        return Err("usage: score_windows MODEL TEXT CTX WINDOWS TOKENS.json [--prompt]".into());
    };
    let files = ModelFiles::open(&PathBuf::from(model))?;
    let ids = files.tokenizer()?.encode(&fs::read_to_string(text)?)?;
    let max_windows = Some(windows.parse()?);
    let protocol = Protocol { bos: Bos::Never, max_windows, ..Protocol::gptq(ctx.parse()?) };
    let windows = protocol.windows(&ids, None)?;
    fs::write(tokens, serde_json::to_string(&windows.tokens())?)?;
    let model = files.load(&Device::flex())?;
    println!("ready");
    for line in io::stdin().lines() {
        line?;
        let start = Instant::now();
        let mean_nll = if prompt {
            let all = windows.tokens();
            for batch in batches(&windows, model.pace().tokens) {
                let states = model.states(&all[batch])?;
                let [rows, seq, width] = states.dims();
                model.logits_of(states.narrow(1, seq - 1, 1).reshape([rows, width]))?.into_data();
            }
            None
        } else {
            Some(perplexity(&model, &windows, |_| true)?.mean_nll)
        };
        let seconds = start.elapsed().as_secs_f64();
        println!("{}", serde_json::json!({ "seconds": seconds, "mean_nll": mean_nll }));
    }
    Ok(())
}
