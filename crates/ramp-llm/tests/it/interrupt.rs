//! Ctrl-C.
#![cfg(unix)]

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, Command, Stdio},
};

use crate::fixture::{Fixture, SMALL};

/// Starts a search that would take hours, and waits until the log says that `step` is running.
fn start(fixture: &Fixture, step: &str) -> (Child, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_ramp"))
        .arg("quantize")
        .args([fixture.model().as_os_str(), "-o".as_ref(), fixture.out().as_os_str()])
        .args(["--text".as_ref(), fixture.text().as_os_str()])
        .args(SMALL)
        .args(["--episodes", "1000000", "--bpw", "4.25"])
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
        let (mut child, rest) = start(&fixture, step);
        assert_eq!(child.wait().unwrap().code(), Some(130), "{rest}");
        assert_eq!(rest.lines().last(), Some("error: interrupted; no output was written"), "{rest}");
        assert!(!rest.contains("panicked"), "{rest}");
        assert_eq!(fixture.listing(), ["model", "text"]);
    }
}
