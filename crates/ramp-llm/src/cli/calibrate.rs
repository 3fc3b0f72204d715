//! `ramp calibrate`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use ramp::{
    eval::{Bos, Protocol, Scored},
    gguf::{Imatrix, ImatrixEntry},
    model::{Calibration, CalibrationStats, Gather, LayerId, ModelFiles, Save, StatsHeader},
    pipeline::{Step, read_text},
};
use serde::Serialize;

use super::{
    args::{DeviceArgs, at_least},
    failure::{Failure, Result},
    output,
    progress::Progress,
    size::grouped,
};

/// Arguments of `ramp calibrate`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Hugging Face folder or GGUF file.
    model: PathBuf,
    /// The text, like that which the model will see.
    #[arg(long, value_name = "FILE")]
    text: PathBuf,
    /// The statistics of every matrix's input, as a safetensors file.
    #[arg(short, long, value_name = "STATS.safetensors")]
    output: PathBuf,
    /// The importance matrix for llama-quantize, too.
    #[arg(long, value_name = "OUT.gguf")]
    imatrix: Option<PathBuf>,
    /// Window length in tokens, no more than the model's own.
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = at_least(2))]
    ctx: usize,
    /// Use the first N windows only.
    #[arg(long, value_name = "N", value_parser = at_least(1))]
    chunks: Option<usize>,
    /// Windows in one forward pass. It does not change the numbers.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = at_least(1))]
    batch: usize,
    /// Save what is gathered every N windows to the output's name with `.partial` behind it. The same command goes on
    /// from there; the file is removed at the end.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = at_least(1))]
    save_every: usize,
    /// Begin anew, whatever was saved.
    #[arg(long)]
    restart: bool,
    #[command(flatten)]
    device: DeviceArgs,
    /// Print a JSON object.
    #[arg(long)]
    json: bool,
}

/// What was done.
#[derive(Debug, Serialize)]
struct Done {
    output: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    imatrix: Option<PathBuf>,
    matrices: usize,
    windows: usize,
    /// Windows of an earlier run.
    resumed: usize,
    ctx: usize,
    tokens: usize,
}

/// Runs the command.
///
/// # Errors
/// When the model, the text or the outputs cannot be used, or on Ctrl-C.
pub(crate) fn run(args: &Args) -> Result {
    for path in [Some(&args.output), args.imatrix.as_ref()].into_iter().flatten() {
        output::check_writable(path)?;
    }
    if args.imatrix.as_ref() == Some(&args.output) {
        return Err(Failure::file(&args.output, "is named by two outputs"));
    }
    let files = ModelFiles::open(&args.model)?;
    let text = read_text(&args.text)?;
    let tokenizer = files.tokenizer()?;
    let ctx = args.ctx.min(files.config().max_position_embeddings);
    // Windows as those of llama-imatrix: BOS in place of the first token, the rest dropped.
    let protocol = Protocol {
        ctx,
        bos: Bos::ReplaceFirst,
        scored: Scored::All,
        min_windows: 1,
        max_windows: args.chunks,
    };
    let windows = protocol
        .windows(&tokenizer.encode_plain(&text)?, tokenizer.leading_bos())
        .map_err(|error| ramp::Error::Text { path: args.text.clone(), why: error.to_string() })?;
    let device = args.device.open()?;

    let mut progress = Progress::start("load");
    let model = files.load(&device)?;
    let total = windows.n_tokens();
    let partial = partial_path(&args.output);
    if args.restart {
        remove(&partial)?;
    }
    let tokens = windows.tokens();
    let mut pass = Calibration::new(&model, &tokens, Gather { batch: args.batch, ..Gather::default() });
    let resumed = pass.resume(&partial).map_err(|error| match error {
        error @ ramp::model::Error::OtherCalibration { .. } => {
            Failure::User(format!("{error} (--restart begins anew)"))
        }
        error => error.into(),
    })?;
    let save = Save { path: &partial, every: args.save_every };
    pass.run(Some(save), |done| {
        progress.step(Step { name: "calibrate", done, total, unit: "tokens", best_kld: None })
    })
    .map_err(|error| match error {
        ramp::model::Error::Interrupted if partial.is_file() => {
            Failure::Interrupted(format!("interrupted; the same command goes on from {}", partial.display()))
        }
        error => error.into(),
    })?;
    let stats = pass.finish();
    drop(progress);

    let dataset = args.text.file_name().unwrap_or(args.text.as_os_str()).to_string_lossy().into_owned();
    if let Some(path) = &args.imatrix {
        imatrix(&stats, &dataset, windows.len(), ctx)?.save(path)?;
    }
    let header = StatsHeader::new(files.name(), vec![dataset], windows.len() as u64, ctx as u64);
    stats.save(&args.output, &header)?;
    remove(&partial)?;

    let done = Done {
        output: args.output.clone(),
        imatrix: args.imatrix.clone(),
        matrices: stats.iter().count(),
        windows: windows.len(),
        resumed,
        ctx,
        tokens: total,
    };
    if args.json { output::print_json(&done) } else { output::print(&text_of(&done)) }
}

/// Where an unfinished pass is kept.
fn partial_path(output: &Path) -> PathBuf {
    let mut name = output.as_os_str().to_owned();
    name.push(".partial");
    name.into()
}

/// Removes a file, if there is one.
fn remove(path: &Path) -> Result {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Failure::file(path, error)),
        _ => Ok(()),
    }
}

/// The matrices of the blocks, as llama-imatrix collects them by default.
fn imatrix(stats: &CalibrationStats, dataset: &str, chunks: usize, chunk_size: usize) -> Result<Imatrix> {
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let mut imatrix = Imatrix::new(vec![dataset.to_owned()], count(chunks), count(chunk_size));
    for (id, stats) in stats.iter().filter(|(id, _)| matches!(id, LayerId::Block { .. })) {
        let sums = stats.sum_sq.iter().map(|&sum| sum as f32).collect();
        imatrix.insert(id.to_string(), ImatrixEntry { sums, counts: vec![stats.count] })?;
    }
    Ok(imatrix)
}

fn text_of(done: &Done) -> String {
    let Done { output, imatrix, matrices, windows, resumed, ctx, tokens } = done;
    let mut text = format!(
        "{}: inputs of {matrices} matrices, {windows} windows of {ctx} tokens ({} tokens)\n",
        output.display(),
        grouped(*tokens as u64)
    );
    if *resumed > 0 {
        text += &format!("{resumed} of the windows are from an earlier run\n");
    }
    if let Some(path) = imatrix {
        text += &format!("{}: importance matrix\n", path.display());
    }
    text
}
