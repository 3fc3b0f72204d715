//! Building llama.cpp and the programs that the check runs.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::{process, workspace::Workspace};

/// Turns llama.cpp on.
pub(crate) const FEATURE: &str = "ramp-tests/llama-cpp";

/// The environment that the build script of llama-cpp-sys-2 hands on to CMake.
///
/// No AMX and no repacked weights: with them, llama.cpp crashed on matrices 256 wide (measured October 2026),
/// and the products would not be those of the weights as stored. No AVX-512 either, so that the numbers are
/// the same on most machines; what this CPU lacks is off.
pub(crate) fn build_env() -> Vec<(&'static str, &'static str)> {
    let mut env = vec![
        // Cargo's dev profile would give RelWithDebInfo.
        ("LLAMA_LIB_PROFILE", "Release"),
        ("GGML_CPU_REPACK", "OFF"),
        ("GGML_AMX_TILE", "OFF"),
        ("GGML_AMX_INT8", "OFF"),
        ("GGML_AMX_BF16", "OFF"),
        ("GGML_AVX512", "OFF"),
    ];
    env.extend(cpu_features().into_iter().map(|(name, has)| (name, if has { "ON" } else { "OFF" })));
    env
}

#[cfg(target_arch = "x86_64")]
fn cpu_features() -> Vec<(&'static str, bool)> {
    vec![
        ("GGML_SSE42", is_x86_feature_detected!("sse4.2")),
        ("GGML_AVX", is_x86_feature_detected!("avx")),
        ("GGML_AVX2", is_x86_feature_detected!("avx2")),
        ("GGML_BMI2", is_x86_feature_detected!("bmi2")),
        ("GGML_F16C", is_x86_feature_detected!("f16c")),
        ("GGML_FMA", is_x86_feature_detected!("fma")),
    ]
}

#[cfg(not(target_arch = "x86_64"))]
fn cpu_features() -> Vec<(&'static str, bool)> {
    Vec::new()
}

/// What was built.
#[derive(Debug, Default)]
pub(crate) struct Programs {
    /// The command of the facade.
    pub(crate) ramp: PathBuf,
    /// llama.cpp at the command line.
    pub(crate) llama_check: PathBuf,
    /// Test programs of `ramp-tests`.
    tests: Vec<PathBuf>,
}

impl Programs {
    /// Runs the tests of `ramp-tests` with llama.cpp in them.
    pub(crate) fn run_tests(&self, workspace: &Workspace) -> Result<()> {
        let folder = workspace.root().join("tests");
        self.tests.iter().try_for_each(|test| process::run(Command::new(test).current_dir(&folder)))
    }
}

/// Builds with the same set of packages as the other steps of `cargo xtask ci`: another set would build Burn
/// again, with other features.
pub(crate) fn build(workspace: &Workspace) -> Result<Programs> {
    let cmake = Command::new("cmake").arg("--version").stdout(Stdio::null()).status();
    ensure!(cmake.is_ok_and(|status| status.success()), "cmake is missing; llama.cpp needs it and libclang");
    let mut command = workspace.cargo(&["build", "--workspace", "--lib", "--bins", "--tests", "--examples"]);
    command.args(["--features", FEATURE, "--message-format", "json-render-diagnostics"]).envs(build_env());
    let programs = programs(&process::stdout(&mut command)?)?;
    let built = [(&programs.ramp, "ramp"), (&programs.llama_check, "llama-check")];
    for (path, name) in built {
        ensure!(!path.as_os_str().is_empty(), "cargo built no program `{name}`");
    }
    Ok(programs)
}

/// A line of cargo's JSON output; only `compiler-artifact` lines with an executable matter.
#[derive(Deserialize)]
struct Message {
    executable: Option<PathBuf>,
    target: Option<Target>,
    profile: Option<Profile>,
    #[serde(default)]
    manifest_path: PathBuf,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

fn programs(messages: &str) -> Result<Programs> {
    let mut programs = Programs::default();
    for line in messages.lines().filter(|line| line.starts_with('{')) {
        let message: Message =
            serde_json::from_str(line).with_context(|| format!("cargo printed {line:?}"))?;
        let (Some(path), Some(target)) = (message.executable, message.target) else { continue };
        let is_test = message.profile.is_some_and(|profile| profile.test);
        let of_ramp_tests = message.manifest_path.ends_with("tests/Cargo.toml");
        let is_bin = target.kind.iter().any(|kind| kind == "bin");
        match (is_test, is_bin, target.name.as_str()) {
            (false, true, "ramp") => programs.ramp = path,
            (false, true, "llama-check") => programs.llama_check = path,
            (true, false, _) if of_ramp_tests => programs.tests.push(path),
            _ => {}
        }
    }
    Ok(programs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_in_what_cargo_prints() {
        let messages = r#"
{"reason":"compiler-artifact","manifest_path":"/r/tests/Cargo.toml","target":{"kind":["lib"],"name":"ramp_tests"},"profile":{"test":false},"executable":null}
{"reason":"compiler-artifact","manifest_path":"/r/tests/Cargo.toml","target":{"kind":["lib"],"name":"ramp_tests"},"profile":{"test":true},"executable":"/t/deps/ramp_tests-1"}
{"reason":"compiler-artifact","manifest_path":"/r/tests/Cargo.toml","target":{"kind":["bin"],"name":"llama-check"},"profile":{"test":false},"executable":"/t/llama-check"}
{"reason":"compiler-artifact","manifest_path":"/r/crates/ramp-llm/Cargo.toml","target":{"kind":["bin"],"name":"ramp"},"profile":{"test":true},"executable":"/t/deps/ramp-2"}
{"reason":"compiler-artifact","manifest_path":"/r/crates/ramp-llm/Cargo.toml","target":{"kind":["bin"],"name":"ramp"},"profile":{"test":false},"executable":"/t/ramp"}
{"reason":"build-finished","success":true}
"#;
        let programs = programs(messages).unwrap();
        assert_eq!(programs.ramp, PathBuf::from("/t/ramp"));
        assert_eq!(programs.llama_check, PathBuf::from("/t/llama-check"));
        assert_eq!(programs.tests, [PathBuf::from("/t/deps/ramp_tests-1")]);
    }

    #[test]
    fn llama_cpp_is_built_plain() {
        let env = build_env();
        for name in ["GGML_CPU_REPACK", "GGML_AMX_TILE", "GGML_AMX_INT8", "GGML_AMX_BF16", "GGML_AVX512"] {
            assert!(env.contains(&(name, "OFF")), "{name}");
        }
        assert!(env.contains(&("LLAMA_LIB_PROFILE", "Release")));
    }
}
