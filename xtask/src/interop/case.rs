//! One model: a file by `ramp`, and what llama.cpp and `ramp` say about it.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fmt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use serde::{Deserialize, de::DeserializeOwned};

use super::build::Programs;
use crate::process;

/// Window length in tokens, llama.cpp's default.
const CTX: &str = "512";
/// Windows of the text.
const CHUNKS: &str = "20";
/// Lines of real text to tokenize.
const LINES: &str = "200";
/// llama.cpp multiplies with activations rounded to 8 bits and keeps keys and values in f16; RAMP computes in f32.
const MAX_RELATIVE_DIFFERENCE: f64 = 0.005;

/// A model with its texts.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Case {
    /// Name of the model.
    pub(crate) name: String,
    model: PathBuf,
    calibration: PathBuf,
    text: PathBuf,
}

impl Case {
    /// The embedded nano model, or a model of the zoo in `shared`; `None` when it is not there. WikiText-2 is the
    /// text where there is one, nano's own sample otherwise.
    pub(crate) fn find(root: &Path, shared: &Path, name: &str) -> Option<Self> {
        let nano = root.join("assets/nano");
        let wikitext = shared.join("data/wikitext2");
        let [calibration, text] = ["wiki.train.part.raw", "wiki.test.raw"].map(|file| wikitext.join(file));
        let model = if name == "nano" { nano.clone() } else { shared.join("zoo").join(name) };
        if !model.join("config.json").is_file() {
            return None;
        }
        let name = name.to_owned();
        if calibration.is_file() && text.is_file() {
            return Some(Self { name, model, calibration, text });
        }
        let sample = nano.join("sample.txt");
        (name == "nano").then(|| Self { name, model, calibration: sample.clone(), text: sample })
    }

    /// `ramp quantize` with a SAC search, folding and mixed types.
    pub(crate) fn quantize(&self, programs: &Programs, file: &Path, bpw: f64, episodes: u32) -> Result<()> {
        let mut command = Command::new(&programs.ramp);
        command.arg("quantize").arg(&self.model).arg("-o").arg(file).arg("--text").arg(&self.calibration);
        command.args(["--bpw", &bpw.to_string(), "--allocator", "sac", "--episodes", &episodes.to_string()]);
        process::run(command.args(["--seed", "1"]))
    }

    /// Everything that llama.cpp and `ramp` must agree on.
    pub(crate) fn compare(&self, programs: &Programs, file: &Path) -> Result<Report> {
        let file = file.as_os_str();
        let loaded: Loaded = json(Command::new(&programs.llama_check).args([OsStr::new("load"), file]))?;

        let mut command = Command::new(&programs.llama_check);
        // The report holds the lines that differ; they are not an error here.
        command.arg("tokenize").arg(file).arg(&self.text).args(["--lines", LINES, "--report-only"]);
        // The tokenizer of the folder, and the one that `ramp` rebuilds from the file.
        let tokens: Tokens = json(command.arg("--against").arg(&self.model).arg("--against").arg(file))?;

        let mut command = Command::new(&programs.llama_check);
        command.arg("perplexity").arg(file).arg(&self.text).args(["--ctx", CTX, "--chunks", CHUNKS]);
        let theirs: Perplexity = json(&mut command)?;
        let mut command = Command::new(&programs.ramp);
        command.arg("eval").arg(file).arg("--text").arg(&self.text);
        command.args(["--protocol", "llama.cpp", "--ctx", CTX, "--chunks", CHUNKS]);
        let ours: Perplexity = json(&mut command)?;

        Ok(Report::new(&loaded, &tokens, theirs, ours))
    }
}

/// Runs a program with `--json` and reads what it prints.
fn json<T: DeserializeOwned>(command: &mut Command) -> Result<T> {
    let text = process::stdout(command.arg("--json"))?;
    serde_json::from_str(&text).with_context(|| {
        let head: String = text.chars().take(500).collect();
        format!("{:?} printed {head:?}", command.get_program())
    })
}

#[derive(Debug, Deserialize)]
struct Loaded {
    description: String,
    types: BTreeMap<String, usize>,
    complaints: Vec<LogLine>,
}

#[derive(Debug, Deserialize)]
struct LogLine {
    level: String,
    text: String,
}

#[derive(Debug, Deserialize)]
struct Tokens {
    lines: Vec<Vec<i32>>,
    disagreements: Vec<Disagreement>,
}

