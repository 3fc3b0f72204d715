//! Rules about every text file.

use super::{Violation, files::File};

/// Paths of one person's machine. Put together here so that this file does not break its own rule.
const LOCAL_PATHS: &[&str] = &[
    concat!("/ho", "me/"),
    concat!("/ro", "ot/"),
    concat!("/wo", "rk/"),
    concat!("/Us", "ers/"),
    concat!("C:", "\\"),
];

/// Words that must not appear anywhere, in lower case.
const FORBIDDEN_WORDS: &[&str] = &[];

pub(crate) fn check(file: &File) -> Vec<Violation> {
    let mut violations = whitespace(file);
    violations.extend(local_paths(file));
    violations.extend(words(file, FORBIDDEN_WORDS));
    violations
}

/// No line ends in blanks; the file ends with one line end.
fn whitespace(file: &File) -> Vec<Violation> {
    let trailing = file.text.split('\n').enumerate().filter(|(_, line)| line.ends_with([' ', '\t', '\r']));
    let mut violations: Vec<Violation> =
        trailing.map(|(at, _)| Violation::at(&file.path, at, "blanks at the end of the line")).collect();
    if !file.text.ends_with('\n') || file.text.ends_with("\n\n") {
        violations.push(Violation::new(&file.path, "the file must end with one line end"));
    }
    violations
}

fn local_paths(file: &File) -> Vec<Violation> {
    find(file, LOCAL_PATHS, str::to_owned, "is a path of one machine")
}

fn words(file: &File, forbidden: &[&str]) -> Vec<Violation> {
    find(file, forbidden, str::to_lowercase, "must not appear")
}

fn find(file: &File, needles: &[&str], normalize: impl Fn(&str) -> String, why: &str) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (at, line) in file.text.lines().enumerate() {
        let line = normalize(line);
        let found = needles.iter().filter(|needle| line.contains(**needle));
        violations.extend(found.map(|needle| Violation::at(&file.path, at, format!("`{needle}` {why}"))));
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> File {
        File::fixture("a.md", text)
    }

    #[test]
    fn blanks_at_line_ends_are_found() {
        let places = |text: &str| -> Vec<String> {
            whitespace(&file(text)).into_iter().map(|violation| violation.place).collect()
        };
        assert!(places("a\n\nb\n").is_empty());
        assert_eq!(places("a \nb\t\nc\r\n"), ["a.md:1", "a.md:2", "a.md:3"]);
        assert_eq!(places("a"), ["a.md"]);
        assert_eq!(places("a\n\n"), ["a.md"]);
    }

    #[test]
    fn local_paths_are_found() {
        let text = format!("see {}someone/x\nand ~/x, target/x, https://x.org/homes\n", LOCAL_PATHS[0]);
        let found = local_paths(&file(&text));
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].place, "a.md:1");
    }

    #[test]
    fn forbidden_words_are_found_in_any_case() {
        let found = words(&file("fine\nA Secret word\n"), &["secret"]);
        assert_eq!(found, [Violation::at("a.md", 1, "`secret` must not appear")]);
    }
}
