//! The token that a server of devices and its clients share.

use std::{fs, path::Path};

use super::failure::{Failure, Result};

const VARIABLE: &str = "RAMP_TOKEN";
/// Bytes of a token file that is surely none.
const MAX_BYTES: u64 = 4096;

/// What a client presents. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token(String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

impl Token {
    /// That of a file, without white space around it, or else of the variable RAMP_TOKEN.
    ///
    /// # Errors
    /// When there is neither, or it is empty.
    pub(crate) fn required(file: Option<&Path>) -> Result<Self> {
        let (text, place) = match file {
            Some(path) => {
                let size = fs::metadata(path).map_err(|why| Failure::file(path, why))?.len();
                if size > MAX_BYTES {
                    return Err(Failure::file(
                        path,
                        format!("has {size} bytes, a token has at most {MAX_BYTES}"),
                    ));
                }
                let text = fs::read_to_string(path).map_err(|why| Failure::file(path, why))?;
                (text, path.display().to_string())
            }
            None => match std::env::var(VARIABLE) {
                Ok(text) => (text, VARIABLE.to_owned()),
                Err(_) => {
                    let why =
                        format!("a device of another machine needs a token: --token-file or {VARIABLE}");
                    return Err(Failure::User(why));
                }
            },
        };
        match text.trim() {
            "" => Err(Failure::User(format!("{place}: the token is empty"))),
            text => Ok(Self(text.to_owned())),
        }
    }

    /// The secret itself.
    pub(crate) fn text(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_the_text_of_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        fs::write(&path, "  secret words\n").unwrap();
        let token = Token::required(Some(&path)).unwrap();
        assert_eq!(token.text(), "secret words");
        assert_eq!(format!("{token:?}"), "Token");
        for (text, why) in [(" \n".to_owned(), "is empty"), ("x".repeat(5000), "5000 bytes")] {
            fs::write(&path, text).unwrap();
            let error = Token::required(Some(&path)).unwrap_err();
            assert!(matches!(&error, Failure::User(text) if text.contains(why)), "{error:?}");
        }
        assert!(matches!(Token::required(Some(&dir.path().join("none"))), Err(Failure::User(_))));
    }
}
