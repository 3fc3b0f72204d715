//! `ramp eval`.

mod input;
mod report;
mod samples;

use std::path::PathBuf;

use burn::tensor::Device;
use clap::ValueEnum;
use ramp::{
    eval::{
        Comparison, Perplexity, compare, perplexity,
        tasks::{Encoder, Item, Task, TaskResult, evaluate},
    },
    model::{CausalLm, ModelFiles, Precision},
    pipeline::Step,
};
use serde::Serialize;

use self::{
    input::{Cut, Inputs},
    report::{AgainstBase, Evaluation, TaskEvaluation, TextEvaluation},
};
use super::{
    args::{DeviceArgs, PrecisionArgs, at_least},
    failure::{Failure, Result},
    output,
    progress::Progress,
};

/// Arguments of `ramp eval`.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true).args(["text", "tasks"]))]
pub(crate) struct Args {
    /// Hugging Face folders or GGUF files. With several, the first is what the others are compared with.
    #[arg(required = true, value_name = "MODEL")]
    models: Vec<PathBuf>,
    /// A text, for perplexity.
    #[arg(long, value_name = "FILE")]
    text: Option<PathBuf>,
    /// Window length in tokens [default: 512 with llama.cpp, 2048 with gptq, the model's own with strided and
    /// lm-eval; no more than the model's own].
    #[arg(long, value_name = "N", value_parser = at_least(2))]
    ctx: Option<usize>,
    /// How the text is cut and which tokens count. Perplexities of different protocols do not compare.
    #[arg(long, value_enum, default_value_t = ProtocolArg::LlamaCpp)]
    protocol: ProtocolArg,
    /// Tokens from the start of one window to the next, with --protocol strided [default: half a window].
    #[arg(long, value_name = "N", value_parser = at_least(1))]
    stride: Option<usize>,
    /// Use the first N windows only.
    #[arg(long, value_name = "N", value_parser = at_least(1))]
    chunks: Option<usize>,
    /// Zero-shot tasks, separated by commas: piqa, hellaswag, winogrande, arc_easy, arc_challenge.
    #[arg(long, value_name = "LIST", value_delimiter = ',', requires = "task_dir", value_parser = parse_task)]
    tasks: Vec<Task>,
    /// Folder with the data sets' own files.
    #[arg(long, value_name = "DIR", requires = "tasks")]
    task_dir: Option<PathBuf>,
    /// Ask the first N items of each task only.
    #[arg(long, value_name = "N", requires = "tasks", value_parser = at_least(1))]
    limit: Option<usize>,
    /// Write every item's log-likelihoods, one JSON object a line.
    #[arg(long, value_name = "FILE", requires = "tasks")]
    samples: Option<PathBuf>,
    /// Compare with this model instead of the first: token by token (KL divergence) and item by item.
    #[arg(long, value_name = "MODEL")]
    base: Option<PathBuf>,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    precision: PrecisionArgs,
    /// Print a JSON object, or a list of them for several models.
    #[arg(long, conflicts_with = "markdown")]
    json: bool,
    /// Print a Markdown table.
    #[arg(long)]
    markdown: bool,
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
    /// As the transformers documentation: windows overlap, every token counts once.
    #[value(name = "strided")]
    #[serde(rename = "strided")]
    Strided,
    /// As lm-evaluation-harness' wikitext: pages, detokenized; also per word and per byte.
    #[value(name = "lm-eval")]
    #[serde(rename = "lm-eval")]
    LmEval,
}

impl ProtocolArg {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::LlamaCpp => "llama.cpp",
            Self::Gptq => "gptq",
            Self::Strided => "strided",
            Self::LmEval => "lm-eval",
        }
    }
}

fn parse_task(name: &str) -> Result<Task, String> {
    name.parse().map_err(|error: ramp::eval::Error| error.to_string())
}

/// Runs the command.
///
/// # Errors
/// When a model, the text or a task cannot be used, or on Ctrl-C.
pub(crate) fn run(args: &Args) -> Result {
    args.check()?;
    let inputs = Inputs::read(args)?;
    if let Some(path) = &args.samples {
        output::check_writable(path)?;
    }
    let device = args.device.open()?;
    let precision = args.precision.precision;
    let progress = Progress::start("load");
    let mut run = Run { inputs: &inputs, device, precision, progress, results: Vec::new() };
    let base = (inputs.models.len() > 1).then(|| run.load(0)).transpose()?;
    for index in 0..inputs.models.len() {
        let model = match &base {
            Some(base) if index == 0 => base.clone(),
            _ => run.load(index)?,
        };
        let measured = run.measure(index, &model, base.as_ref())?;
        run.results.push(measured);
    }
    let Run { progress, results, .. } = run;
    drop(progress);

    if let Some(path) = &args.samples {
        samples::write(path, &inputs, &results)?;
    }
    // The base is shown when it is one of the models, not when it was named by --base.
    let first = usize::from(args.base.is_some());
    let evaluations: Vec<Evaluation> =
        (first..results.len()).map(|index| evaluation(&inputs, &results, index)).collect::<Result<_>>()?;
    match (evaluations.as_slice(), args.json, args.markdown) {
        ([one], true, _) => output::print_json(one),
        (all, true, _) => output::print_json(&all),
        (all, _, true) => output::print(&report::table(all).markdown()),
        ([one], ..) => output::print(&report::detail(one)),
        (all, ..) => output::print(&report::table(all).to_string()),
    }
}

