//! Types of single tensors, in the form of `llama-quantize --tensor-type-file`.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use regex_lite::Regex;

use crate::{Error, GgmlType, MappedFile, Result, write_atomically};

/// Far above any file of one rule per tensor.
const MAX_FILE_BYTES: usize = 16 << 20;

/// Rules `pattern=type`, the first of which that matches a tensor's name gives its type.
///
/// This is what llama-quantize reads from a `--tensor-type-file` (`parse_tensor_type_file` in its `quantize.cpp`):
/// rules stand between spaces or line ends; a pattern is a regular expression that is searched in the name, so
/// that `attn_v` matches `blk.0.attn_v.weight` and `output.weight` also matches `blk.0.attn_output.weight`; the
/// first `=` ends it; types are those of ggml in any case. Patterns are turned to lower case, even in `\D`, and
/// there are no comments.
///
/// Patterns are those that C++ (ECMAScript) and Rust share: no look-around and no back references.
///
/// ```
/// use ramp_gguf::{GgmlType, Recipe};
/// let recipe: Recipe = "ffn_down=q6_K\n^blk\\.[0-3]\\.=Q5_K".parse()?;
/// assert_eq!(recipe.type_of("blk.2.ffn_down.weight"), Some(GgmlType::Q6_K));
/// assert_eq!(recipe.type_of("blk.2.attn_q.weight"), Some(GgmlType::Q5_K));
/// assert_eq!(recipe.type_of("blk.20.attn_q.weight"), None);
///
/// let exact = Recipe::exact([("output.weight", GgmlType::Q6_K)]);
/// assert_eq!(exact.to_string(), "^output\\.weight$=q6_K\n");
/// assert_eq!(exact.type_of("blk.0.attn_output.weight"), None);
/// # Ok::<(), ramp_gguf::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Recipe {
    rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
struct Rule {
    pattern: String,
    regex: Regex,
    ty: GgmlType,
}

impl Recipe {
    /// No rules.
    pub fn new() -> Self {
        Self::default()
    }

    /// One rule per tensor, whose pattern matches its whole name and nothing else.
    ///
    /// Characters that a rule cannot have (upper case, which llama-quantize would turn to lower case, blanks and
    /// `=`) are matched by any character.
    pub fn exact(types: impl IntoIterator<Item = (impl AsRef<str>, GgmlType)>) -> Self {
        let rules = types.into_iter().map(|(name, ty)| {
            let pattern = exact_pattern(name.as_ref());
            let regex = Regex::new(&pattern).expect("escaped names are regular expressions");
            Rule { pattern, regex, ty }
        });
        Self { rules: rules.collect() }
    }

    /// Adds a rule behind the others.
    ///
    /// # Errors
    /// [`Error::Recipe`] for a pattern that is empty, holds blanks or `=`, or is no regular expression.
    pub fn push(&mut self, pattern: &str, ty: GgmlType) -> Result<()> {
        let at = self.rules.len();
        let error = |reason: String| Error::Recipe { at, rule: shortened(pattern), reason };
        let pattern = pattern.to_ascii_lowercase();
        if pattern.is_empty() {
            return Err(error("the pattern is empty".into()));
        }
        if pattern.contains(|c: char| c == '=' || is_space(c)) {
            return Err(error("a pattern cannot hold blanks or `=`".into()));
        }
        let regex = Regex::new(&pattern).map_err(|source| error(source.to_string()))?;
        self.rules.push(Rule { pattern, regex, ty });
        Ok(())
    }

    /// The type of a tensor: that of the first rule whose pattern is found in its name.
    pub fn type_of(&self, name: &str) -> Option<GgmlType> {
        self.rules.iter().find(|rule| rule.regex.is_match(name)).map(|rule| rule.ty)
    }

    /// Patterns and types, in order.
    pub fn rules(&self) -> impl ExactSizeIterator<Item = (&str, GgmlType)> {
        self.rules.iter().map(|rule| (rule.pattern.as_str(), rule.ty))
    }

