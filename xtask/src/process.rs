//! Running other programs, with their command line in every error.

use std::{
    io::IsTerminal,
    process::{Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};

/// Runs a program with the terminal's output.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    println!("$ {}", describe(command));
    let status = command.status().with_context(|| format!("cannot run `{}`", describe(command)))?;
    check(command, status)
}

/// Runs a program and returns what it printed. Its errors and progress go to the terminal.
pub(crate) fn stdout(command: &mut Command) -> Result<String> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run `{}`", describe(command)))?;
    check(command, output.status)?;
    String::from_utf8(output.stdout).with_context(|| format!("`{}` did not print text", describe(command)))
}

fn check(command: &Command, status: ExitStatus) -> Result<()> {
    if !status.success() {
        // `status` says "exit status: 1" or, for a crash, "signal: 11 (SIGSEGV)".
        bail!("`{}` failed, {status}", describe(command));
    }
    Ok(())
}

/// The command line, with the environment set for it, as one could type it.
fn describe(command: &Command) -> String {
    let env = command.get_envs().filter_map(|(key, value)| {
        Some(format!("{}={}", key.to_string_lossy(), quote(&value?.to_string_lossy())))
    });
    let program = std::path::Path::new(command.get_program());
    let name = program.file_name().unwrap_or(command.get_program()).to_string_lossy();
    let args = command.get_args().map(|arg| quote(&arg.to_string_lossy()));
    env.chain([name.into_owned()]).chain(args).collect::<Vec<_>>().join(" ")
}

fn quote(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_=./:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) { word.to_owned() } else { format!("'{word}'") }
}

/// A heading, bold on a terminal.
pub(crate) fn heading(text: &str) {
    if std::io::stdout().is_terminal() { println!("\x1b[1m{text}\x1b[0m") } else { println!("{text}") }
}

/// `75.4 s` or `12 min 5 s`.
pub(crate) fn seconds(time: Duration) -> String {
    let total = time.as_secs();
    if total < 120 {
        return format!("{:.1} s", time.as_secs_f64());
    }
    format!("{} min {} s", total / 60, total % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_lines_can_be_typed() {
        let mut command = Command::new("/usr/bin/cargo");
        command.args(["test", "two words"]).env("RUSTDOCFLAGS", "-D warnings").env("X", "1");
        assert_eq!(describe(&command), "RUSTDOCFLAGS='-D warnings' X=1 cargo test 'two words'");
    }

    #[test]
    fn a_failure_names_the_command() {
        let error = run(Command::new("false").arg("now")).unwrap_err().to_string();
        assert!(error.starts_with("`false now` failed, exit status"), "{error}");
        let error = stdout(&mut Command::new("no-such-program-here")).unwrap_err().to_string();
        assert!(error.contains("no-such-program-here"), "{error}");
    }

    #[test]
    fn times_are_readable() {
        assert_eq!(seconds(Duration::from_millis(75_440)), "75.4 s");
        assert_eq!(seconds(Duration::from_secs(725)), "12 min 5 s");
    }
}
