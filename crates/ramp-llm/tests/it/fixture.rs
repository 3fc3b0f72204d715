//! Copies of the nano model, damaged or not, and the command run on them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Output,
    sync::OnceLock,
};

use assert_cmd::Command;
use serde_json::Value;
use tempfile::TempDir;

/// A folder of its own with a copy of the nano model in `model` and a short text in `text`.
pub(crate) struct Fixture {
    folder: TempDir,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let fixture = Self { folder: tempfile::tempdir().unwrap() };
        fs::create_dir(fixture.model()).unwrap();
        for name in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer.model"] {
            fs::copy(nano().join(name), fixture.model().join(name)).unwrap();
        }
        let text = fs::read_to_string(nano().join("sample.txt")).unwrap();
        let end = text.floor_char_boundary(20_000);
        fs::write(fixture.text(), &text[..end]).unwrap();
        fixture
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn model(&self) -> PathBuf {
        self.path("model")
    }

    pub(crate) fn text(&self) -> PathBuf {
        self.path("text")
    }

    pub(crate) fn out(&self) -> PathBuf {
        self.path("out.gguf")
    }

    /// Names in the folder, hidden ones too, sorted.
    pub(crate) fn listing(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// `ramp quantize model -o out.gguf --text text` on few tokens, with further arguments.
    pub(crate) fn quantize(&self, args: &[&str]) -> Command {
        let mut command = ramp();
        command.arg("quantize").arg(self.model()).arg("-o").arg(self.out()).arg("--text").arg(self.text());
        command.args(SMALL).args(args);
        command
    }

    /// Changes a JSON file of the model.
    pub(crate) fn edit_json(&self, name: &str, edit: impl FnOnce(&mut Value)) {
        let path = self.model().join(name);
        let mut json = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        edit(&mut json);
        fs::write(&path, serde_json::to_vec(&json).unwrap()).unwrap();
    }

    /// Changes the header of `model.safetensors`; the data stays.
    pub(crate) fn edit_header(&self, edit: impl FnOnce(&mut Value)) {
        let path = self.model().join("model.safetensors");
        let bytes = fs::read(&path).unwrap();
        let (length, rest) = bytes.split_first_chunk::<8>().unwrap();
        let (header, data) = rest.split_at(u64::from_le_bytes(*length) as usize);
        let mut header = serde_json::from_slice(header).unwrap();
        edit(&mut header);
        let header = serde_json::to_vec(&header).unwrap();
        let file = [&(header.len() as u64).to_le_bytes(), header.as_slice(), data].concat();
        fs::write(path, file).unwrap();
    }
}

/// Arguments that make a run of some seconds.
pub(crate) const SMALL: [&str; 8] =
    ["--ctx", "64", "--calibration-tokens", "1024", "--search-tokens", "128", "--report-tokens", "256"];

/// The model that comes with RAMP.
pub(crate) fn nano() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/nano")
}

/// The command, deaf to the environment of the test run.
pub(crate) fn ramp() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ramp"));
    command.env_remove("RAMP_LOG");
    command
}

/// A run that must succeed; its standard output.
#[track_caller]
pub(crate) fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(stderr(&output), "", "nothing but progress, and no terminal to draw it on");
    String::from_utf8(output.stdout).unwrap()
}

/// A run that must end with status 2 and one line that has all of `parts`.
#[track_caller]
pub(crate) fn refuse(command: &mut Command, parts: &[&str]) {
    let output = command.output().unwrap();
    let stderr = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.starts_with("error: ") && !stderr.contains("panicked"), "{stderr}");
    for part in parts {
        assert!(stderr.contains(part), "`{part}` is not in: {stderr}");
    }
    assert!(output.stdout.is_empty(), "{:?}", output.stdout);
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A quantized nano model that tests share and only read, with the report of its run.
pub(crate) fn quantized() -> &'static (Fixture, Value, String) {
    static SHARED: OnceLock<(Fixture, Value, String)> = OnceLock::new();
    SHARED.get_or_init(|| {
        let fixture = Fixture::new();
        let report = fixture.path("report.json");
        let args = ["--allocator", "uniform", "--bpw", "4.5", "--json", report.to_str().unwrap()];
        let summary = succeed(&mut fixture.quantize(&args));
        let report = serde_json::from_slice(&fs::read(report).unwrap()).unwrap();
        (fixture, report, summary)
    })
}
