//! Command line: definitions, dispatch, exit status.

mod ablate;
mod args;
mod calibrate;
mod compare;
mod device;
mod doctor;
mod eval;
mod failure;
#[cfg(feature = "figures")]
mod figures;
mod inspect;
mod interrupt;
mod log;
mod output;
mod panics;
mod plan;
mod progress;
mod quantize;
mod search;
#[cfg(feature = "remote")]
mod serve;
mod size;
mod summary;
mod table;
#[cfg(feature = "remote")]
mod token;
mod train;
mod transfer;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Turn a Hugging Face language model into the best GGUF file that fits a memory budget.
///
/// Exit status: 0 done, 2 something is wrong with the arguments or the files (one line on standard error says
/// what), 1 the device or RAMP failed, 130 interrupted. RAMP_LOG sets what is logged, such as RAMP_LOG=ramp=info.
#[derive(Debug, Parser)]
#[command(name = "ramp", version, propagate_version = true, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Quantize a model into a GGUF file under a budget.
    Quantize(Box<quantize::Args>),
    /// Measure models: perplexity, zero-shot tasks, and what each loses against a base model.
    Eval(Box<eval::Args>),
    /// Quantize a model with several methods and measure what each loses: GPTQ, AWQ and others, and GGUF's types.
    Compare(compare::Args),
    /// Measure what a part of the method is worth, by leaving it out or changing it.
    #[command(subcommand)]
    Ablate(ablate::Ablate),
    /// Compare searches for an allocation, at equal bytes and equal tokens.
    Search(Box<search::Args>),
    /// Learn a policy from one or several models and budgets.
    Train(train::Args),
    /// Try a policy on models that it was not trained on, beside everything that could explain it away.
    Transfer(transfer::Args),
    /// Gather activation statistics and an importance matrix from a text.
    Calibrate(calibrate::Args),
    /// Tell sizes, memory and time of a quantization without reading weights.
    Plan(plan::Args),
    /// Show what is in a GGUF file.
    Inspect(inspect::Args),
    /// Draw the paper's figures from the log of a training run.
    #[cfg(feature = "figures")]
    Figures(figures::Args),
    /// Serve a device of this machine to runs on other machines.
    #[cfg(feature = "remote")]
    Serve(serve::Args),
    /// Check what this machine and this build can run models on, and say what is missing.
    Doctor(doctor::Args),
}

/// Runs the command.
pub(crate) fn main() -> ExitCode {
    panics::install();
    // First of all, so that no moment exists where Ctrl-C leaves something behind.
    interrupt::install();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(usage) => {
            // Help on a closed pipe is nobody's mistake.
            let _ = usage.print();
            return ExitCode::from(u8::try_from(usage.exit_code()).unwrap_or(2));
        }
    };
    let result = panics::catch(|| {
        log::install()?;
        match cli.command {
            Command::Quantize(args) => quantize::run(*args),
            Command::Eval(args) => eval::run(&args),
            Command::Compare(args) => compare::run(&args),
            Command::Ablate(ablate) => ablate::run(&ablate),
            Command::Search(args) => search::run(*args),
            Command::Train(args) => train::run(&args),
            Command::Transfer(args) => transfer::run(&args),
            Command::Calibrate(args) => calibrate::run(&args),
            Command::Plan(args) => plan::run(args),
            Command::Inspect(args) => inspect::run(&args),
            #[cfg(feature = "figures")]
            Command::Figures(args) => figures::run(&args),
            #[cfg(feature = "remote")]
            Command::Serve(args) => serve::run(&args),
            Command::Doctor(args) => doctor::run(args),
        }
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn definitions_are_consistent() {
        Cli::command().debug_assert();
    }
}
