//! HellaSwag: `{activity_label, ctx_a, ctx_b, endings, label}`; `label` is a number or a text of one.
//!
//! A file with `query` (`activity_label: ctx`) in place of the three parts is read, too; its `ctx_b` cannot be told
//! apart any more and stays as it is written.

use serde_json::Value;

use super::{
    Item,
    source::{Row, kind},
};
use crate::{
    error::Result,
    python::{capitalize, strip},
};

const ENDINGS: usize = 4;

pub(super) fn item(index: usize, row: Row<'_>) -> Result<Item> {
    let query = if row.get("query").is_some() && row.get("ctx_a").is_none() {
        row.text("query")?.to_owned()
    } else {
        let (activity, ctx_a, ctx_b) = (row.text("activity_label")?, row.text("ctx_a")?, row.text("ctx_b")?);
        format!("{activity}: {ctx_a} {}", capitalize(ctx_b))
    };
    let endings = match row.get("endings") {
        Some(Value::Array(endings)) => endings,
        Some(other) => return Err(row.invalid("endings", format!("is {}, expected a list", kind(other)))),
        None => return Err(row.missing("endings")),
    };
    if endings.len() != ENDINGS {
        return Err(row.choices(endings.len(), "4"));
    }
    let text = |ending: &Value| ending.as_str().map(preprocess);
    let choices: Option<Vec<String>> = endings.iter().map(text).collect();
    let choices = choices.ok_or_else(|| row.invalid("endings", "holds something that is no text".into()))?;
    let gold = row.gold(row.label("label")?, "label", 0, ENDINGS)?;
    Ok(Item::of_choices(index, &preprocess(&query), &choices, gold))
}

/// `preprocess` of the harness: brackets are left over from WikiHow.
fn preprocess(text: &str) -> String {
    let text = strip(text).replace(" [title]", ". ");
    // Once, from left to right: three spaces become two.
    without_brackets(&text).replace("  ", " ")
}

/// Without what `\[.*?\]` matches: from a bracket to the nearest closing one in the same line.
fn without_brackets(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(open) = rest.find('[') {
        let (before, after) = rest.split_at(open);
        out += before;
        match after.find([']', '\n']) {
            Some(close) if after[close..].starts_with(']') => rest = &after[close + 1..],
            _ => {
                out.push('[');
                rest = &after[1..];
            }
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected values are what the harness' function prints.
    #[test]
    fn preprocess_is_the_harness_own() {
        for (text, expected) in [
            (" a b. ", "a b."),
            ("How to [title] Do it. [step] First", "How to. Do it. First"),
            ("a [x [y] z] b", "a z] b"),
            ("a [x\ny] [z] b", "a [x\ny] b"),
            ("a   b    c", "a  b  c"),
            ("[substeps] x [", " x ["),
        ] {
            assert_eq!(preprocess(text), expected, "{text:?}");
        }
    }
}
