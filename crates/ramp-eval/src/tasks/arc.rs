//! ARC: `{question: {stem, choices: [{text, label}]}, answerKey}`, or Hugging Face's
//! `{question, choices: {text: [], label: []}, answerKey}`.

use serde_json::Value;

use super::{Item, source::Row};
use crate::error::Result;

pub(super) fn item(index: usize, row: Row<'_>) -> Result<Item> {
    let (question, choices) = match row.get("question") {
        Some(Value::String(question)) => (question.as_str(), columns(row)?),
        Some(question) => {
            let stem = question["stem"].as_str().ok_or_else(|| row.missing("question.stem"))?;
            (stem, pairs(row, question)?)
        }
        None => return Err(row.missing("question")),
    };
    // A few questions have three or five choices; the others four.
    if !(3..=5).contains(&choices.len()) {
        return Err(row.choices(choices.len(), "3 to 5"));
    }
    let key = row.text("answerKey")?;
    let gold = choices.iter().position(|(label, _)| label == key).ok_or_else(|| {
        let labels: Vec<&str> = choices.iter().map(|(label, _)| label.as_str()).collect();
        row.invalid("answerKey", format!("is {key:?}, expected one of {}", labels.join(", ")))
    })?;
    let texts: Vec<String> = choices.into_iter().map(|(_, text)| text).collect();
    Ok(Item::of_choices(index, &format!("Question: {question}\nAnswer:"), &texts, gold))
}

/// Label and text of each choice.
fn pairs(row: Row<'_>, question: &Value) -> Result<Vec<(String, String)>> {
    let choices = question["choices"].as_array().ok_or_else(|| row.missing("question.choices"))?;
    let text = |choice: &Value, key: &str| {
        choice[key].as_str().map(str::to_owned).ok_or_else(|| row.missing(&format!("question.choices.{key}")))
    };
    choices.iter().map(|choice| Ok((text(choice, "label")?, text(choice, "text")?))).collect()
}

fn columns(row: Row<'_>) -> Result<Vec<(String, String)>> {
    let choices = row.get("choices").ok_or_else(|| row.missing("choices"))?;
    let column = |key: &str| -> Result<Vec<String>> {
        let values = choices[key].as_array().ok_or_else(|| row.missing(&format!("choices.{key}")))?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let texts: Option<Vec<String>> = values.iter().map(text).collect();
        texts.ok_or_else(|| row.invalid(&format!("choices.{key}"), "holds something that is no text".into()))
    };
    let (labels, texts) = (column("label")?, column("text")?);
    if labels.len() != texts.len() {
        let (labels, texts) = (labels.len(), texts.len());
        return Err(row.invalid("choices", format!("has {labels} labels and {texts} texts")));
    }
    Ok(labels.into_iter().zip(texts).collect())
}
