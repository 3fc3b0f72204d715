//! `--samples`: what a model said to every item.

use std::{io::Write, path::Path};

use ramp::eval::tasks::{Sample, Task};
use serde::Serialize;

use super::{Inputs, Measured};
use crate::cli::failure::Result;

#[derive(Serialize)]
struct Line<'a> {
    model: &'a Path,
    task: Task,
    #[serde(flatten)]
    sample: &'a Sample,
    answer: usize,
    answer_norm: usize,
}

/// Writes one line for each model, task and item; the file is complete or absent.
///
/// # Errors
/// When it cannot be written.
pub(super) fn write(path: &Path, inputs: &Inputs, results: &[Measured]) -> Result {
    Ok(ramp::gguf::write_atomically(path, |file| {
        for (entry, measured) in inputs.models.iter().zip(results) {
            for result in &measured.tasks {
                for sample in &result.samples {
                    let (answer, answer_norm) = (sample.answer(), sample.answer_norm());
                    let line = Line { model: &entry.path, task: result.task, sample, answer, answer_norm };
                    serde_json::to_writer(&mut *file, &line)?;
                    file.write_all(b"\n")?;
                }
            }
        }
        Ok(())
    })?)
}
