//! How a command fails: one line on standard error and an exit status.

use std::{
    io::{self, Write},
    path::Path,
    process::ExitCode,
};

/// Result of a command.
pub(crate) type Result<T = (), E = Failure> = std::result::Result<T, E>;

/// Why a command ended early.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Arguments or files cannot be used: status 2.
    User(String),
    /// The device failed: status 1.
    Device(String),
    /// RAMP has a bug, which the panic hook has reported: status 1.
    Bug,
    /// Ctrl-C: status 130, as shells report it.
    Interrupted(String),
    /// The reader of standard output has gone, as `head` does: nobody is left to tell.
    ClosedOutput,
}

impl Failure {
    /// Something is wrong with a file.
    pub(crate) fn file(path: &Path, why: impl std::fmt::Display) -> Self {
        Self::User(format!("{}: {why}", path.display()))
    }

    /// Prints the line, if there is one, and gives the exit status.
    pub(crate) fn report(self) -> ExitCode {
        let (message, status) = match self {
            Self::User(message) => (message, 2),
            Self::Device(message) => (message, 1),
            Self::Bug => return ExitCode::from(1),
            Self::Interrupted(message) => (message, 130),
            Self::ClosedOutput => return ExitCode::SUCCESS,
        };
        // Without standard error there is still the status.
        let _ = writeln!(io::stderr(), "error: {}", one_line(&message));
        ExitCode::from(status)
    }
}

impl From<ramp::Error> for Failure {
    fn from(error: ramp::Error) -> Self {
        let message = error.to_string();
        match error {
            error if error.is_interrupted() => Self::Interrupted(message),
            error if is_device(&error) => Self::Device(message),
            _ => Self::User(message),
        }
    }
}

macro_rules! through_facade {
    ($($crate_error:ty),*) => {
        $(impl From<$crate_error> for Failure {
            fn from(error: $crate_error) -> Self {
                ramp::Error::from(error).into()
            }
        })*
    };
}
through_facade!(ramp::model::Error, ramp::eval::Error, ramp::gguf::Error, ramp::search::Error);

/// Whether the machine failed and not the input.
fn is_device(error: &ramp::Error) -> bool {
    use ramp::{embed, eval, model, quant};

    let model = |error: &model::Error| matches!(error, model::Error::Device { .. });
    match error {
        ramp::Error::Search(error) => error.is_device(),
        ramp::Error::Model(error)
        | ramp::Error::Eval(eval::Error::Model(error))
        | ramp::Error::Quant(quant::Error::Model(error))
        | ramp::Error::Embed(embed::Error::Model(error)) => model(error),
        ramp::Error::Eval(eval::Error::Device { .. }) | ramp::Error::Quant(quant::Error::Device { .. }) => {
            true
        }
        _ => false,
    }
}

/// A message is one line, whatever a library or a file name put into it, and moves no cursor.
fn one_line(message: &str) -> String {
    let words: Vec<&str> = message.split(char::is_control).filter(|part| !part.is_empty()).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_device_is_not_the_users_fault() {
        let device = || ramp::model::Error::Device { why: "gone".into() };
        for error in [
            ramp::Error::Model(device()),
            ramp::Error::Eval(ramp::eval::Error::Model(device())),
            ramp::Error::Eval(ramp::eval::Error::Device { why: "gone".into() }),
            ramp::Error::Search(ramp::search::Error::Model(device())),
            ramp::Error::Search(ramp::search::Error::Eval(ramp::eval::Error::Device { why: "gone".into() })),
        ] {
            let failure = Failure::from(error);
            assert!(matches!(failure, Failure::Device(_)), "{failure:?}");
        }
        let user = Failure::from(ramp::eval::Error::NoWindows);
        assert_eq!(user, Failure::User("zero windows were asked for".into()));
        let interrupted = Failure::from(ramp::search::Error::Interrupted);
        assert!(matches!(interrupted, Failure::Interrupted(_)));
    }

    #[test]
    fn messages_are_one_line() {
        assert_eq!(one_line("a\nb\r\n\tc \u{1b}[2J"), "a b c  [2J");
    }
}
