//! `ramp figures`.

use std::{collections::HashSet, fs, io::Write as _, path::PathBuf};

use ramp::{figures::draw, search::TrainingLog};

use super::{
    failure::{Failure, Result},
    output,
    table::{Align, Table},
};

/// Arguments of `ramp figures`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Logs of training runs, as `ramp quantize --log` and `ramp train --log` write them.
    #[arg(required = true, value_name = "LOG.json")]
    logs: Vec<PathBuf>,
    /// Folder for the figures; it is made if there is none. With several logs each has a folder in it, named as the log.
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
}

/// Runs the command.
///
/// # Errors
/// When a log cannot be read, or a figure cannot be written.
pub(crate) fn run(args: &Args) -> Result {
    let mut folders = HashSet::new();
    let mut table = Table::new([("figure", Align::Left), ("of the paper", Align::Left)]);
    for path in &args.logs {
        let log = TrainingLog::load(path)?;
        let mut folder = args.output.clone();
        if args.logs.len() > 1 {
            folder.push(path.file_stem().unwrap_or_default());
        }
        if !folders.insert(folder.clone()) {
            return Err(Failure::file(
                path,
                "another log has the same name, their figures would replace each other",
            ));
        }
        fs::create_dir_all(&folder).map_err(|why| Failure::file(&folder, why))?;
        for figure in draw(&log)? {
            let file = folder.join(figure.name).with_extension("svg");
            ramp::gguf::write_atomically(&file, |out| out.write_all(figure.svg.as_bytes()))?;
            table.row([file.display().to_string(), figure.paper.to_owned()]);
        }
    }
    output::print(&table.to_string())
}