impl Args {
    /// What can be told before anything is read.
    fn check(&self) -> Result {
        if self.stride.is_some() && self.protocol != ProtocolArg::Strided {
            return Err(Failure::User("--stride needs --protocol strided".into()));
        }
        if self.chunks.is_some() && self.protocol == ProtocolArg::LmEval {
            let why = "--chunks does not go with --protocol lm-eval: perplexity per byte needs every byte";
            return Err(Failure::User(why.into()));
        }
        Ok(())
    }
}

/// What one model gave.
struct Measured {
    text: Option<Text>,
    tasks: Vec<TaskResult>,
}

enum Text {
    Alone(Perplexity),
    Against(Box<Comparison>),
}

struct Run<'a> {
    inputs: &'a Inputs,
    device: Device,
    precision: Precision,
    progress: Progress,
    results: Vec<Measured>,
}

impl Run<'_> {
    fn load(&mut self, index: usize) -> Result<CausalLm> {
        self.progress.busy("load");
        Ok(self.inputs.models[index].files.load_as(&self.device, self.precision)?)
    }

    /// Everything about one model. `base` is the model at index 0, unless there is only one.
    fn measure(&mut self, index: usize, model: &CausalLm, base: Option<&CausalLm>) -> Result<Measured> {
        self.progress.busy("evaluate");
        let entry = &self.inputs.models[index];
        let text = match &entry.cut {
            Some(cut) => Some(self.text(cut, model, base.filter(|_| index > 0))?),
            None => None,
        };
        let mut tasks = Vec::new();
        for (task, items) in &self.inputs.tasks {
            tasks.push(self.task(*task, items, &entry.files, model)?);
        }
        Ok(Measured { text, tasks })
    }

    fn text(&mut self, cut: &Cut, model: &CausalLm, base: Option<&CausalLm>) -> Result<Text> {
        let (total, ctx) = (cut.windows.n_tokens(), cut.windows.ctx());
        let tick = |windows: usize| {
            let done = if windows == cut.windows.len() { total } else { (windows * ctx).min(total) };
            self.progress.step(Step { name: "evaluate", done, total, unit: "tokens", best_kld: None })
        };
        Ok(match base {
            Some(base) => Text::Against(Box::new(compare(model, base, &cut.windows, tick)?)),
            None => Text::Alone(perplexity(model, &cut.windows, tick)?),
        })
    }

    fn task(
        &mut self,
        task: Task,
        items: &[Item],
        files: &ModelFiles,
        model: &CausalLm,
    ) -> Result<TaskResult> {
        let encoder = Encoder::new(files.tokenizer()?, files.config());
        let name = task.name();
        Ok(evaluate(task, items, model, &encoder, |done, total| {
            self.progress.step(Step { name, done, total, unit: "tokens", best_kld: None })
        })?)
    }
}

/// The report on the model at `index`.
fn evaluation(inputs: &Inputs, results: &[Measured], index: usize) -> Result<Evaluation> {
    let (entry, measured, base) = (&inputs.models[index], &results[index], &results[0]);
    let base_path = || inputs.models[0].path.clone();
    let (mut against, mut perplexity) = (None, None);
    match &measured.text {
        Some(Text::Alone(alone)) => perplexity = Some(*alone),
        Some(Text::Against(comparison)) => {
            perplexity = Some(comparison.model);
            against = Some(AgainstBase::new(base_path(), comparison));
        }
        None => {}
    }
    let text = perplexity.zip(entry.cut.as_ref()).map(|(measured, cut)| TextEvaluation {
        text: cut.path.clone(),
        protocol: cut.protocol,
        ctx: cut.ctx,
        stride: cut.stride,
        measured,
        per: cut.size.map(|size| measured.per(size)),
    });
    let mut tasks = Vec::new();
    for (task, base) in measured.tasks.iter().zip(&base.tasks) {
        let against_base = if index > 0 { Some(task.against(base)?) } else { None };
        let base_acc = (index > 0).then_some(base.acc);
        // Samples have a file of their own.
        let result = TaskResult { samples: Vec::new(), ..task.clone() };
        tasks.push(TaskEvaluation { result, base_acc, against_base });
    }
    Ok(Evaluation { model: entry.path.clone(), text, base: against, tasks })
}
