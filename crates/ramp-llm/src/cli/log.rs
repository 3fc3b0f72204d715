//! Logs of the libraries on standard error, in front of the progress bars.

use std::io::{self, IsTerminal, Write};

use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

use super::{
    failure::{Failure, Result},
    progress,
};

const VARIABLE: &str = "RAMP_LOG";
/// Targets are crate names, and all of RAMP's begin so.
const DEFAULT: &str = "error,ramp=warn";

/// Installs the subscriber.
///
/// # Errors
/// When RAMP_LOG is not a filter.
pub(crate) fn install() -> Result {
    let filter = match std::env::var(VARIABLE) {
        Ok(text) if !text.is_empty() => {
            EnvFilter::try_new(&text).map_err(|why| Failure::User(format!("{VARIABLE}={text}: {why}")))?
        }
        _ => EnvFilter::new(DEFAULT),
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(Stderr)
        .with_ansi(io::stderr().is_terminal())
        .without_time()
        .log_internal_errors(false)
        .init();
    Ok(())
}

/// Writes whole lines while the bars are out of the way.
struct Stderr;

impl<'a> MakeWriter<'a> for Stderr {
    type Writer = Self;

    fn make_writer(&'a self) -> Self::Writer {
        Self
    }
}

impl Write for Stderr {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        progress::suspend(|| io::stderr().write_all(line))?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
