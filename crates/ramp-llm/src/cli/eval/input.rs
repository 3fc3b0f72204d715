//! What is evaluated: models, windows of text, items of tasks. All of it is read before any weight.

use std::path::{Path, PathBuf};

use ramp::{
    eval::{
        Protocol, TextSize, Windows, detokenize, gptq_text, pages,
        tasks::{Item, Task},
    },
    model::ModelFiles,
    pipeline::read_text,
};

use super::{Args, ProtocolArg};
use crate::cli::failure::{Failure, Result};

/// Everything that was named on the command line.
pub(super) struct Inputs {
    /// The first is the base, unless it is the only one.
    pub(super) models: Vec<Entry>,
    pub(super) tasks: Vec<(Task, Vec<Item>)>,
}

/// A model.
pub(super) struct Entry {
    pub(super) path: PathBuf,
    pub(super) files: ModelFiles,
    /// The text as its tokenizer cuts it.
    pub(super) cut: Option<Cut>,
}

/// A text in windows.
pub(super) struct Cut {
    pub(super) path: PathBuf,
    pub(super) protocol: ProtocolArg,
    pub(super) ctx: usize,
    pub(super) stride: Option<usize>,
    pub(super) windows: Windows,
    /// Where every token of the text counts.
    pub(super) size: Option<TextSize>,
}

impl Inputs {
    pub(super) fn read(args: &Args) -> Result<Self> {
        let paths: Vec<&PathBuf> = args.base.iter().chain(&args.models).collect();
        let files = paths.iter().map(|path| Ok(ModelFiles::open(path)?)).collect::<Result<Vec<_>>>()?;
        let mut tasks = Vec::new();
        for &task in &args.tasks {
            let dir = args.task_dir.as_deref().unwrap_or(Path::new("."));
            if tasks.iter().any(|(seen, _)| *seen == task) {
                return Err(Failure::User(format!("--tasks names {task} twice")));
            }
            tasks.push((task, task.load(dir, args.limit)?));
        }
        let text = args.text.as_deref().map(|path| Ok::<_, Failure>((path, read_text(path)?))).transpose()?;
        // All models read the same windows, those that the base's context allows.
        let trained: Vec<usize> = files.iter().map(|files| files.config().max_position_embeddings).collect();
        let trained = trained.into_iter().min().unwrap_or(usize::MAX);
        let mut models: Vec<Entry> = Vec::new();
        for (path, files) in paths.into_iter().zip(files) {
            let cut = text.as_ref().map(|(path, text)| cut(args, path, text, &files, trained)).transpose()?;
            if let (Some(cut), Some(base)) = (&cut, models.first().and_then(|base| base.cut.as_ref()))
                && cut.windows != base.windows
            {
                let (path, base) = (path.display(), models[0].path.display());
                return Err(Failure::User(format!(
                    "{path}: its tokenizer cuts the text otherwise than that of {base}; such models do not compare \
                     token by token"
                )));
            }
            models.push(Entry { path: path.clone(), files, cut });
        }
        Ok(Self { models, tasks })
    }
}

fn cut(args: &Args, path: &Path, text: &str, files: &ModelFiles, trained: usize) -> Result<Cut> {
    let protocol = args.protocol;
    let default = match protocol {
        ProtocolArg::LlamaCpp => 512,
        ProtocolArg::Gptq => 2048,
        ProtocolArg::Strided | ProtocolArg::LmEval => trained,
    };
    let ctx = args.ctx.unwrap_or_else(|| default.min(trained));
    if ctx > trained {
        tracing::warn!("windows of {ctx} tokens are longer than the {trained} that the model was trained on");
    }
    let stride = (protocol == ProtocolArg::Strided).then(|| args.stride.unwrap_or(ctx / 2));
    let tokenizer = files.tokenizer()?;
    let bos = tokenizer.leading_bos();
    let mut size = None;
    let windows = match protocol {
        ProtocolArg::LlamaCpp => {
            let protocol = Protocol::llama_cpp(ctx).with_max_windows(args.chunks);
            protocol.windows(&tokenizer.encode_plain(text)?, bos)
        }
        ProtocolArg::Gptq => {
            let protocol = Protocol::gptq(ctx).with_max_windows(args.chunks);
            protocol.windows(&tokenizer.encode(&gptq_text(text))?, bos)
        }
        ProtocolArg::Strided => {
            let protocol = Protocol::strided(ctx, stride.unwrap_or(ctx)).with_max_windows(args.chunks);
            protocol.windows(&tokenizer.encode(&gptq_text(text))?, None)
        }
        ProtocolArg::LmEval => {
            let pages = pages(text);
            size = Some(pages.iter().map(|page| TextSize::of(page)).sum());
            let config = files.config();
            let prefix = bos.or(config.bos_token_id).or(config.eos_token_id);
            let prefix = prefix.ok_or(ramp::eval::Error::NoPrefix)?;
            let documents = pages
                .iter()
                .map(|page| Ok(tokenizer.encode_with_bos(&detokenize(page))?))
                .collect::<Result<Vec<_>>>()?;
            Windows::rolling(&documents, prefix, ctx)
        }
    };
    let windows = windows.map_err(|error| {
        // The library has seen tokens only; the user has a file.
        ramp::Error::Text { path: path.to_owned(), why: error.to_string() }
    })?;
    Ok(Cut { path: path.to_owned(), protocol, ctx, stride, windows, size })
}
