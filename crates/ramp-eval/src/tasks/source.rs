//! The files of a task: JSON lines or parquet, and labels one a line.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value};

use super::{Item, Task, arc, hellaswag, piqa, winogrande};
use crate::error::{Error, Result};

/// A row of a data file, with what an error needs to name it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row<'a> {
    task: Task,
    path: &'a Path,
    /// From 1, blank lines counted; the row of a parquet file.
    line: usize,
    fields: &'a Map<String, Value>,
}

/// A label file's line that belongs to a row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Label<'a> {
    path: &'a Path,
    line: usize,
    text: &'a str,
}

/// Keys by which the rows of a task can be told from those of the others.
fn signature(task: Task) -> &'static [&'static str] {
    match task {
        Task::Piqa => &["goal"],
        Task::HellaSwag => &["endings"],
        Task::WinoGrande => &["sentence"],
        Task::ArcEasy | Task::ArcChallenge => &["question"],
    }
}

pub(super) fn read(task: Task, data: &Path, labels: Option<&Path>) -> Result<Vec<Item>> {
    let rows = if data.extension().is_some_and(|extension| extension == "parquet") {
        parquet_rows(data)?
    } else {
        json_lines(data)?
    };
    if rows.is_empty() {
        return Err(Error::EmptyFile { path: data.to_owned() });
    }
    let label_text = labels.map(read_text).transpose()?;
    let labels: Option<(&Path, Vec<(usize, &str)>)> =
        labels.zip(label_text.as_deref()).map(|(path, text)| (path, rows_of(text).collect()));
    if let Some((path, labels)) = &labels
        && labels.len() != rows.len()
    {
        return Err(Error::LabelCount {
            path: path.to_path_buf(),
            labels: labels.len(),
            data: data.to_owned(),
            rows: rows.len(),
        });
    }
    let mut items = Vec::with_capacity(rows.len());
    for (index, (line, fields)) in rows.into_iter().enumerate() {
        let row = Row { task, path: data, line, fields: &fields };
        row.check_task()?;
        let label = labels.as_ref().map(|(path, labels)| Label {
            path,
            line: labels[index].0,
            text: labels[index].1,
        });
        items.push(match task {
            Task::Piqa => piqa::item(index, row, label)?,
            Task::HellaSwag => hellaswag::item(index, row)?,
            Task::WinoGrande => winogrande::item(index, row, label)?,
            Task::ArcEasy | Task::ArcChallenge => arc::item(index, row)?,
        });
    }
    Ok(items)
}

/// Objects with their lines.
fn json_lines(path: &Path) -> Result<Vec<(usize, Map<String, Value>)>> {
    let text = read_text(path)?;
    let object = |(line, text)| match serde_json::from_str(text) {
        Ok(fields) => Ok((line, fields)),
        Err(source) => Err(Error::NotJson { path: path.to_owned(), line, source }),
    };
    rows_of(&text).map(object).collect()
}

#[cfg(feature = "parquet")]
use super::parquet::rows as parquet_rows;

#[cfg(not(feature = "parquet"))]
fn parquet_rows(path: &Path) -> Result<Vec<(usize, Map<String, Value>)>> {
    let why = "this build is without the feature `parquet`".into();
    Err(Error::Parquet { path: path.to_owned(), why })
}

fn read_text(path: &Path) -> Result<String> {
    let bytes = fs::read(path).map_err(|source| Error::Io { path: path.to_owned(), source })?;
    String::from_utf8(bytes)
        .map_err(|error| Error::NotUtf8 { path: path.to_owned(), byte: error.utf8_error().valid_up_to() })
}

/// Lines that are not blank, with their numbers. Only line feeds end a line: JSON may hold other separators.
fn rows_of(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.split('\n').enumerate();
    lines.map(|(index, line)| (index + 1, line.trim())).filter(|(_, line)| !line.is_empty())
}

impl<'a> Row<'a> {
    /// A file of another task is the likeliest mistake; say so instead of naming the first missing field.
    fn check_task(&self) -> Result<()> {
        let looks_like = |task| signature(task).iter().all(|key| self.fields.contains_key(*key));
        if looks_like(self.task) {
            return Ok(());
        }
        match Task::ALL.into_iter().find(|&task| looks_like(task)) {
            Some(found) => Err(Error::WrongTask {
                path: self.path.to_owned(),
                line: self.line,
                expected: self.task,
                found,
            }),
            None => Err(self.missing(signature(self.task)[0])),
        }
    }

    pub(super) fn get(&self, field: &str) -> Option<&'a Value> {
        self.fields.get(field)
    }

    /// A text field.
    pub(super) fn text(&self, field: &str) -> Result<&'a str> {
        let value = self.get(field).ok_or_else(|| self.missing(field))?;
        value.as_str().ok_or_else(|| self.invalid(field, format!("is {}, expected a text", kind(value))))
    }

    /// A label field: a whole number, or a text of one. `None` when it is absent, null or an empty text, as in the
    /// test splits that keep their answers secret.
    pub(super) fn label(&self, field: &str) -> Result<Option<i64>> {
        match self.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if text.trim().is_empty() => Ok(None),
            Some(Value::String(text)) => match text.trim().parse() {
                Ok(label) => Ok(Some(label)),
                Err(_) => Err(self.invalid(field, format!("is {text:?}, expected a number"))),
            },
            Some(value) => match value.as_i64() {
                Some(label) => Ok(Some(label)),
                None => Err(self.invalid(field, format!("is {}, expected a number", kind(value)))),
            },
        }
    }

    /// The right choice, from a label that counts from `first`.
    pub(super) fn gold(&self, label: Option<i64>, field: &str, first: i64, choices: usize) -> Result<usize> {
        let label = label.ok_or_else(|| Error::NoLabel {
            path: self.path.to_owned(),
            line: self.line,
            field: field.into(),
        })?;
        choice(label, first, choices).ok_or_else(|| {
            let last = first + choices as i64 - 1;
            self.invalid(field, format!("is {label}, expected {first} to {last}"))
        })
    }

    pub(super) fn missing(&self, field: &str) -> Error {
        Error::MissingField { path: self.path.to_owned(), line: self.line, field: field.to_owned() }
    }

    pub(super) fn invalid(&self, field: &str, why: String) -> Error {
        Error::Field { path: self.path.to_owned(), line: self.line, field: field.to_owned(), why }
    }

    pub(super) fn choices(&self, found: usize, expected: &'static str) -> Error {
        Error::Choices { path: self.path.to_owned(), line: self.line, task: self.task, found, expected }
    }
}

impl Label<'_> {
    /// The right choice, from a label that counts from `first`.
    pub(super) fn gold(&self, first: i64, choices: usize) -> Result<usize> {
        let label = self.text.parse().ok().and_then(|label| choice(label, first, choices));
        label.ok_or_else(|| Error::Label {
            path: PathBuf::from(self.path),
            line: self.line,
            found: self.text.chars().take(40).collect(),
            first,
            last: first + choices as i64 - 1,
        })
    }
}

fn choice(label: i64, first: i64, choices: usize) -> Option<usize> {
    let index = usize::try_from(label.checked_sub(first)?).ok()?;
    (index < choices).then_some(index)
}

pub(super) const fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