#[derive(Debug, Deserialize)]
struct Disagreement {
    tokenizer: PathBuf,
    line: String,
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct Perplexity {
    perplexity: f64,
    perplexity_se: f64,
    /// Scored tokens.
    tokens: u64,
}

/// What was found for one model.
#[derive(Debug)]
pub(crate) struct Report {
    facts: Vec<String>,
    /// Requirements that are not met.
    pub(crate) failures: Vec<String>,
}

impl Report {
    fn new(loaded: &Loaded, tokens: &Tokens, theirs: Perplexity, ours: Perplexity) -> Self {
        let types: Vec<String> = loaded.types.iter().map(|(ty, n)| format!("{n} {ty}")).collect();
        let n_tokens: usize = tokens.lines.iter().map(Vec::len).sum();
        let difference = (ours.perplexity - theirs.perplexity) / theirs.perplexity;
        let facts = vec![
            format!("{}: {}", loaded.description, types.join(" + ")),
            format!("{} lines, {n_tokens} tokens", tokens.lines.len()),
            format!("perplexity in llama.cpp {:.4} +- {:.4}", theirs.perplexity, theirs.perplexity_se),
            format!(
                "perplexity in ramp      {:.4} +- {:.4} ({:+.3} %)",
                ours.perplexity,
                ours.perplexity_se,
                100.0 * difference
            ),
        ];

        let mut failures: Vec<String> = Vec::new();
        let complaints = loaded.complaints.iter();
        failures.extend(complaints.map(|line| format!("llama.cpp {}: {}", line.level, line.text)));
        let quantized = loaded.types.keys().filter(|ty| !ty.starts_with(['F', 'B'])).count();
        if quantized < 2 {
            failures.push(format!("{quantized} quantized types in the file, not a mix"));
        }
        let lines = tokens.disagreements.iter();
        failures.extend(lines.map(|d| format!("{} tokenizes {:?} otherwise", d.tokenizer.display(), d.line)));
        if ours.tokens != theirs.tokens {
            failures.push(format!("llama.cpp scored {} tokens, ramp {}", theirs.tokens, ours.tokens));
        }
        // Not `>`: a NaN must fail.
        let equal = difference.abs() <= MAX_RELATIVE_DIFFERENCE;
        if !equal {
            let limit = 100.0 * MAX_RELATIVE_DIFFERENCE;
            failures.push(format!("perplexities differ by {:.3} %, more than {limit} %", 100.0 * difference));
        }
        Self { facts, failures }
    }

    /// One word for the last line.
    pub(crate) fn verdict(&self) -> &'static str {
        if self.failures.is_empty() { "passed" } else { "FAILED" }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.facts.iter().try_for_each(|fact| writeln!(f, "   {fact}"))?;
        self.failures.iter().try_for_each(|failure| writeln!(f, "   FAILED: {failure}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(loaded: &str, tokens: &str, theirs: (f64, u64), ours: (f64, u64)) -> Report {
        let perplexity = |(perplexity, tokens)| Perplexity { perplexity, perplexity_se: 0.1, tokens };
        let (loaded, tokens) = (serde_json::from_str(loaded).unwrap(), serde_json::from_str(tokens).unwrap());
        Report::new(&loaded, &tokens, perplexity(theirs), perplexity(ours))
    }

    const LOADED: &str =
        r#"{"description":"llama","types":{"F32":9,"Q3_K":3,"Q4_K":25},"complaints":[],"more":1}"#;
    const TOKENS: &str = r#"{"lines":[[1,2],[1]],"disagreements":[]}"#;

    #[test]
    fn agreement_passes() {
        let report = report(LOADED, TOKENS, (30.0, 5100), (30.14, 5100));
        assert_eq!((report.verdict(), report.failures.len()), ("passed", 0), "{report}");
        assert!(report.to_string().contains("2 lines, 3 tokens"), "{report}");
    }

    #[test]
    fn every_requirement_can_fail() {
        let loaded = r#"{"description":"llama","types":{"F32":9,"Q4_K":28},
            "complaints":[{"level":"warn","text":"missing pre-tokenizer type"}]}"#;
        let tokens = r#"{"lines":[[1]],"disagreements":[{"tokenizer":"zoo/x","line":"a b"}]}"#;
        let report = report(loaded, tokens, (30.0, 5100), (30.16, 5080));
        let expected =
            ["pre-tokenizer", "not a mix", "zoo/x tokenizes \"a b\"", "5100 tokens, ramp 5080", "0.533 %"];
        assert_eq!(report.failures.len(), expected.len(), "{report}");
        for (failure, part) in report.failures.iter().zip(expected) {
            assert!(failure.contains(part), "{failure:?} lacks {part:?}");
        }
        assert_eq!(report.verdict(), "FAILED");
    }

    #[test]
    fn not_a_number_fails() {
        let report = report(LOADED, TOKENS, (30.0, 5100), (f64::NAN, 5100));
        assert_eq!(report.failures.len(), 1, "{report}");
    }

    #[test]
    fn nano_needs_no_outside_file_and_other_models_do() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let nowhere = Path::new("no/such/folder");
        let nano = Case::find(&root, nowhere, "nano").unwrap();
        assert!(nano.text.ends_with("assets/nano/sample.txt") && nano.calibration == nano.text);
        assert_eq!(Case::find(&root, nowhere, "llama2-xs"), None);
    }
}
