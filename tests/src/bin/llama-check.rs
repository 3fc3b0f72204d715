//! Real llama.cpp at the command line: what `cargo xtask interop` runs on the files that `ramp` wrote.
//!
//! Every subcommand prints one JSON object with `--json`, and ends with status 1 when llama.cpp refuses.

// It is a command.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, Subcommand};
use ramp_gguf::{GgmlType, GgufFile, Recipe};
use ramp_model::ModelFiles;
use ramp_tests::{
    llama::{self, FileType, ImatrixEntry, LogLine, Model},
    scores::{self, Moments},
};
use serde::Serialize;

#[derive(Parser)]
#[command(about, version)]
struct Args {
    #[command(subcommand)]
    command: Command,
    /// CPU threads.
    #[arg(long, global = true, default_value_t = 2)]
    threads: usize,
    /// Print JSON.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Load a file and report every warning and error that llama.cpp logs meanwhile.
    Load {
        /// The GGUF file.
        file: PathBuf,
    },
    /// Tokenize the first lines of a text that are not blank.
    Tokenize {
        /// The GGUF file.
        file: PathBuf,
        /// A UTF-8 text.
        text: PathBuf,
        /// Lines to take.
        #[arg(long, default_value_t = 200)]
        lines: usize,
        /// Compare with RAMP's tokenizer of this Hugging Face folder or GGUF file.
        #[arg(long)]
        against: Vec<PathBuf>,
        /// End with status 0 even when lines differ.
        #[arg(long)]
        report_only: bool,
    },
    /// Perplexity as `llama-perplexity` computes it.
    Perplexity {
        /// The GGUF file.
        file: PathBuf,
        /// A UTF-8 text.
        text: PathBuf,
        /// Window length in tokens.
        #[arg(long, default_value_t = 512)]
        ctx: usize,
        /// Windows at most.
        #[arg(long)]
        chunks: Option<usize>,
    },
    /// Score windows of tokens once for each line on the standard input, and print the time of each pass.
    Score {
        /// The GGUF file.
        file: PathBuf,
        /// A list of windows, each a list of token ids, as JSON.
        tokens: PathBuf,
        /// Only run the prompt, as `llama-bench` does: logits of each window's last position, nothing scored.
        #[arg(long)]
        prompt: bool,
    },
    /// KL divergence from a base model on the same windows.
    Kld {
        /// The unquantized GGUF file.
        base: PathBuf,
        /// The GGUF file.
        file: PathBuf,
        /// A UTF-8 text.
        text: PathBuf,
        /// Window length in tokens.
        #[arg(long, default_value_t = 512)]
        ctx: usize,
        /// Windows at most.
        #[arg(long)]
        chunks: Option<usize>,
    },
    /// Write a Hugging Face folder as GGUF with one type for all matrices.
    Convert {
        /// The folder.
        model: PathBuf,
        /// The file to write.
        output: PathBuf,
        /// The type of the matrices.
        #[arg(long = "type", value_name = "TYPE", default_value = "F16")]
        ty: GgmlType,
    },
    /// Quantize with llama.cpp's own recipes.
    Quantize {
        /// A GGUF file in F32, F16 or BF16.
        input: PathBuf,
        /// The file to write.
        output: PathBuf,
        /// A type of `llama-quantize`, such as Q3_K_M.
        #[arg(value_name = "TYPE")]
        ty: FileType,
        /// Importance matrix in GGUF form.
        #[arg(long)]
        imatrix: Option<PathBuf>,
        /// Types of single tensors, as llama-quantize's `--tensor-type-file`.
        #[arg(long)]
        tensor_type_file: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> Result<()> {
    let Args { command, threads, json } = args;
    match command {
        Command::Load { file } => show(json, &load(&file)?, Loaded::text),
        Command::Tokenize { file, text, lines, against, report_only } => {
            let tokens = tokenize(&file, &read(&text)?, lines, &against)?;
            show(json, &tokens, Tokens::text)?;
            let differ = tokens.disagreements.len();
            ensure!(report_only || differ == 0, "{differ} lines differ");
            Ok(())
        }
        Command::Perplexity { file, text, ctx, chunks } => {
            let perplexity = llama::perplexity(&Model::load(&file)?, &read(&text)?, ctx, chunks, threads)?;
            show(json, &perplexity, |p| {
                let llama::Perplexity { perplexity, perplexity_se, tokens, windows } = p;
                format!(
                    "perplexity {perplexity:.4} +- {perplexity_se:.4} ({tokens} tokens, {windows} windows)"
                )
            })
        }
        Command::Score { file, tokens, prompt } => {
            let windows: Vec<Vec<i32>> = serde_json::from_str(&read(&tokens)?)?;
            score(&Model::load(&file)?, &windows, prompt, threads)
        }
        Command::Kld { base, file, text, ctx, chunks } => {
            let (base, model) = (Model::load(&base)?, Model::load(&file)?);
            let divergence = llama::divergence(&base, &model, &read(&text)?, ctx, chunks, threads)?;
            show(json, &divergence, |d| {
                let llama::Divergence { kld, kld_se, same_top1, tokens } = d;
                format!(
                    "KL divergence {kld:.6} +- {kld_se:.6} nats, same top token {:.2} % ({tokens} tokens)",
                    100.0 * same_top1
                )
            })
        }
        Command::Convert { model, output, ty } => {
            ramp_tests::export(&model, &output, |_| ty)?;
            show(json, &Written::new(output)?, Written::text)
        }
        Command::Quantize { input, output, ty, imatrix, tensor_type_file } => {
            let imatrix = imatrix.as_deref().map(read_imatrix).transpose()?.unwrap_or_default();
            let recipe = tensor_type_file.map(Recipe::open).transpose()?.unwrap_or_default();
            llama::quantize(&input, &output, ty, &imatrix, &recipe, threads)?;
            show(json, &Written::new(output)?, Written::text)
        }
    }
}

fn show<T: Serialize>(json: bool, value: &T, text: impl Fn(&T) -> String) -> Result<()> {
    println!("{}", if json { serde_json::to_string(value)? } else { text(value) });
    Ok(())
}

/// The other side of `cargo xtask bench forward`.
fn score(model: &Model, windows: &[Vec<i32>], prompt: bool, threads: usize) -> Result<()> {
    let longest = windows.iter().map(Vec::len).max().context("there is no window")?;
    let mut context = llama::Context::new(model, longest, threads)?;
    println!("ready");
    for line in io::stdin().lines() {
        line?;
        let start = Instant::now();
        let mut nll = Moments::default();
        for window in windows {
            let first = if prompt { window.len().saturating_sub(1) } else { 0 };
            context.logits(window, first, |position, logits| {
                if let Some(&next) = window.get(position + 1) {
                    nll.push(-scores::log_prob(logits, next.unsigned_abs() as usize));
                }
            })?;
        }
        let seconds = start.elapsed().as_secs_f64();
        println!("{}", serde_json::json!({ "seconds": seconds, "mean_nll": nll.mean() }));
    }
    Ok(())
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Result of `load`.
#[derive(Serialize)]
struct Loaded {
    description: String,
    parameters: u64,
    tensor_bytes: u64,
    /// How many tensors each type has.
    types: BTreeMap<String, usize>,
    complaints: Vec<LogLine>,
}

impl Loaded {
    fn text(&self) -> String {
        let Self { description, parameters, tensor_bytes, types, complaints } = self;
        let types: Vec<String> = types.iter().map(|(ty, n)| format!("{n} {ty}")).collect();
        let mut text =
            format!("{description}: {parameters} parameters, {tensor_bytes} bytes, {}", types.join(" + "));
        for line in complaints {
            text.push_str(&format!("\n{:?}: {}", line.level, line.text));
        }
        text
    }
}

fn load(path: &Path) -> Result<Loaded> {
    let model = Model::load(path)?;
    let mut types = BTreeMap::new();
    for tensor in GgufFile::open(path)?.tensors() {
        *types.entry(tensor.ty.to_string()).or_insert(0) += 1;
    }
    Ok(Loaded {
        description: model.description(),
        parameters: model.n_params(),
        tensor_bytes: model.tensor_bytes(),
        types,
        complaints: model.complaints().into_iter().cloned().collect(),
    })
}

/// Result of `tokenize`.
#[derive(Serialize)]
struct Tokens {
    /// llama.cpp's tokens of each line, with BOS where the tokenizer adds one.
    lines: Vec<Vec<i32>>,
    disagreements: Vec<Disagreement>,
}

/// A line on which RAMP's tokenizer and llama.cpp's differ.
#[derive(Serialize)]
struct Disagreement {
    tokenizer: PathBuf,
    line: String,
    llama_cpp: Vec<i32>,
    ramp: Vec<u32>,
}

impl Tokens {
    fn text(&self) -> String {
        let tokens: usize = self.lines.iter().map(Vec::len).sum();
        let mut text = format!("{} lines, {tokens} tokens", self.lines.len());
        for Disagreement { tokenizer, line, llama_cpp, ramp } in &self.disagreements {
            let name = tokenizer.display();
            text.push_str(&format!("\n{line:?}\n  llama.cpp {llama_cpp:?}\n  {name} {ramp:?}"));
        }
        text
    }
}

fn tokenize(file: &Path, text: &str, lines: usize, against: &[PathBuf]) -> Result<Tokens> {
    let model = Model::load(file)?;
    let texts: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).take(lines).collect();
    ensure!(texts.len() == lines, "the text has {} lines that are not blank, not {lines}", texts.len());
    let lines = texts.iter().map(|line| model.tokenize(line)).collect::<Result<Vec<_>>>()?;
    let mut disagreements = Vec::new();
    for path in against {
        let tokenizer = ModelFiles::open(path)?.tokenizer()?;
        for (line, llama_cpp) in texts.iter().zip(&lines) {
            let ramp = tokenizer.encode_with_bos(line)?;
            let same = ramp.len() == llama_cpp.len()
                && ramp.iter().zip(llama_cpp).all(|(&ours, &theirs)| i64::from(ours) == i64::from(theirs));
            if !same {
                let (tokenizer, line) = (path.clone(), (*line).to_owned());
                disagreements.push(Disagreement { tokenizer, line, llama_cpp: llama_cpp.clone(), ramp });
            }
        }
    }
    Ok(Tokens { lines, disagreements })
}

/// Result of `convert` and `quantize`.
#[derive(Serialize)]
struct Written {
    file: PathBuf,
    bytes: u64,
}

impl Written {
    fn new(file: PathBuf) -> Result<Self> {
        let bytes = fs::metadata(&file)?.len();
        Ok(Self { file, bytes })
    }

    fn text(&self) -> String {
        format!("{}: {} bytes", self.file.display(), self.bytes)
    }
}

/// Means of squared activations from `W.in_sum2` and `W.counts` of a GGUF importance matrix.
fn read_imatrix(path: &Path) -> Result<Vec<ImatrixEntry>> {
    let file = GgufFile::open(path)?;
    let mut entries = Vec::new();
    for tensor in file.tensors() {
        let Some(name) = tensor.name.strip_suffix(".in_sum2") else { continue };
        let sums = file.decode_tensor(&tensor.name)?;
        let counts = file.decode_tensor(&format!("{name}.counts"))?;
        let [count] = counts[..] else { bail!("{name}.counts has {} values, not one", counts.len()) };
        ensure!(count > 0.0, "{name}.counts is {count}");
        let values = sums.iter().map(|sum| sum / count).collect();
        entries.push(ImatrixEntry { name: name.to_owned(), values });
    }
    ensure!(!entries.is_empty(), "{} is not an importance matrix", path.display());
    Ok(entries)
}
