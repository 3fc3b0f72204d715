//! `cargo xtask interop`: real llama.cpp runs the files that the `ramp` command writes.
//!
//! For each model: `ramp quantize` searches an allocation with SAC, folds and writes mixed types; then llama.cpp
//! must load the file without a complaint, tokenize as RAMP does, and find the perplexity that `ramp eval` finds.

mod build;
mod case;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context, Result, bail};

pub(crate) use self::build::{FEATURE, build_env};
use self::{
    build::{Programs, build},
    case::{Case, Report},
};
use crate::{process, workspace::Workspace};

/// Options of `cargo xtask interop`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Models to check, nano or folders of the zoo; nano and llama2-xs by default.
    models: Vec<String>,
    /// Folder with `zoo/` and `data/wikitext2/`; RAMP_SHARED or `../shared` by default.
    #[arg(long)]
    shared: Option<PathBuf>,
    /// Bits per weight to quantize to.
    #[arg(long, default_value_t = 4.2)]
    bpw: f64,
    /// Episodes of the search.
    #[arg(long, default_value_t = 8)]
    episodes: u32,
    /// Skip the tests of the package `ramp-tests`.
    #[arg(long)]
    skip_tests: bool,
}

impl Default for Args {
    fn default() -> Self {
        Self { models: Vec::new(), shared: None, bpw: 4.2, episodes: 8, skip_tests: false }
    }
}

/// The check with its default options, as a step of `cargo xtask ci`.
pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    run(workspace, &Args::default())
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let programs = build(workspace)?;
    if !args.skip_tests {
        programs.run_tests(workspace)?;
    }
    let shared = workspace.shared(args.shared.as_deref());
    let names: Vec<&str> = match args.models.as_slice() {
        [] => vec!["nano", "llama2-xs"],
        names => names.iter().map(String::as_str).collect(),
    };
    let folder = workspace.metadata()?.target_directory.join("interop");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;

    let mut verdicts = Vec::new();
    for name in names {
        let Some(case) = Case::find(workspace.root(), &shared, name) else {
            let place = shared.join("zoo").join(name);
            let hint = "give the folder with --shared or RAMP_SHARED";
            verdicts.push((name, format!("SKIPPED, there is no {} ({hint})", place.display()), true));
            continue;
        };
        process::heading(&format!("-- {name}"));
        let start = Instant::now();
        let report = check_model(&programs, &case, &folder, args).with_context(|| format!("model {name}"))?;
        print!("{report}");
        let time = process::seconds(start.elapsed());
        verdicts.push((name, format!("{} in {time}", report.verdict()), report.failures.is_empty()));
    }
    println!();
    verdicts.iter().for_each(|(name, verdict, _)| println!("interop {name}: {verdict}"));
    if verdicts.iter().any(|(.., good)| !good) {
        bail!("llama.cpp and RAMP disagree");
    }
    Ok(())
}

fn check_model(programs: &Programs, case: &Case, folder: &Path, args: &Args) -> Result<Report> {
    let file = folder.join(format!("{}.gguf", case.name));
    // A file of an earlier run must not stand in for one that was not written.
    if file.exists() {
        fs::remove_file(&file).with_context(|| format!("cannot remove {}", file.display()))?;
    }
    case.quantize(programs, &file, args.bpw, args.episodes)?;
    case.compare(programs, &file)
}