    /// The number of rules.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there are no rules.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Reads a file.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::NotARegularFile`]; [`Error::CountTooLarge`], [`Error::NotUtf8`] and
    /// [`Error::Recipe`], wrapped in [`Error::InFile`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let map = MappedFile::open(path)?;
        let parse = || {
            if map.len() > MAX_FILE_BYTES {
                let (count, limit) = (map.len() as u64, MAX_FILE_BYTES as u64);
                return Err(Error::CountTooLarge { what: "bytes of rules", count, limit });
            }
            let text = std::str::from_utf8(&map).map_err(|_| Error::NotUtf8 { what: "the file".into() })?;
            text.parse()
        };
        parse().map_err(|error: Error| error.in_file(path))
    }

    /// Writes a file, one rule per line.
    ///
    /// # Errors
    /// As [`write_atomically`].
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        write_atomically(path, |file| std::io::Write::write_fmt(file, format_args!("{self}")))
    }
}

/// Equal when the rules are, in their order.
impl PartialEq for Recipe {
    fn eq(&self, other: &Self) -> bool {
        self.rules().eq(other.rules())
    }
}

impl FromStr for Recipe {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut recipe = Self::new();
        for rule in text.split(is_space).filter(|rule| !rule.is_empty()) {
            let error = |reason: &str| Error::Recipe {
                at: recipe.len(),
                rule: shortened(rule),
                reason: reason.to_owned(),
            };
            let (pattern, ty) = rule.split_once('=').ok_or_else(|| error("there is no `=`"))?;
            if ty.is_empty() {
                return Err(error("the type is missing"));
            }
            let ty = ty.parse().map_err(|source: Error| error(&source.to_string()))?;
            recipe.push(pattern, ty)?;
        }
        Ok(recipe)
    }
}

/// The file's text.
impl fmt::Display for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rules.iter().try_for_each(|rule| writeln!(f, "{}={}", rule.pattern, ggml_name(rule.ty)))
    }
}

/// `isspace` of C, between which `operator>>` reads.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c')
}

fn exact_pattern(name: &str) -> String {
    let mut pattern = String::from("^");
    for c in name.chars() {
        match c {
            '=' | 'A'..='Z' => pattern.push('.'),
            c if is_space(c) => pattern.push('.'),
            '\\' | '^' | '$' | '.' | '|' | '?' | '*' | '+' | '(' | ')' | '[' | ']' | '{' | '}' => {
                pattern.extend(['\\', c]);
            }
            c => pattern.push(c),
        }
    }
    pattern.push('$');
    pattern
}

/// `ggml_type_name`: lower case, but for the K of K-quants.
fn ggml_name(ty: GgmlType) -> String {
    let lower = ty.name().to_ascii_lowercase();
    lower.strip_suffix("_k").map_or(lower.clone(), |stem| format!("{stem}_K"))
}

