//! Devices of other processes.
#![cfg(all(unix, feature = "remote"))]

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use serde_json::Value;

use crate::fixture::{Fixture, SMALL, ramp, refuse, succeed};

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

/// The server computes with Burn's operations, this process with its own: every number of a forward pass is rounded
/// otherwise. From the same statistics both find the same file.
#[test]
fn another_kind_of_device_finds_the_same_file() {
    let fixture = Fixture::new();
    let token = token(&fixture, "secret");
    let server = Server::start(&token);
    let quantize = |name: &str, device: &str, seed: &str| -> Vec<u8> {
        let out = fixture.path(&format!("{name}.gguf"));
        let state = fixture.path(&format!("{name}.state"));
        let first = fixture.path("here-1.state").join("calibration.safetensors");
        if first.is_file() && !state.is_dir() {
            fs::create_dir(&state).unwrap();
            fs::copy(first, state.join("calibration.safetensors")).unwrap();
        }
        let mut command = ramp();
        command.arg("quantize").arg(fixture.model()).arg("-o").arg(&out);
        command.arg("--text").arg(fixture.text()).arg("--state").arg(&state).args(SMALL);
        command.args(["--bpw", "4.25", "--episodes", "12", "--seed", seed, "--device", device]);
        command.arg("--token-file").arg(&token);
        succeed(&mut command);
        fs::read(&out).unwrap()
    };
    for seed in ["1", "2", "3"] {
        let here = quantize(&format!("here-{seed}"), "cpu", seed);
        let there = quantize(&format!("there-{seed}"), &server.address, seed);
        assert!(here == there, "seed {seed}: another file");
    }
}
