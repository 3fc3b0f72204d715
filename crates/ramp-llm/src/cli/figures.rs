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
    /// Folder for the figures; it is made if there is none. With several logs each has a folder in it, named
    /// as its file, and numbered where a file has several.
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
    let mut logs = Vec::new();
    for path in &args.logs {
        let of_file = TrainingLog::load_all(path)?;
        let alone = of_file.len() == 1;
        logs.extend(of_file.into_iter().enumerate().map(|(at, log)| (path, (!alone).then_some(at + 1), log)));
    }
    let alone = logs.len() == 1;
    for (path, number, log) in &logs {
        let mut folder = args.output.clone();
        if !alone {
            let stem = path.file_stem().unwrap_or_default().display();
            folder.push(number.map_or_else(|| stem.to_string(), |number| format!("{stem}-{number}")));
        }
        if !folders.insert(folder.clone()) {
            return Err(Failure::file(
                path,
                "another log has the same name, their figures would replace each other",
            ));
        }
        fs::create_dir_all(&folder).map_err(|why| Failure::file(&folder, why))?;
        for figure in draw(log)? {
            let file = folder.join(figure.name).with_extension("svg");
            ramp::gguf::write_atomically(&file, |out| out.write_all(figure.svg.as_bytes()))?;
            table.row([file.display().to_string(), figure.paper.to_owned()]);
        }
    }
    output::print(&table.to_string())
}
