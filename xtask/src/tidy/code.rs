//! Rust source without its comments and literals.

/// Replaces comments, strings and characters with spaces. Lines and columns stay, so that what is left can be
/// searched for names. The text of doc comments goes too.
pub(crate) fn code_only(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while !rest.is_empty() {
        let skipped = comment(rest).or_else(|| literal(rest, &out));
        let (len, keep) = match skipped {
            Some(len) => (len, false),
            None => (rest.chars().next().map_or(1, char::len_utf8), true),
        };
        let (head, tail) = rest.split_at(len);
        if keep {
            out.push_str(head);
        } else {
            out.extend(head.chars().map(|c| if c == '\n' { c } else { ' ' }));
        }
        rest = tail;
    }
    out
}

/// Length of the comment that `rest` starts with. Block comments nest.
fn comment(rest: &str) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if !rest.starts_with("/*") {
        return None;
    }
    let (mut depth, mut at) = (0usize, 0);
    while at < rest.len() {
        let here = &rest.as_bytes()[at..];
        if here.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if here.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return Some(at);
            }
        } else {
            at += 1;
        }
    }
    Some(rest.len())
}

/// Length of the string or character literal that `rest` starts with; `before` is the code in front of it.
fn literal(rest: &str, before: &str) -> Option<usize> {
    // The r of `for"` or of an identifier does not start a raw string.
    let in_name = before.ends_with(is_name);
    let prefix = ["br", "cr", "b", "c", "r"].into_iter().find(|p| !in_name && rest.starts_with(p));
    let prefix = prefix.filter(|p| rest[p.len()..].starts_with(['"', '#', '\''])).unwrap_or("");
    let body = &rest[prefix.len()..];
    let len = if prefix.ends_with('r') { raw_string(body) } else { quoted(body) };
    len.map(|len| prefix.len() + len)
}

fn raw_string(body: &str) -> Option<usize> {
    let hashes = body.len() - body.trim_start_matches('#').len();
    let content = body[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", &body[..hashes]);
    Some(content.find(&end).map_or(body.len(), |at| hashes + 1 + at + end.len()))
}

fn quoted(body: &str) -> Option<usize> {
    let quote = body.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    if quote == '\'' && is_lifetime(body) {
        return None;
    }
    let mut escaped = false;
    for (at, c) in body.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return Some(at + 1),
            _ => {}
        }
    }
    Some(body.len())
}

/// `'a` without a closing quote behind one character.
fn is_lifetime(body: &str) -> bool {
    let mut chars = body.chars().skip(1);
    let (first, second) = (chars.next(), chars.next());
    first.is_some_and(is_name) && second != Some('\'')
}

/// Whether a character can be in the middle of an identifier.
pub(crate) fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Byte offsets at which `word` stands in `code` as a whole word.
pub(crate) fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    code.match_indices(word)
        .map(|(at, _)| at)
        .filter(move |&at| !code[..at].ends_with(is_name) && !code[at + word.len()..].starts_with(is_name))
}

/// The line, from zero, of a byte offset.
pub(crate) fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(source: &str, expected: &str) {
        let code = code_only(source);
        assert_eq!(code.split_whitespace().collect::<Vec<_>>().join(" "), expected, "{source}");
        assert_eq!(code.matches('\n').count(), source.matches('\n').count(), "{source}");
    }

    #[test]
    fn comments_go_and_lines_stay() {
        check("a // unsafe\nb", "a b");
        check("//! doc\n/// doc\nfn f() {}", "fn f() {}");
        check("a /* x /* nested */ still\n */ b", "a b");
        check("a /* never closed", "a");
    }

    #[test]
    fn strings_go() {
        check(r#"f("unsafe \" still", x)"#, "f( , x)");
        check(r##"f(r#"a "quote" b"#, x)"##, "f( , x)");
        check(r#"f(r"back\", x)"#, "f( , x)");
        check(r#"f(b"bytes", c"text", br"raw")"#, "f( , , )");
        check("f(\"two\nlines\")", "f( )");
    }

    #[test]
    fn characters_go_and_lifetimes_stay() {
        check("fn f<'a>(x: &'a str) -> char { '\"' }", "fn f<'a>(x: &'a str) -> char { }");
        check(r"let q = '\''; unsafe_name", "let q = ; unsafe_name");
        check("let b = b'x'; let l: &'static str", "let b = ; let l: &'static str");
        check("'é' == c", "== c");
    }

    #[test]
    fn a_name_that_ends_in_r_is_no_raw_string() {
        check("for\"text\" r#type", "for r#type");
    }

    #[test]
    fn only_whole_words_count() {
        let code = "unsafe_code unsafe an_unsafe (unsafe{";
        assert_eq!(words(code, "unsafe").collect::<Vec<_>>(), [12, 30]);
        assert_eq!(line_of("a\nb\nc", 4), 2);
    }
}
