//! WinoGrande: `{sentence with "_", option1, option2, answer}`, or without the answer and with a file of labels.
//!
//! Partial evaluation (Trinh and Le 2018): each option is put into the context, and what follows the gap is scored.

use super::{
    Item, Request,
    source::{Label, Row},
};
use crate::{error::Result, python::strip};

pub(super) fn item(index: usize, row: Row<'_>, label: Option<Label<'_>>) -> Result<Item> {
    let sentence = row.text("sentence")?;
    let options = [row.text("option1")?, row.text("option2")?];
    if row.get("option3").is_some() {
        return Err(row.choices(3, "2"));
    }
    let (before, after) =
        sentence.split_once('_').ok_or_else(|| row.invalid("sentence", "has no gap `_`".into()))?;
    let gold = match (row.label("answer")?, label) {
        (None, Some(label)) => label.gold(1, options.len())?,
        (label, _) => row.gold(label, "answer", 1, options.len())?,
    };
    let continuation = format!(" {}", strip(after));
    let contexts = options.map(|option| format!("{before}{option}"));
    Ok(Item {
        index,
        lengths: contexts.iter().map(|context| context.chars().count()).collect(),
        requests: contexts.map(|context| Request { context, continuation: continuation.clone() }).into(),
        gold,
    })
}
