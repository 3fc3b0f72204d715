//! From hidden states to log-probabilities, a few rows at a time so that logits never exist as a whole.

use std::ops::Range;

use burn::tensor::{Int, Tensor, TensorData};
use ramp_model::{divergence, log_sum_exp};

use crate::{
    error::{Error, Result},
    language_model::LanguageModel,
    protocol::Windows,
};

/// Rows at once for any vocabulary: with fewer, reading the head costs more than multiplying with it.
const MIN_ROWS: usize = 128;

/// Logits of some scored positions, on the device.
#[derive(Debug)]
pub struct Rows {
    /// `[rows, vocab]`.
    logits: Tensor<2>,
    /// `ln sum exp` of each row, `[rows, 1]`.
    log_sum_exp: Tensor<2>,
    /// The tokens that came next, `rows` of them.
    targets: Vec<u32>,
    /// Index of the window of the first row.
    window: usize,
}

/// What a KL divergence needs of the base model: its next-token distributions.
#[derive(Debug)]
pub struct BaseRows {
    /// `[rows, vocab]`.
    log_probs: Tensor<2>,
}

/// States of the scored positions of some windows, not yet logits.
#[derive(Debug)]
pub(crate) struct Scored {
    /// `[rows, width]`.
    states: Tensor<2>,
    targets: Vec<u32>,
    /// Index of the first window.
    window: usize,
    /// Rows of each window.
    per_window: usize,
}

/// Groups of windows that fit one forward pass of at most `tokens` tokens, as ranges of indices. The windows of a group
/// are equally long.
pub fn batches(windows: &Windows, tokens: usize) -> impl Iterator<Item = Range<usize>> + use<> {
    let mut groups: Vec<Range<usize>> = Vec::new();
    for window in 0..windows.len() {
        match groups.last_mut() {
            Some(group)
                if windows.alike(group.start, window)
                    && (group.len() + 1) * windows.input(window).len() <= tokens =>
            {
                group.end = window + 1;
            }
            _ => groups.push(window..window + 1),
        }
    }
    groups.into_iter()
}

/// Runs one batch of windows through the whole model and hands over the logits of the scored positions, chunk
/// by chunk.
///
/// # Errors
/// When the model fails, or `each` does.
pub fn for_each_rows(
    model: &dyn LanguageModel,
    windows: &Windows,
    batch: Range<usize>,
    mut each: impl FnMut(Rows) -> Result<()>,
) -> Result<()> {
    let scored = run(model, windows, batch)?;
    scored.chunks(model).try_for_each(|rows| each(scored.rows(model, rows)?))
}

/// As [`for_each_rows`], from the model's states, `[batch, ctx, width]`.
///
/// # Errors
/// When the states have another shape, a token that counts is not in the vocabulary, the head fails, or `each` does.
pub fn for_each_rows_of(
    model: &dyn LanguageModel,
    states: Tensor<3>,
    windows: &Windows,
    batch: Range<usize>,
    mut each: impl FnMut(Rows) -> Result<()>,
) -> Result<()> {
    let scored = finish(model, states, windows, batch)?;
    scored.chunks(model).try_for_each(|rows| each(scored.rows(model, rows)?))
}

/// Runs one batch of windows through the model and keeps what is scored.
///
/// # Errors
/// When the model fails.
pub(crate) fn run(model: &dyn LanguageModel, windows: &Windows, batch: Range<usize>) -> Result<Scored> {
    let tokens: Vec<&[u32]> = batch.clone().map(|window| windows.input(window)).collect();
    finish(model, model.states(&tokens)?, windows, batch)
}

fn finish(
    model: &dyn LanguageModel,
    states: Tensor<3>,
    windows: &Windows,
    batch: Range<usize>,
) -> Result<Scored> {
    check_states(&states, batch.len(), windows.input(batch.start).len())?;
    let per_window = windows.targets(batch.start).len();
    // The state at position t predicts token t + 1.
    let first = windows.first_target(batch.start).unwrap_or(1) - 1;
    let [windows_in_batch, _, width] = states.dims();
    let states = states.narrow(1, first, per_window).reshape([windows_in_batch * per_window, width]);
    let targets: Vec<u32> = batch.clone().flat_map(|window| windows.targets(window).to_vec()).collect();
    check_targets(&targets, model)?;
    Ok(Scored { states, targets, window: batch.start, per_window })
}

/// The shape that [`LanguageModel::states`] promises.
pub(crate) fn check_states(states: &Tensor<3>, batch: usize, seq: usize) -> Result<()> {
    let found = states.dims();
    if found[..2] == [batch, seq] {
        return Ok(());
    }
    Err(Error::Shape { what: "states", found: found.to_vec(), expected: vec![batch, seq, found[2]] })
}

