//! `cargo xtask lm-eval`: the zero-shot tasks of `ramp eval` against lm-evaluation-harness, item by item.
//!
//! The harness runs in an environment of its own, PyTorch included; the comparison itself is `xtask/lm_eval/compare.py`.
//! What it finds becomes a record in the form of `docs/benchmarks`.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};

use crate::{process, workspace::Workspace};

/// Data files of the tasks, in the folders of `ramp eval --task-dir`.
const TASK_FILES: [&str; 7] = [
    "piqa/valid.jsonl",
    "piqa/valid-labels.lst",
    "hellaswag/hellaswag_val.jsonl",
    "winogrande/dev.jsonl",
    "winogrande/dev-labels.lst",
    "arc/ARC-Easy-Test.jsonl",
    "arc/ARC-Challenge-Test.jsonl",
];
const VERSIONS: &str = "import lm_eval, torch, transformers as t; \
    print(f'lm-eval {lm_eval.__version__}, torch {torch.__version__}, transformers {t.__version__}')";

/// Options of `cargo xtask lm-eval`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Models to ask, folders of the zoo or paths; gpt2-xs and llama2-xs by default.
    models: Vec<String>,
    /// A Python with the packages of xtask/lm_eval/requirements.txt; without it, an environment is made in the target
    /// folder, which downloads PyTorch.
    #[arg(long)]
    python: Option<PathBuf>,
    /// The command `ramp`; built from this tree by default.
    #[arg(long)]
    ramp: Option<PathBuf>,
    /// Folder with `zoo/` and `data/tasks/`; RAMP_SHARED or `../shared` by default.
    #[arg(long)]
    shared: Option<PathBuf>,
    /// Items of each task.
    #[arg(long, default_value_t = 300)]
    limit: usize,
    /// Threads of the harness.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// The record to write; docs/benchmarks/DATE-lm-eval.md by default.
    #[arg(long)]
    record: Option<PathBuf>,
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let shared = workspace.shared(args.shared.as_deref());
    let tasks = shared.join("data/tasks");
    ensure!(tasks.is_dir(), "there is no {} (give the folder with --shared)", tasks.display());
    let target = workspace.metadata()?.target_directory;
    let ramp = match &args.ramp {
        Some(ramp) => ramp.clone(),
        None => {
            process::run(&mut workspace.cargo(&["build", "-p", "ramp-llm"]))?;
            target.join("debug/ramp")
        }
    };
    let python = match &args.python {
        Some(python) => python.clone(),
        None => environment(workspace, &target.join("lm-eval/python"))?,
    };
    let names = match args.models.as_slice() {
        [] => vec!["gpt2-xs".to_owned(), "llama2-xs".to_owned()],
        names => names.to_vec(),
    };
    let mut found = Vec::new();
    for name in names {
        let model = Workspace::model(&shared, &name);
        let name = model.file_name().map_or(name, |name| name.to_string_lossy().into_owned());
        process::heading(&format!("-- {name}"));
        let out = target.join("lm-eval").join(&name);
        // A reference of an earlier run must not stand in for this one's.
        if out.exists() {
            fs::remove_dir_all(&out).with_context(|| format!("cannot remove {}", out.display()))?;
        }
        fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;
        let mut command = Command::new(&python);
        command.arg(workspace.root().join("xtask/lm_eval/compare.py")).args([&model, &tasks, &out]);
        command.arg("--ramp").arg(&ramp).args(["--limit", &args.limit.to_string()]);
        command.args(["--threads", &args.threads.to_string()]).env("HF_HUB_OFFLINE", "1");
        found.push(Found { name, weights: weights(&model)?, table: compare(&mut command)? });
    }
    let date = process::stdout(Command::new("date").args(["-u", "+%F"]))?;
    let versions = process::stdout(Command::new(&python).args(["-c", VERSIONS]))?;
    let path = args
        .record
        .clone()
        .unwrap_or_else(|| workspace.root().join(format!("docs/benchmarks/{}-lm-eval.md", date.trim())));
    let text = record(workspace, args, &tasks, &found, versions.trim())?;
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    println!("{}", path.display());
    match found.iter().find(|found| !found.table.agrees) {
        Some(found) => bail!("ramp and lm-eval disagree on {}", found.name),
        None => Ok(()),
    }
}

/// Makes the environment where it is not there yet.
fn environment(workspace: &Workspace, folder: &Path) -> Result<PathBuf> {
    let python = folder.join("bin/python");
    if !python.is_file() {
        process::run(Command::new("python3").args(["-m", "venv"]).arg(folder))?;
        let requirements = workspace.root().join("xtask/lm_eval/requirements.txt");
        process::run(Command::new(&python).args(["-m", "pip", "install", "-r"]).arg(requirements))?;
    }
    Ok(python)
}

struct Found {
    name: String,
    /// File name and hash.
    weights: Vec<(String, String)>,
    table: Table,
}

#[derive(Debug, PartialEq)]
struct Table {
    rows: String,
    agrees: bool,
}

