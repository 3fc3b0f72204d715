//! `ramp eval`.

use std::{
    fmt::{self, Write},
    path::PathBuf,
};

use clap::ValueEnum;
use ramp::{
    eval::{Comparison, Perplexity, Protocol, compare, gptq_text, perplexity},
    model::ModelFiles,
    pipeline::{Step, read_text},
};
use serde::Serialize;

use super::{
    args::{DeviceArgs, at_least},
    failure::Result,
    output,
    progress::Progress,
    size::grouped,
    summary::with_error,
};

/// Arguments of `ramp eval`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Hugging Face folder or GGUF file.
    model: PathBuf,
    /// The text.
    #[arg(long, value_name = "FILE")]
    text: PathBuf,
    /// Window length in tokens [default: 512 with llama.cpp, 2048 with gptq, no more than the model's own].
    #[arg(long, value_name = "N", value_parser = at_least(2))]
    ctx: Option<usize>,
    /// How the text is cut and which tokens count. Perplexities of different protocols do not compare.
    #[arg(long, value_enum, default_value_t = ProtocolArg::LlamaCpp)]
    protocol: ProtocolArg,
    /// Use the first N windows only.
    #[arg(long, value_name = "N", value_parser = at_least(1))]
    chunks: Option<usize>,
    /// Compare with this model, token by token: KL divergence and same most probable token.
    #[arg(long, value_name = "MODEL")]
    base: Option<PathBuf>,
    #[command(flatten)]
    device: DeviceArgs,
    /// Print a JSON object.
    #[arg(long)]
    json: bool,
}

/// `--protocol`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
pub(crate) enum ProtocolArg {
    /// As llama-perplexity: BOS in place of each window's first token, the second half of each window counts.
    #[value(name = "llama.cpp")]
    #[serde(rename = "llama.cpp")]
    LlamaCpp,
    /// As GPTQ and AWQ: one stream with one BOS, rows of the data set joined by blank lines, every token counts.
    #[value(name = "gptq")]
    #[serde(rename = "gptq")]
    Gptq,
}

impl ProtocolArg {
    const fn name(self) -> &'static str {
        match self {
            Self::LlamaCpp => "llama.cpp",
            Self::Gptq => "gptq",
        }
    }

    const fn default_ctx(self) -> usize {
        match self {
            Self::LlamaCpp => 512,
            Self::Gptq => 2048,
        }
    }

    const fn protocol(self, ctx: usize) -> Protocol {
        match self {
            Self::LlamaCpp => Protocol::llama_cpp(ctx),
            Self::Gptq => Protocol::gptq(ctx),
        }
    }
}

/// What is measured. The names of the fields are those of the JSON object.
#[derive(Debug, Serialize)]
struct Evaluation {
    model: PathBuf,
    text: PathBuf,
    protocol: ProtocolArg,
    ctx: usize,
    #[serde(flatten)]
    measured: Perplexity,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    base: Option<AgainstBase>,
}

/// What is measured against `--base`.
#[derive(Debug, Serialize)]
struct AgainstBase {
    base: PathBuf,
    base_perplexity: f64,
    base_perplexity_se: f64,
    ln_ppl_ratio: f64,
    ln_ppl_ratio_se: f64,
    kld: f64,
    kld_se: f64,
    max_kld: f64,
    same_top1: f64,
    same_top1_se: f64,
}

impl AgainstBase {
    fn new(base: PathBuf, c: &Comparison) -> Self {
        Self {
            base,
            base_perplexity: c.base.perplexity,
            base_perplexity_se: c.base.perplexity_se,
            ln_ppl_ratio: c.ln_ppl_ratio,
            ln_ppl_ratio_se: c.ln_ppl_ratio_se,
            kld: c.mean_kld,
            kld_se: c.mean_kld_se,
            max_kld: c.max_kld,
            same_top1: c.same_top1,
            same_top1_se: c.same_top1_se,
        }
    }
}

/// Runs the command.
///
/// # Errors
/// When a model or the text cannot be used, or on Ctrl-C.
pub(crate) fn run(args: &Args) -> Result {
    let files = ModelFiles::open(&args.model)?;
    let base_files = args.base.as_deref().map(ModelFiles::open).transpose()?;
    let mut text = read_text(&args.text)?;
    if args.protocol == ProtocolArg::Gptq {
        text = gptq_text(&text);
    }
    let trained = files.config().max_position_embeddings;
    let ctx = args.ctx.unwrap_or_else(|| args.protocol.default_ctx().min(trained));
    if ctx > trained {
        tracing::warn!("windows of {ctx} tokens are longer than the {trained} that the model was trained on");
    }
    let tokenizer = files.tokenizer()?;
    let protocol = args.protocol.protocol(ctx).with_max_windows(args.chunks);
    let tokens = match args.protocol {
        ProtocolArg::LlamaCpp => tokenizer.encode_plain(&text)?,
        ProtocolArg::Gptq => tokenizer.encode(&text)?,
    };
    let windows = protocol.windows(&tokens, tokenizer.leading_bos()).map_err(|error| {
        // The library has seen tokens only; the user has a file.
        ramp::Error::Text { path: args.text.clone(), why: error.to_string() }
    })?;
    let device = args.device.device.open()?;

    let mut progress = Progress::start("load");
    let model = files.load(&device)?;
    let base = base_files.as_ref().map(|files| files.load(&device)).transpose()?;
    progress.busy("evaluate");
    let total = windows.len();
    let tick = |done| progress.step(Step { name: "evaluate", done, total, unit: "windows", best_kld: None });
    let (measured, base) = match (base, &args.base) {
        (Some(base), Some(path)) => {
            let comparison = compare(&model, &base, &windows, tick)?;
            (comparison.model, Some(AgainstBase::new(path.clone(), &comparison)))
        }
        _ => (perplexity(&model, &windows, tick)?, None),
    };
    drop(progress);

    let evaluation = Evaluation {
        model: args.model.clone(),
        text: args.text.clone(),
        protocol: args.protocol,
        ctx,
        measured,
        base,
    };
    if args.json { output::print_json(&evaluation) } else { output::print(&render(&evaluation)) }
}

fn render(evaluation: &Evaluation) -> String {
    let mut out = String::new();
    // Writing into a string cannot fail.
    let _ = write(&mut out, evaluation);
    out
}

fn write(out: &mut String, evaluation: &Evaluation) -> fmt::Result {
    let Evaluation { model, protocol, ctx, measured, base, .. } = evaluation;
    writeln!(out, "{}", model.display())?;
    writeln!(out, "  perplexity       {}", with_error(measured.perplexity, measured.perplexity_se, 4))?;
    writeln!(
        out,
        "  protocol         {}, {} windows of {ctx} tokens, {} tokens scored",
        protocol.name(),
        measured.windows,
        grouped(measured.tokens)
    )?;
    let Some(base) = base else { return Ok(()) };
    writeln!(out, "against {}", base.base.display())?;
    writeln!(out, "  its perplexity   {}", with_error(base.base_perplexity, base.base_perplexity_se, 4))?;
    writeln!(out, "  ln PPL ratio     {}", with_error(base.ln_ppl_ratio, base.ln_ppl_ratio_se, 5))?;
    writeln!(
        out,
        "  KL divergence    {}, largest {:.4}",
        with_error(base.kld, base.kld_se, 5),
        base.max_kld
    )?;
    let (same, error) = (100.0 * base.same_top1, 100.0 * base.same_top1_se);
    writeln!(out, "  same top 1       {} %", with_error(same, error, 2))
}
