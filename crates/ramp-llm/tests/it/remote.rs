//! Devices of other processes.
#![cfg(all(unix, feature = "remote"))]

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use serde_json::Value;

use crate::fixture::{Fixture, ramp, refuse};

/// A process that serves the CPU.
struct Server {
    process: Child,
    address: String,
}

impl Server {
    fn start(token: &Path) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_ramp"))
            .args(["serve", "--listen", "127.0.0.1:0", "--token-file"])
            .arg(token)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("serving cpu at ").expect("the address is printed").to_owned();
        Self { process, address }
    }

    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // One that is gone already is what is wanted.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn token(fixture: &Fixture, text: &str) -> PathBuf {
    let path = fixture.path(&format!("token-{text}"));
    fs::write(&path, text).unwrap();
    path
}

/// A search on some devices, with its report.
fn search(fixture: &Fixture, token: &Path, devices: &str) -> (Command, PathBuf) {
    let json = fixture.path(&format!("{}.json", devices.replace(['/', ':', ','], "-")));
    let mut command = Command::new(env!("CARGO_BIN_EXE_ramp"));
    command.env_remove("RAMP_LOG");
    command.args([
        "search".as_ref(),
        fixture.model().as_os_str(),
        "--text".as_ref(),
        fixture.text().as_os_str(),
    ]);
    command.args(["--allocators", "knapsack,polish", "--budgets", "4.5", "--search-tokens", "512"]);
    command.args(["--ctx", "64", "--calibration-tokens", "256", "--report-tokens", "256"]);
    command.args(["--selection-tokens", "256", "--rounding", "nearest", "--device", devices]);
    command.args(["--token-file".as_ref(), token.as_os_str(), "--json".as_ref(), json.as_os_str()]);
    (command, json)
}

fn finish(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// What was found, what it scored in the search, and the warnings.
fn found(json: &Path) -> (Vec<Value>, Vec<Value>, String) {
    let report: Value = serde_json::from_slice(&fs::read(json).unwrap()).unwrap();
    let of = |key: &str| -> Vec<Value> {
        let runs = report["runs"].as_array().unwrap();
        runs.iter().map(|run| run["found"][key].clone()).collect()
    };
    assert!(of("allocation").len() == 2 && of("allocation").iter().all(|found| !found.is_null()));
    (of("allocation"), of("search"), report["warnings"].to_string())
}

#[test]
fn a_killed_server_changes_nothing() {
    let fixture = Fixture::new();
    let token = token(&fixture, "secret");
    let (first, mut second) = (Server::start(&token), Server::start(&token));
    let (mut alone, json) = search(&fixture, &token, &first.address);
    finish(&mut alone);
    let one = found(&json);

    let devices = format!("{},{}", first.address, second.address);
    let (mut both, json) = search(&fixture, &token, &devices);
    let mut child =
        both.env("RAMP_LOG", "ramp=info").stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    let mut log = String::new();
    while !log.lines().last().is_some_and(|line| line.contains("sensitivity")) {
        assert_ne!(lines.read_line(&mut log).unwrap(), 0, "it ended before: {log}");
    }
    second.kill();
    lines.read_to_string(&mut log).unwrap();
    assert!(child.wait().unwrap().success(), "{log}");
    assert!(!log.contains("please report"), "{log}");
    let several = found(&json);
    assert!(several.2.contains(&format!("device {} was lost", second.address)), "{}", several.2);
    assert_eq!((several.0, several.1), (one.0.clone(), one.1));

    // This process computes in another order, and finds the same.
    let (mut here, json) = search(&fixture, &token, "cpu");
    finish(&mut here);
    assert_eq!(found(&json).0[0], one.0[0]);
}

#[test]
fn a_server_needs_its_token() {
    let fixture = Fixture::new();
    let server = Server::start(&token(&fixture, "secret"));
    let other = token(&fixture, "other");
    let (mut command, _) = search(&fixture, &other, &server.address);
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.lines().count() == 1 && said.contains("rejected the credential"), "{said}");
    let mut command = ramp();
    let command = command.args(["serve", "--device", "ws://127.0.0.1:1", "--token-file"]).arg(&other);
    refuse(command, &["only a device of this machine is served"]);
}
