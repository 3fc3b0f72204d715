//! Every score of a run in a file, so that a run that was cut short goes on where it was.
//!
//! A line of JSON each: first what the scores belong to, then one for each evaluation. Nothing of a run is random but for its
//! seed, so that the same run asks for the same scores again, and gets those that are there without a forward pass.

use std::{
    borrow::Cow,
    collections::HashMap,
    fs::{File, OpenOptions},
    io::{Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use ramp_eval::Windows;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    bank::WeightBank,
    error::{Error, Result},
    evaluator::Known,
    problem::{Choices, Problem},
};

/// Version of the layout.
const VERSION: u32 = 1;
/// A score takes some hundred bytes, or some kilobytes on a model of hundreds of matrices.
const MAX_BYTES: u64 = 1 << 30;

/// The first line.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    ramp_scores: u32,
    /// Hash of the layers, their formats and what those lose, and of the text.
    run: String,
    /// Windows up to the end of each part.
    ends: Vec<usize>,
}

/// The others.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    of: Of,
    #[serde(flatten)]
    known: Cow<'a, Known>,
}

/// What was evaluated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Of {
    /// An allocation.
    Choices(Choices),
    /// One matrix, by slot and choice.
    Single(usize, usize),
}

/// The file, open at its end.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    file: File,
}

/// The scores of a file.
#[derive(Debug, Default)]
pub(crate) struct Scores {
    pub(crate) choices: HashMap<Choices, Known>,
    pub(crate) singles: HashMap<(usize, usize), Known>,
}

impl Journal {
    /// Opens or begins a file. One that belongs to another run is refused. A line that a crash cut short is dropped.
    pub(crate) fn open(
        path: &Path,
        problem: &Problem,
        bank: &WeightBank,
        windows: &Windows,
        ends: &[usize],
    ) -> Result<(Self, Scores)> {
        let fail = |why: String| Error::Journal { path: path.to_owned(), why };
        let io = |error: std::io::Error| fail(error.to_string());
        let mut options = OpenOptions::new();
        let mut file = options.read(true).write(true).create(true).truncate(false).open(path).map_err(io)?;
        let size = file.metadata().map_err(io)?.len();
        if size > MAX_BYTES {
            return Err(fail(format!("has {size} bytes, scores have at most {MAX_BYTES}")));
        }
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(io)?;
        let header = Header { ramp_scores: VERSION, run: run(problem, bank, windows), ends: ends.to_vec() };
        let complete = text.rfind('\n').map_or(0, |end| end + 1);
        let mut lines = text[..complete].lines();
        let mut scores = Scores::default();
        match lines.next().map(serde_json::from_str::<Header>) {
            None => {}
            Some(Ok(found)) if found == header => {
                for (at, line) in lines.enumerate() {
                    let number = at + 2;
                    let line: Line<'_> =
                        serde_json::from_str(line).map_err(|why| fail(format!("line {number}: {why}")))?;
                    scores.add(line, problem, ends).map_err(|why| fail(format!("line {number}: {why}")))?;
                }
            }
            Some(Ok(found)) if found.ramp_scores != VERSION => {
                return Err(fail(format!("has version {}, expected {VERSION}", found.ramp_scores)));
            }
            Some(Ok(_)) => {
                return Err(fail(
                    "holds the scores of another model, text, set of formats or kind of device".into(),
                ));
            }
            Some(Err(why)) => return Err(fail(format!("line 1: {why}"))),
        }
        file.set_len(complete as u64).map_err(io)?;
        file.seek(SeekFrom::End(0)).map_err(io)?;
        let mut journal = Self { path: path.to_owned(), file };
        if complete == 0 {
            journal.write(&header)?;
        }
        Ok((journal, scores))
    }

    /// Adds a score.
    pub(crate) fn add(&mut self, of: Of, known: &Known) -> Result<()> {
        self.write(&Line { of, known: Cow::Borrowed(known) })
    }

    fn write(&mut self, line: &impl Serialize) -> Result<()> {
        let fail = |why: String| Error::Journal { path: self.path.clone(), why };
        let mut bytes = serde_json::to_vec(line).map_err(|error| fail(error.to_string()))?;
        bytes.push(b'\n');
        // A line at once.
        (&self.file).write_all(&bytes).map_err(|error| fail(error.to_string()))
    }
}

impl Scores {
    fn add(
        &mut self,
        Line { of, known }: Line<'_>,
        problem: &Problem,
        ends: &[usize],
    ) -> std::result::Result<(), String> {
        let slots = problem.slots();
        let is_choice = |slot: usize, choice: usize| {
            slots.get(slot).is_some_and(|options| choice < options.choices.len())
        };
        let known = known.into_owned();
        if !known.is_sound(ends.len()) {
            return Err("holds sums that no model gives".into());
        }
        match of {
            Of::Choices(choices)
                if choices.len() == slots.len()
                    && choices.iter().enumerate().all(|(slot, &choice)| is_choice(slot, choice)) =>
            {
                self.choices.insert(choices, known);
            }
            Of::Single(slot, choice) if is_choice(slot, choice) => {
                self.singles.insert((slot, choice), known);
            }
            Of::Choices(_) | Of::Single(..) => return Err("names choices that there are not".into()),
        }
        Ok(())
    }
}

/// What the scores depend on, but for the last digits that devices differ in.
fn run(problem: &Problem, bank: &WeightBank, windows: &Windows) -> String {
    let mut hash = Sha256::new();
    for (index, slot) in problem.slots().iter().enumerate() {
        hash.update(format!("{} {}\n", slot.id, slot.weights));
        for (choice, option) in slot.choices.iter().enumerate() {
            hash.update(format!("{:?} ", option.format));
            if let Some(error) = bank.squared_error(index, choice).ok().filter(|error| error.is_finite()) {
                // Five digits: sums of errors are added in another order on a GPU.
                hash.update(format!("{error:.4e}\n"));
            }
        }
    }
    for window in windows.tokens() {
        hash.update((window.len() as u64).to_le_bytes());
        window.iter().for_each(|token| hash.update(token.to_le_bytes()));
    }
    hash.finalize().iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
}
