//! PIQA: `{goal, sol1, sol2}` with labels in a file of their own, or `{goal, sol1, sol2, label}`.

use super::{
    Item,
    source::{Label, Row},
};
use crate::error::Result;

pub(super) fn item(index: usize, row: Row<'_>, label: Option<Label<'_>>) -> Result<Item> {
    let goal = row.text("goal")?;
    let choices = [row.text("sol1")?.to_owned(), row.text("sol2")?.to_owned()];
    if row.get("sol3").is_some() {
        return Err(row.choices(3, "2"));
    }
    let gold = match (row.label("label")?, label) {
        (None, Some(label)) => label.gold(0, choices.len())?,
        (label, _) => row.gold(label, "label", 0, choices.len())?,
    };
    Ok(Item::of_choices(index, &format!("Question: {goal}\nAnswer:"), &choices, gold))
}