/// Models check what they are given; a window's last token may be none of it.
pub(crate) fn check_targets(targets: &[u32], model: &dyn LanguageModel) -> Result<()> {
    let vocab_size = model.vocab_size();
    match targets.iter().find(|&&token| token as usize >= vocab_size) {
        Some(&token) => Err(ramp_model::Error::Token { token, vocab_size }.into()),
        None => Ok(()),
    }
}

impl Scored {
    /// Single rows of a batch, `[rows, width]`. An error names `item`.
    pub(crate) fn of(states: Tensor<2>, targets: Vec<u32>, item: usize) -> Self {
        let per_window = targets.len().max(1);
        Self { states, targets, window: item, per_window }
    }

    /// Ranges of rows whose logits may exist at once.
    pub(crate) fn chunks(&self, model: &dyn LanguageModel) -> impl Iterator<Item = Range<usize>> + use<> {
        let (len, vocab) = (self.targets.len(), model.vocab_size().max(1));
        let chunk = (model.pace().logits / vocab).max(MIN_ROWS);
        (0..len).step_by(chunk).map(move |start| start..(start + chunk).min(len))
    }

    /// The logits of some rows.
    pub(crate) fn rows(&self, model: &dyn LanguageModel, rows: Range<usize>) -> Result<Rows> {
        let logits = model.logits_of(self.states.clone().narrow(0, rows.start, rows.len()))?;
        let (found, expected) = (logits.dims(), [rows.len(), model.vocab_size()]);
        if found != expected {
            return Err(Error::Shape { what: "logits", found: found.to_vec(), expected: expected.to_vec() });
        }
        let (logits, log_sum_exp) = log_sum_exp(logits);
        let window = self.window + rows.start / self.per_window;
        Ok(Rows { logits, log_sum_exp, targets: self.targets[rows].to_vec(), window })
    }
}

impl Rows {
    /// Negative log-likelihood of each target in nats.
    ///
    /// # Errors
    /// When a value is NaN or infinite, or the device fails.
    pub fn nll(&self) -> Result<Vec<f64>> {
        let n = self.targets.len();
        let ids: Vec<i32> = self.targets.iter().map(|&id| id as i32).collect();
        let ids: Tensor<2, Int> = Tensor::from_data(TensorData::new(ids, [n, 1]), &self.logits.device());
        let nll = self.log_sum_exp.clone() - self.logits.clone().gather(1, ids);
        self.check("negative log-likelihood", to_host(nll)?)
    }

    /// The distributions of these rows, to compare another model's rows with.
    ///
    /// # Errors
    /// When a value is NaN or infinite, or the device fails.
    pub fn into_base(self) -> Result<BaseRows> {
        self.check("ln sum exp", to_host(self.log_sum_exp.clone())?)?;
        Ok(BaseRows { log_probs: self.logits - self.log_sum_exp })
    }

    /// Kullback-Leibler divergence of each row from the base model's distribution, in nats, see
    /// [`ramp_model::divergence`].
    ///
    /// # Errors
    /// When a value is NaN or infinite, or the device fails.
    pub fn kl_from(&self, base: &BaseRows) -> Result<Vec<f64>> {
        let (log_probs, device) = (&base.log_probs, self.logits.device());
        let here =
            if log_probs.device() == device { None } else { Some(log_probs.clone().to_device(&device)) };
        let kld = divergence(here.as_ref().unwrap_or(log_probs), &self.logits, &self.log_sum_exp)?;
        self.finite("KL divergence", kld)
    }

    /// The most probable token of each row.
    ///
    /// # Errors
    /// When the device fails.
    pub fn top1(&self) -> Result<Vec<i64>> {
        self.logits
            .clone()
            .argmax(1)
            .try_into_vec_as::<i64>()
            .map_err(|e| Error::Device { why: format!("{e:?}") })
    }

    fn check(&self, what: &'static str, values: Vec<f32>) -> Result<Vec<f64>> {
        self.finite(what, values.into_iter().map(f64::from).collect())
    }

    fn finite(&self, what: &'static str, values: Vec<f64>) -> Result<Vec<f64>> {
        match values.iter().find(|x| !x.is_finite()) {
            Some(&value) => Err(Error::NonFinite { what, value, window: self.window }),
            None => Ok(values),
        }
    }
}

/// Says where a model first gave NaN or infinity, when that is what `error` tells.
pub(crate) fn located(error: Error, model: &dyn LanguageModel, windows: &Windows) -> Error {
    match error {
        Error::NonFinite { window, .. } => error.at(model.first_non_finite(windows.input(window))),
        other => other,
    }
}

pub(crate) fn to_host<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>> {
    tensor.try_into_vec_as::<f32>().map_err(|e| Error::Device { why: format!("{e:?}") })
}
