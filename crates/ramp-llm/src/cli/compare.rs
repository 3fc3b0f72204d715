//! `ramp compare`.

use std::path::PathBuf;

use clap::ValueEnum;
use ramp::{
    pipeline::{CompareOptions, ComparedMethod, Cutting, MethodComparison, TextOptions, compare_methods},
    quant::baseline::Method,
};

use super::{
    args::{DeviceArgs, ReportArgs, at_least},
    failure::{Failure, Result},
    output,
    progress::Progress,
    size::{grouped, human},
    summary::with_error,
    table::{
        Align::{Left, Right},
        Table,
    },
};

/// Arguments of `ramp compare`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Hugging Face folder or GGUF file.
    model: PathBuf,
    /// The methods, separated by commas: rtn4, gptq4, awq3-g64, smoothquant4, squeezellm3, quip4, lrq4, of 2 to 8 bits
    /// and groups of 128 or as named, or GGUF types, with or without GPTQ rounding, such as q4_k,q3_k-gptq. GPTQ takes its
    /// inputs from what is quantized already; gptq4-onepass takes those of the unquantized model, and
    /// q4_k-gptq-sequential rounds in the first way, which `ramp quantize` does not. The others are tested against the
    /// first.
    #[arg(long, value_name = "LIST", value_delimiter = ',', required = true, value_parser = parse_method)]
    methods: Vec<Method>,
    #[command(flatten)]
    texts: TextArgs,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    report: ReportArgs,
}

/// The texts that calibrate and measure.
#[derive(Debug, clap::Args)]
pub(super) struct TextArgs {
    /// The text to measure on.
    #[arg(long, value_name = "FILE")]
    text: PathBuf,
    /// The text to calibrate on [default: the first quarter of --text, which then does not measure].
    #[arg(long, value_name = "FILE")]
    calibration_text: Option<PathBuf>,
    /// Tokens to calibrate on, at most.
    #[arg(long, value_name = "TOKENS", default_value_t = 131_072, value_parser = at_least(1))]
    calibration_tokens: usize,
    /// How both texts are cut and which tokens count.
    #[arg(long, value_enum, default_value_t = ProtocolArg::Gptq)]
    protocol: ProtocolArg,
    /// Window length in tokens, no more than the model's own.
    #[arg(long, visible_alias = "context", value_name = "N", default_value_t = 2048, value_parser = at_least(2))]
    ctx: usize,
    /// Measure on the first N windows only.
    #[arg(long, value_name = "N", value_parser = at_least(1))]
    chunks: Option<usize>,
}

impl TextArgs {
    /// What the library takes.
    pub(super) fn options(&self) -> Result<TextOptions> {
        if self.calibration_text.as_ref() == Some(&self.text) {
            let why =
                "--calibration-text is --text: leave it out to calibrate on a part that does not measure";
            return Err(Failure::User(why.into()));
        }
        Ok(TextOptions {
            text: self.text.clone(),
            calibration_text: self.calibration_text.clone(),
            cutting: self.protocol.into(),
            ctx: self.ctx,
            chunks: self.chunks,
            calibration_tokens: self.calibration_tokens,
        })
    }
}

/// `--protocol`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ProtocolArg {
    /// As GPTQ and AWQ: one stream with one BOS, rows of the data set joined by blank lines, every token counts.
    Gptq,
    /// As llama-perplexity: BOS in place of each window's first token, the second half of each window counts.
    #[value(name = "llama.cpp")]
    LlamaCpp,
}

impl From<ProtocolArg> for Cutting {
    fn from(protocol: ProtocolArg) -> Self {
        match protocol {
            ProtocolArg::Gptq => Self::Gptq,
            ProtocolArg::LlamaCpp => Self::LlamaCpp,
        }
    }
}

fn parse_method(name: &str) -> Result<Method, String> {
    name.parse().map_err(|error: ramp::quant::Error| error.to_string())
}

/// Runs the command.
///
/// # Errors
/// When the arguments, the model or a text cannot be used, or on Ctrl-C.
pub(crate) fn run(args: &Args) -> Result {
    for (at, method) in args.methods.iter().enumerate() {
        if args.methods[..at].contains(method) {
            return Err(Failure::User(format!("--methods names {method} twice")));
        }
    }
    let texts = args.texts.options()?;
    args.report.check()?;
    let device = args.device.open()?;
    let (model, methods) = (args.model.clone(), args.methods.clone());
    let options = CompareOptions { model, methods, texts, device };
    let mut progress = Progress::start("load");
    let comparison = compare_methods(&options, &mut |step| progress.step(step))?;
    drop(progress);
    let text = args.report.render(&comparison, &table(&comparison))?;
    output::print(&(text + &notes(&comparison, args.report.markdown)))
}

fn table(comparison: &MethodComparison) -> Table {
    let mut table = Table::new([
        ("method", Left),
        ("bits", Right),
        ("bits per weight", Right),
        ("matrices", Right),
        ("perplexity", Right),
        ("ln PPL ratio", Right),
        ("KL divergence", Right),
        ("same top 1 %", Right),
        ("against the first", Right),
        ("p", Right),
        ("seconds", Right),
    ]);
    let base = &comparison.base;
    table.row([
        "unquantized".into(),
        "16".into(),
        "16.000".into(),
        human(comparison.base_bytes),
        with_error(base.perplexity, base.perplexity_se, 3),
    ]);
    for method in &comparison.methods {
        table.row(row(method));
    }
    table
}

fn row(method: &ComparedMethod) -> Vec<String> {
    let against = &method.against_base;
    let (first, p) = method.against_first.map_or_else(Default::default, |first| {
        let p = first.test.p_value;
        let p = if p < 0.0001 { "< 0.0001".into() } else { format!("{p:.4}") };
        (with_error(first.ln_ppl_ratio, first.test.se, 4), p)
    });
    vec![
        method.method.to_string(),
        method.nominal_bits.to_string(),
        format!("{:.3}", method.bits_per_weight),
        human(method.bytes),
        with_error(against.model.perplexity, against.model.perplexity_se, 3),
        with_error(against.ln_ppl_ratio, against.ln_ppl_ratio_se, 4),
        with_error(against.mean_kld, against.mean_kld_se, 4),
        with_error(100.0 * against.same_top1, 100.0 * against.same_top1_se, 2),
        first,
        p,
        format!("{:.1}", method.seconds),
    ]
}

/// What the table's numbers are.
fn notes(comparison: &MethodComparison, markdown: bool) -> String {
    let MethodComparison { base, ctx, protocol, calibration_tokens, other_bytes, .. } = comparison;
    let (tokens, calibration) = (grouped(base.tokens), grouped(*calibration_tokens as u64));
    let mut notes = String::new();
    if markdown {
        notes.push('\n');
    }
    notes += &format!(
        "{} windows of {ctx} tokens ({} protocol), {tokens} tokens scored; calibrated on {calibration} tokens.\n\
         Only the matrices of the blocks are quantized; everything else is {} in f16.\n",
        base.windows,
        protocol.name(),
        human(*other_bytes),
    );
    for method in comparison.methods.iter().filter(|method| !method.raised_damping.is_empty()) {
        let (n, first) = (method.raised_damping.len(), method.raised_damping[0]);
        notes += &format!("{}: damping raised for {n} singular Hessians, {first} first.\n", method.method);
    }
    notes
}
