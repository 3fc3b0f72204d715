//! Ctrl-C: the first one asks the run to stop at its next report of progress, the second one ends the process.

use std::{
    io::{self, IsTerminal, Write},
    sync::atomic::{AtomicBool, Ordering},
};

use super::progress;

static REQUESTED: AtomicBool = AtomicBool::new(false);

/// Installs the handler. Where the system refuses one, Ctrl-C ends the process at once as usual.
pub(crate) fn install() {
    let _ = ctrlc::set_handler(|| {
        if REQUESTED.swap(true, Ordering::Relaxed) {
            second();
        }
        if io::stderr().is_terminal() {
            progress::suspend(|| {
                let _ = writeln!(io::stderr(), "stopping; press Ctrl-C again to stop at once");
            });
        }
    });
}

/// Whether Ctrl-C was pressed.
pub(crate) fn requested() -> bool {
    REQUESTED.load(Ordering::Relaxed)
}

#[allow(clippy::exit, reason = "the user asks for the end of the process, now")]
fn second() -> ! {
    std::process::exit(130)
}
