//! Ctrl-C.
#![cfg(unix)]

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    process::{Child, Command, Stdio},
};

use serde_json::Value;

use crate::fixture::{Fixture, SMALL, refuse, stderr};

/// Starts a search that would take hours.
fn quantize(fixture: &Fixture) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ramp"));
    command.args(["quantize".as_ref(), fixture.model().as_os_str()]);
    command.args(["-o".as_ref(), fixture.out().as_os_str()]);
    command.args(["--episodes", "1000000", "--bpw", "4.25"]);
    command
}

/// Runs a command on little text until the log says that `step` is running, and interrupts it.
fn interrupt(command: &mut Command, fixture: &Fixture, step: &str) -> (Child, String) {
    let mut child = command
        .args(["--text".as_ref(), fixture.text().as_os_str()])
        .args(SMALL)
        .env("RAMP_LOG", "ramp=info")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    let mut log = String::new();
    while !log.lines().last().is_some_and(|line| line.contains(step)) {
        assert_ne!(lines.read_line(&mut log).unwrap(), 0, "it ended before `{step}`: {log}");
    }
    let status = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(status.success());
    log.clear();
    lines.read_to_string(&mut log).unwrap();
    (child, log)
}

#[test]
fn leaves_nothing_behind() {
    for step in ["calibrate", "search"] {
        let fixture = Fixture::new();
        let (mut child, rest) = interrupt(&mut quantize(&fixture), &fixture, step);
        assert_eq!(child.wait().unwrap().code(), Some(130), "{rest}");
        assert_eq!(rest.lines().last(), Some("error: interrupted; no output was written"), "{rest}");
        assert!(!rest.contains("panicked"), "{rest}");
        assert_eq!(fixture.listing(), ["model", "text"]);
    }
}

#[test]
fn finished_runs_are_in_the_log() {
    let fixture = Fixture::new();
    let log = fixture.path("log.jsonl");
    let mut command = Command::new(env!("CARGO_BIN_EXE_ramp"));
    command.args(["search".as_ref(), fixture.model().as_os_str(), "--log".as_ref(), log.as_os_str()]);
    // The first is done at once, the second would take hours.
    command.args(["--allocators", "uniform,random", "--tokens", "4000000000", "--rounding", "nearest"]);
    let (mut child, rest) = interrupt(&mut command, &fixture, "search");
    assert_eq!(child.wait().unwrap().code(), Some(130), "{rest}");
    let last = format!("error: interrupted; what was finished is in {}", log.display());
    assert_eq!(rest.lines().last(), Some(last.as_str()), "{rest}");
    let log = fs::read_to_string(log).unwrap();
    assert_eq!(log.lines().count(), 2, "{log}");
    assert!(log.contains("\"allocator\":\"uniform\""), "{log}");
}

/// The same command goes on from its folder: what was measured is not measured again, and the file is the same.
#[test]
fn a_quantization_goes_on_from_its_state() {
    let run = |fixture: &Fixture| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ramp"));
        command.args(["quantize".as_ref(), fixture.model().as_os_str()]);
        command.args(["-o".as_ref(), fixture.out().as_os_str()]);
        command.args(["--json".as_ref(), fixture.path("report.json").as_os_str()]);
        command.args(["--state".as_ref(), fixture.path("state").as_os_str()]);
        command.args(["--episodes", "8", "--bpw", "4.25", "--seed", "3"]);
        command
    };
    let report = |fixture: &Fixture| -> Value {
        let text = ["--text".as_ref(), fixture.text().as_os_str()].map(ToOwned::to_owned);
        let done = run(fixture).args(text).args(SMALL).output().unwrap();
        assert!(done.status.success(), "{}", stderr(&done));
        serde_json::from_slice(&fs::read(fixture.path("report.json")).unwrap()).unwrap()
    };
    let whole = Fixture::new();
    let expected = report(&whole);

    let fixture = Fixture::new();
    let (mut child, rest) = interrupt(&mut run(&fixture), &fixture, "warm start");
    assert_eq!(child.wait().unwrap().code(), Some(130), "{rest}");
    let last = rest.lines().last().unwrap_or_default();
    assert!(
        last.starts_with("error: interrupted; no output was written; the same command goes on from "),
        "{rest}"
    );
    let gone_on = report(&fixture);
    let file = |fixture: &Fixture| fs::read(fixture.out()).unwrap();
    assert!(file(&fixture) == file(&whole), "another file");
    let tokens = |report: &Value| report["tokens_forwarded"].as_u64().unwrap();
    assert!(tokens(&gone_on) < tokens(&expected), "{} {}", tokens(&gone_on), tokens(&expected));

    // A folder of another text is refused.
    let text = fixture.path("other");
    fs::write(&text, format!("Another {}", fs::read_to_string(fixture.text()).unwrap())).unwrap();
    let mut other = run(&fixture);
    other.args(["--text".as_ref(), text.as_os_str()]).args(SMALL);
    refuse(
        &mut assert_cmd::Command::from_std(other),
        &["calibration.safetensors: belongs to another calibration"],
    );
}
