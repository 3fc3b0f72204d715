//! A question with its choices, as text.

/// What a model is asked for one choice: the log-likelihood of `continuation` after `context`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The text before.
    pub context: String,
    /// The text to score.
    pub continuation: String,
}

/// One row of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Index of the row in its file, from 0.
    pub index: usize,
    /// One request for each choice.
    pub requests: Vec<Request>,
    /// Length of each choice in Unicode code points (Python's `len`): the divisor of `acc_norm`.
    pub lengths: Vec<usize>,
    /// The right choice.
    pub gold: usize,
}

impl Item {
    /// Choices behind one context: each continuation is a space and the choice.
    pub(crate) fn of_choices(index: usize, context: &str, choices: &[String], gold: usize) -> Self {
        let request =
            |choice: &String| Request { context: context.to_owned(), continuation: format!(" {choice}") };
        Self {
            index,
            requests: choices.iter().map(request).collect(),
            lengths: choices.iter().map(|choice| choice.chars().count()).collect(),
            gold,
        }
    }
}
