//! Ctrl-C.
#![cfg(unix)]

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    process::{Child, Command, Stdio},
};

use crate::fixture::{Fixture, SMALL};

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
