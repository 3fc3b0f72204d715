//! WikiText as lm-evaluation-harness' task `wikitext` reads it: whole pages, detokenized.

use crate::python::{is_space, strip};

/// The pages of a raw WikiText file: each begins at a line `= Title =`. What stands before the first is one, too,
/// unless it is blank.
#[must_use]
pub fn pages(raw: &str) -> Vec<String> {
    let (mut pages, mut page): (Vec<String>, Vec<&str>) = (Vec::new(), Vec::new());
    for line in raw.split('\n') {
        if is_title(line) {
            let done = page.join("\n");
            if !strip(&done).is_empty() {
                pages.push(done);
            }
            page.clear();
        }
        page.push(line);
    }
    pages.push(page.join("\n"));
    pages
}

/// One `=` on either side; headings inside of a page have more.
fn is_title(line: &str) -> bool {
    let line = line.replace("= = =", "===").replace("= =", "==");
    let line = strip(&line);
    line.starts_with("= ") && line.ends_with(" =")
}

/// Undoes the spaces that WikiText puts around punctuation (`wikitext_detokenizer`), with the original's order and
/// oddities.
#[must_use]
pub fn detokenize(page: &str) -> String {
    let mut text = page.replace("s '", "s'");
    text = digits_between_slashes(&text);
    for (from, to) in [
        (" @-@ ", "-"),
        (" @,@ ", ","),
        (" @.@ ", "."),
        (" : ", ": "),
        (" ; ", "; "),
        (" . ", ". "),
        (" ! ", "! "),
        (" ? ", "? "),
        (" , ", ", "),
    ] {
        text = text.replace(from, to);
    }
    for (open, close) in [('(', ')'), ('[', ']'), ('{', '}'), ('"', '"'), ('\'', '\'')] {
        text = tighten(&text, open, close);
    }
    for (from, to) in [
        ("= = = =", "===="),
        ("= = =", "==="),
        ("= =", "=="),
        (" \u{b0} ", "\u{b0}"),
        (" \n", "\n"),
        ("\n ", "\n"),
        (" N ", " 1 "),
        (" 's", "'s"),
    ] {
        text = text.replace(from, to);
    }
    text
}

/// `/' 7/` becomes `/'[0-9]/`: the original has a pattern where it wants a digit.
fn digits_between_slashes(text: &str) -> String {
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find("/' ") {
        out += &rest[..at];
        let tail = &rest[at + 3..];
        if tail.starts_with(|c: char| c.is_ascii_digit()) && tail[1..].starts_with('/') {
            out += "/'[0-9]/";
            rest = &tail[2..];
        } else {
            out.push('/');
            rest = &rest[at + 1..];
        }
    }
    out + rest
}

/// No white space inside of a pair of marks.
fn tighten(text: &str, open: char, close: char) -> String {
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some((before, after)) = rest.split_once(open) {
        let Some((inside, behind)) = after.split_once(close) else { break };
        out += before;
        out.push(open);
        out += inside.trim_matches(is_space);
        out.push(close);
        rest = behind;
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_begin_at_titles() {
        let raw = " \n = A = \n \n text \n = = Part = = \n = B = \n more \n";
        assert_eq!(pages(raw), [" = A = \n \n text \n = = Part = = ", " = B = \n more \n"]);
        assert_eq!(pages("no title"), ["no title"]);
    }

    /// Expected values are what the harness' function prints.
    #[test]
    fn detokenize_is_the_harness_own() {
        for (page, expected) in DETOKENIZED {
            assert_eq!(detokenize(page), expected, "{page:?}");
        }
    }

    const DETOKENIZED: [(&str, &str); 8] = [
        (
            " the dogs ' bones , 1 @,@ 000 @.@ 5 well @-@ known : yes ; no . \n",
            " the dogs' bones, 1,000.5 well-known: yes; no.\n",
        ),
        ("a ( b ) c ( ( d ) e ) f (", "a (b) c (( d) e ) f ("),
        ("say \" hello there \" and ' so ' it 's", "say \"hello there\" and'so' it's"),
        (
            " = = Part = = \n = = = Sub = = = \n = = = = X = = = = \n",
            " == Part ==\n=== Sub ===\n==== X ====\n",
        ),
        ("[ a ] { b } [  ] 20 \u{b0} C", "[a] {b} [] 20\u{b0}C"),
        ("x /' 7/ y /' 77/ z", "x /'[0-9]/ y /' 77/ z"),
        ("N is N and N N", "N is 1 and 1 N"),
        ("\" one \" two \" three", "\"one\" two \" three"),
    ];
}
