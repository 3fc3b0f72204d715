//! Python's string functions, where they differ from Rust's: the harness is written in Python.

/// What `str.strip`, `str.rstrip` and `\s` in `re` take for white space.
pub(crate) fn is_space(c: char) -> bool {
    // Python counts the four ASCII separators, Unicode's property White_Space does not.
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// `str.strip()`.
pub(crate) fn strip(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// `str.capitalize()`: the first character in title case, all others in lower case.
pub(crate) fn capitalize(text: &str) -> String {
    let Some(first) = text.chars().next() else { return String::new() };
    // As one text, because a final sigma depends on what is before it.
    let lower = text.to_lowercase();
    title_case(first) + &lower[first.to_lowercase().map(char::len_utf8).sum()..]
}

fn title_case(c: char) -> String {
    match c {
        // The digraphs have a form with only the first letter in upper case.
        '\u{1c4}'..='\u{1c6}' => '\u{1c5}'.into(),
        '\u{1c7}'..='\u{1c9}' => '\u{1c8}'.into(),
        '\u{1ca}'..='\u{1cc}' => '\u{1cb}'.into(),
        '\u{1f1}'..='\u{1f3}' => '\u{1f2}'.into(),
        // Georgian has upper case, but no title case.
        '\u{10d0}'..='\u{10ff}' => c.into(),
        _ => {
            // "ß" becomes "Ss".
            let mut upper = c.to_uppercase();
            let first: String = upper.next().into_iter().collect();
            first + &upper.collect::<String>().to_lowercase()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected values are what Python 3.11 prints.
    #[test]
    fn capitalize_is_pythons() {
        for (text, expected) in [
            ("", ""),
            ("he", "He"),
            ("the LADY", "The lady"),
            ("ßa", "Ssa"),
            ("ǆA", "ǅa"),
            ("éCOLE", "École"),
            ("ΑΣ", "Ας"),
            ("1A", "1a"),
            ("ﬁX", "Fix"),
            ("İA", "İa"),
        ] {
            assert_eq!(capitalize(text), expected, "{text:?}");
        }
    }

    #[test]
    fn strip_is_pythons() {
        assert_eq!(strip("\u{1f} a\u{a0}b\u{3000}\n"), "a\u{a0}b");
    }
}
