//! What llama.cpp logs, line by line.

use std::{
    ffi::{CStr, c_char, c_void},
    sync::{LockResult, Mutex, MutexGuard, Once, PoisonError},
};

use llama_cpp_sys_2 as sys;
use serde::Serialize;

/// How serious llama.cpp takes a line to be (`ggml_log_level`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    /// `GGML_LOG_LEVEL_NONE` or unknown to this crate.
    None,
    /// `GGML_LOG_LEVEL_DEBUG`.
    Debug,
    /// `GGML_LOG_LEVEL_INFO`.
    Info,
    /// `GGML_LOG_LEVEL_WARN`.
    Warn,
    /// `GGML_LOG_LEVEL_ERROR`.
    Error,
}

/// One line of llama.cpp's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LogLine {
    /// Level of the line's first part.
    pub level: LogLevel,
    /// The line without its end.
    pub text: String,
}

impl LogLine {
    /// Whether it is a warning or an error.
    #[must_use]
    pub fn is_complaint(&self) -> bool {
        self.level >= LogLevel::Warn
    }
}

/// Puts log calls, which may hold a part of a line or several lines, together to lines.
#[derive(Debug)]
struct Assembler {
    lines: Vec<LogLine>,
    /// The last line has not ended yet.
    open: bool,
}

impl Assembler {
    const fn new() -> Self {
        Self { lines: Vec::new(), open: false }
    }

    /// `level` is `None` for a part that continues the line before (`GGML_LOG_LEVEL_CONT`).
    fn push(&mut self, level: Option<LogLevel>, text: &str) {
        self.open &= level.is_none();
        for part in text.split_inclusive('\n') {
            let body = part.trim_end_matches(['\n', '\r']);
            match self.lines.last_mut() {
                Some(last) if self.open => last.text.push_str(body),
                last => {
                    // A continuation behind an ended line keeps that line's level.
                    let level = level.or(last.map(|line| line.level)).unwrap_or(LogLevel::None);
                    self.lines.push(LogLine { level, text: body.to_owned() });
                }
            }
            self.open = !part.ends_with('\n');
        }
    }

    fn take(&mut self) -> Vec<LogLine> {
        self.open = false;
        std::mem::take(&mut self.lines)
    }
}

/// llama.cpp has one log for the process, so there is one of these.
static LOG: Mutex<Assembler> = Mutex::new(Assembler::new());
/// Held while lines are gathered for one call, so that two callers do not get each other's lines.
static CAPTURE: Mutex<()> = Mutex::new(());
static INIT: Once = Once::new();

/// Initializes llama.cpp once and sends its log here.
fn initialize() {
    INIT.call_once(|| {
        // SAFETY: `record` has the signature of `ggml_log_callback`, lives forever and ignores its user data.
        unsafe { sys::llama_log_set(Some(record), std::ptr::null_mut()) };
        // SAFETY: called once, before any other use of the library.
        unsafe { sys::llama_backend_init() };
    });
}

/// Runs `call` and returns what llama.cpp logged meanwhile.
pub(super) fn capture<T>(call: impl FnOnce() -> T) -> (T, Vec<LogLine>) {
    initialize();
    let _turn = ignore_poison(CAPTURE.lock());
    ignore_poison(LOG.lock()).take();
    let value = call();
    let lines = ignore_poison(LOG.lock()).take();
    (value, lines)
}

/// A test that failed while it held the lock left the log usable.
fn ignore_poison<T>(lock: LockResult<MutexGuard<'_, T>>) -> MutexGuard<'_, T> {
    lock.unwrap_or_else(PoisonError::into_inner)
}

/// The complaints among `lines` as one text for an error message.
pub(super) fn complaints(lines: &[LogLine]) -> String {
    let texts: Vec<&str> =
        lines.iter().filter(|line| line.is_complaint()).map(|line| line.text.trim()).collect();
    if texts.is_empty() { "it gave no reason".into() } else { texts.join("; ") }
}

unsafe extern "C" fn record(level: sys::ggml_log_level, text: *const c_char, _user: *mut c_void) {
    if text.is_null() {
        return;
    }
    // SAFETY: not null, and llama.cpp passes a NUL-terminated string that lives during the call.
    let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
    let level = match level {
        sys::GGML_LOG_LEVEL_CONT => None,
        sys::GGML_LOG_LEVEL_DEBUG => Some(LogLevel::Debug),
        sys::GGML_LOG_LEVEL_INFO => Some(LogLevel::Info),
        sys::GGML_LOG_LEVEL_WARN => Some(LogLevel::Warn),
        sys::GGML_LOG_LEVEL_ERROR => Some(LogLevel::Error),
        _ => Some(LogLevel::None),
    };
    ignore_poison(LOG.lock()).push(level, &text);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assemble(calls: &[(Option<LogLevel>, &str)]) -> Vec<(LogLevel, String)> {
        let mut log = Assembler::new();
        calls.iter().for_each(|(level, text)| log.push(*level, text));
        log.take().into_iter().map(|line| (line.level, line.text)).collect()
    }

    #[test]
    fn parts_become_lines() {
        use LogLevel::{Info, Warn};
        let lines = assemble(&[
            (Some(Info), "one "),
            (None, "line\n"),
            (Some(Warn), "two\nlines\n"),
            (Some(Info), "no end"),
            (Some(Warn), "next\n"),
            (None, "after an end\n"),
        ]);
        let expected = [
            (Info, "one line"),
            (Warn, "two"),
            (Warn, "lines"),
            (Info, "no end"),
            (Warn, "next"),
            (Warn, "after an end"),
        ];
        assert_eq!(lines, expected.map(|(level, text)| (level, text.to_owned())));
    }

    #[test]
    fn warnings_and_errors_are_complaints() {
        let line = |level| LogLine { level, text: "x".into() };
        assert!(line(LogLevel::Warn).is_complaint() && line(LogLevel::Error).is_complaint());
        assert!(!line(LogLevel::Info).is_complaint() && !line(LogLevel::None).is_complaint());
        assert_eq!(complaints(&[line(LogLevel::Info)]), "it gave no reason");
        assert_eq!(complaints(&[line(LogLevel::Warn), line(LogLevel::Error)]), "x; x");
    }
}