/// A rule for a message, which must not fill the terminal.
fn shortened(rule: &str) -> String {
    rule.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use GgmlType::{F16, Q3_K, Q4_K, Q5_K, Q6_K, Q8_0};

    fn message(text: &str) -> String {
        text.parse::<Recipe>().unwrap_err().to_string()
    }

    /// The examples of llama.cpp's tools/quantize/README.md.
    #[test]
    fn patterns_of_the_manual() {
        let recipe: Recipe = r"\.(\d*[13579])\.attn_k=q5_k \.(\d*[02468])\.attn_q=q3_k".parse().unwrap();
        assert_eq!(recipe.type_of("blk.13.attn_k.weight"), Some(Q5_K));
        assert_eq!(recipe.type_of("blk.12.attn_k.weight"), None);
        assert_eq!(recipe.type_of("blk.12.attn_q.weight"), Some(Q3_K));
        let recipe: Recipe = "attn_v=q5_k\nffn_down=q5_k".parse().unwrap();
        assert_eq!(recipe.type_of("blk.1.ffn_down.weight"), Some(Q5_K));
    }

    #[test]
    fn the_first_match_wins_and_patterns_are_lower_case() {
        let recipe: Recipe = "\n BLK\\.1\\.=Q8_0\t\tblk=q4_K\r\n".parse().unwrap();
        assert_eq!(recipe.type_of("blk.1.ffn_up.weight"), Some(Q8_0));
        assert_eq!(recipe.type_of("blk.2.ffn_up.weight"), Some(Q4_K));
        assert_eq!(recipe.rules().collect::<Vec<_>>(), [(r"blk\.1\.", Q8_0), ("blk", Q4_K)]);
        // As upstream: `\D` has become `\d`.
        let recipe: Recipe = r"blk\.\D=f16".parse().unwrap();
        assert_eq!(recipe.type_of("blk.7.ffn_up.weight"), Some(F16));
        assert!("".parse::<Recipe>().unwrap().is_empty());
    }

    #[test]
    fn exact_rules_match_one_name() {
        let names = ["output.weight", "blk.1.attn_q.weight", "odd(name)+[x]{2}|^$?*\\", "Upper Case=1"];
        let recipe = Recipe::exact(names.into_iter().zip([Q6_K, Q3_K, Q5_K, F16]));
        assert_eq!(recipe.to_string().parse::<Recipe>().unwrap(), recipe);
        for (name, ty) in names.into_iter().zip([Q6_K, Q3_K, Q5_K, F16]) {
            assert_eq!(recipe.type_of(name), Some(ty), "{name}");
        }
        for other in [
            "blk.0.attn_output.weight",
            "blk.11.attn_q.weight",
            "blk.1.attn_q.weights",
            "blk.1xattn_q.weight",
        ] {
            assert_eq!(recipe.type_of(other), None, "{other}");
        }
    }

    #[test]
    fn every_type_has_the_spelling_of_ggml() {
        for &ty in GgmlType::ALL {
            let recipe = Recipe::exact([("w", ty)]);
            assert_eq!(recipe.to_string().parse::<Recipe>().unwrap(), recipe);
        }
        assert_eq!(ggml_name(Q4_K), "q4_K");
        assert_eq!(ggml_name(GgmlType::IQ4_XS), "iq4_xs");
        assert_eq!(ggml_name(GgmlType::BF16), "bf16");
    }

    #[test]
    fn files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("types.txt");
        let recipe = Recipe::exact([("output.weight", Q6_K), ("token_embd.weight", Q4_K)]);
        recipe.save(&path).unwrap();
        assert_eq!(Recipe::open(&path).unwrap(), recipe);
        std::fs::write(&path, b"attn_v=q5_k\nattn_k").unwrap();
        let error = Recipe::open(&path).unwrap_err();
        assert_eq!(error.to_string(), format!("{}: rule 2 `attn_k`: there is no `=`", path.display()));
        std::fs::write(&path, b"\xff=q5_k").unwrap();
        assert!(matches!(Recipe::open(&path).unwrap_err().root(), Error::NotUtf8 { .. }));
        std::fs::write(&path, vec![b' '; MAX_FILE_BYTES + 1]).unwrap();
        assert!(matches!(Recipe::open(&path).unwrap_err().root(), Error::CountTooLarge { .. }));
    }

    #[test]
    fn broken_rules_are_named() {
        assert_eq!(message("attn_v=q5_k attn_k"), "rule 2 `attn_k`: there is no `=`");
        assert_eq!(message("=q5_k"), "rule 1 `=q5_k`: the pattern is empty".replace("`=q5_k`", "``"));
        assert_eq!(message("w="), "rule 1 `w=`: the type is missing");
        assert_eq!(message("w=q9"), "rule 1 `w=q9`: unknown ggml type `q9`");
        // The first `=` ends the pattern.
        assert_eq!(message("a=b=q8_0"), "rule 1 `a=b=q8_0`: unknown ggml type `b=q8_0`");
        assert!(message("(=q8_0").starts_with("rule 1 `(`: "));
        assert!(message("(?=a)=q8_0").starts_with("rule 1 `(?=a)=q8_0`: "), "the look-ahead is split at `=`");
        assert!(message("(?!a)=q8_0").starts_with("rule 1 `(?!a)`: "));
        assert!(Recipe::new().push("a b", Q8_0).is_err());
    }
}
