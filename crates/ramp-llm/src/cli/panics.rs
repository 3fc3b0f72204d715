//! A panic is a bug of RAMP: one line that says so, no backtrace, and destructors run so that no temporary file
//! stays behind.

use std::{
    any::Any,
    io::{self, Write},
    panic::{self, AssertUnwindSafe},
    sync::atomic::{AtomicBool, Ordering},
};

use super::failure::{Failure, Result};

static QUIET: AtomicBool = AtomicBool::new(false);

/// Replaces the hook that prints a backtrace.
pub(crate) fn install() {
    panic::set_hook(Box::new(|info| {
        if QUIET.load(Ordering::Relaxed) || ramp::search::panic_is_caught() {
            return;
        }
        let place = info.location().map(|place| format!(" at {place}")).unwrap_or_default();
        let message = message(info.payload());
        let _ = writeln!(io::stderr(), "error: internal error{place}: {message}; please report this");
    }));
}

/// Runs a command; a panic becomes [`Failure::Bug`].
pub(crate) fn catch(command: impl FnOnce() -> Result) -> Result {
    panic::catch_unwind(AssertUnwindSafe(command)).unwrap_or(Err(Failure::Bug))
}

/// Runs something that reports a missing driver by a panic. The panic's first line comes back as the error.
#[cfg_attr(not(feature = "cuda"), allow(dead_code, reason = "only drivers of GPUs panic"))]
pub(crate) fn quietly<T>(probe: impl FnOnce() -> T) -> Result<T, String> {
    QUIET.store(true, Ordering::Relaxed);
    let result = panic::catch_unwind(AssertUnwindSafe(probe));
    QUIET.store(false, Ordering::Relaxed);
    result.map_err(|payload| message(&*payload))
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("no message").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_its_first_line() {
        // The hook is the test harness's own here; only what comes back matters.
        let result: Result<(), String> = quietly(|| panic!("\n  no driver\nbacktrace"));
        assert_eq!(result, Err("no driver".into()));
        assert_eq!(quietly(|| 7), Ok(7));
    }
}
