//! A measuring program on the other end of two pipes, so that two of them can be measured in turns.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;

/// A program that measures a round for each line on its standard input.
pub(super) struct Side {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Side {
    /// Starts it and waits until it is ready; also gives what it says then.
    pub(super) fn start(command: &mut Command) -> Result<(Self, String)> {
        let name = command.get_program().to_owned();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot run {}", name.display()))?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("{} has no pipes", name.display());
        };
        let mut side = Self { child, stdin, stdout: BufReader::new(stdout) };
        let line = side.line()?;
        match line.strip_prefix("ready") {
            Some(says) => Ok((side, says.trim().to_owned())),
            None => bail!("{} printed {line:?}, expected `ready`", name.display()),
        }
    }

    pub(super) fn round<R: DeserializeOwned>(&mut self) -> Result<R> {
        writeln!(self.stdin)?;
        self.stdin.flush()?;
        let line = self.line()?;
        serde_json::from_str(&line).with_context(|| format!("a program printed {line:?}"))
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        // It would wait for a line forever.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