impl Table {
    /// From what compare.py prints, among what `ramp eval` prints.
    fn of(output: &str) -> Self {
        let rows = output.lines().filter(|line| line.starts_with('|'));
        Self {
            rows: rows.fold(String::new(), |rows, row| rows + row + "\n"),
            agrees: output.lines().next_back() == Some("agreement"),
        }
    }
}

fn compare(command: &mut Command) -> Result<Table> {
    let output = command.stderr(Stdio::inherit()).output().context("cannot run Python")?;
    let text = String::from_utf8_lossy(&output.stdout);
    print!("{text}");
    let table = Table::of(&text);
    // Status 1 with a table is a disagreement, which belongs into the record; anything else is a failure.
    ensure!(!table.rows.is_empty(), "the comparison failed, {}", output.status);
    Ok(Table { agrees: table.agrees && output.status.success(), ..table })
}

fn weights(model: &Path) -> Result<Vec<(String, String)>> {
    let mut files: Vec<PathBuf> = fs::read_dir(model)
        .with_context(|| format!("cannot read {}", model.display()))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    files.retain(|path| path.extension().is_some_and(|extension| extension == "safetensors"));
    files.sort();
    files.iter().map(|path| Ok((file_name(path), hash(path)?))).collect()
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn hash(path: &Path) -> Result<String> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(Sha256::digest(bytes).iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}")))
}

fn record(
    workspace: &Workspace,
    args: &Args,
    tasks: &Path,
    found: &[Found],
    versions: &str,
) -> Result<String> {
    let git = |args: &[&str]| process::stdout(Command::new("git").args(args).current_dir(workspace.root()));
    let commit = git(&["rev-parse", "--short", "HEAD"])?;
    let clean = git(&["status", "--porcelain"])?.trim().is_empty();
    let rust = process::stdout(Command::new("rustc").arg("--version"))?;
    let mut text = String::from("# Zero-shot tasks against lm-evaluation-harness\n\n");
    let verdict = if found.iter().all(|found| found.table.agrees) { "agree" } else { "DISAGREE" };
    write!(
        text,
        "**Question.** Does `ramp eval` answer tasks as lm-evaluation-harness does, item by item? The other answer would be \
         fewer\nthan 99.5 % equal predictions in a task, or an accuracy that differs by more than one item. They \
         {verdict}.\n\n\
         **Commit.** {}, {} tree, dev profile.\n\n\
         **Machine.** {}; {}. No times are reported.\n\n\
         **Command.** {versions}, float32, CPU, in an environment of its own.\n\n\
         ```sh\ncargo xtask lm-eval {} --limit {} --threads {}\n```\n\n",
        commit.trim(),
        if clean { "clean" } else { "changed" },
        machine(),
        rust.split(" (").next().unwrap_or_default().trim(),
        found.iter().map(|found| found.name.as_str()).collect::<Vec<_>>().join(" "),
        args.limit,
        args.threads,
    )?;
    text += "**Inputs.** SHA-256:\n\n```text\n";
    for Found { name, weights, .. } in found {
        weights.iter().try_for_each(|(file, hash)| writeln!(text, "{hash}  {name}/{file}"))?;
    }
    for file in TASK_FILES.iter().map(|file| tasks.join(file)).filter(|file| file.is_file()) {
        let name = file.strip_prefix(tasks).unwrap_or(&file).display();
        writeln!(text, "{}  {name}", hash(&file)?)?;
    }
    text += "```\n";
    for Found { name, table, .. } in found {
        write!(text, "\n## {name}, first {} items of each task\n\n{}", args.limit, table.rows)?;
    }
    text += "\nWhere the rows of HellaSwag have one field `query`, it is split into the original columns, which both sides \
        read.\nDifferences are of the sums of log-likelihoods over a choice, in nats.\n\n\
        ## What it does not show\n\nOther models, other items, other types: in float16, which the harness takes by default \
        for some folders, near-ties can\nfall either way.\n";
    Ok(text)
}

/// As far as Linux tells it.
fn machine() -> String {
    let line = |path: &str, key: &str| -> Option<String> {
        let text = fs::read_to_string(path).ok()?;
        let line = text.lines().find(|line| line.starts_with(key))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let cpu = line("/proc/cpuinfo", "model name").unwrap_or_else(|| std::env::consts::ARCH.into());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let kib =
        line("/proc/meminfo", "MemTotal").and_then(|total| total.split(' ').next()?.parse::<u64>().ok());
    let memory = kib.map_or_else(String::new, |kib| format!(", {} GiB", (kib + (1 << 19)) >> 20));
    format!("{cpu}, {cores} cores{memory}, {}", std::env::consts::OS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_found_in_what_is_printed() {
        let table = Table::of("nano\n  task\n| a |\n|---|\n| 1 |\nagreement\n");
        assert_eq!(table, Table { rows: "| a |\n|---|\n| 1 |\n".into(), agrees: true });
        assert!(!Table::of("| a |\nDISAGREEMENT\n").agrees);
        assert!(Table::of("Traceback\n").rows.is_empty());
    }
}
