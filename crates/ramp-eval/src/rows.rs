//! From hidden states to log-probabilities, a few rows at a time so that logits never exist as a whole.

use std::ops::Range;

use burn::tensor::{Int, Tensor, TensorData};
use ramp_model::{CausalLm, NoTap};

use crate::{
    error::{Error, Result},
    locate::locate_non_finite,
    protocol::Windows,
};

/// Elements of logits that exist at once, 8 MiB in f32: what a core's cache holds, and a buffer that is used again.
const LOGIT_ELEMENTS: usize = 1 << 21;
/// Rows at once for any vocabulary: with fewer, reading the head costs more than multiplying with it.
const MIN_ROWS: usize = 128;
/// Tokens run through the blocks at once.
pub(crate) const BATCH_TOKENS: usize = 2048;

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
    probs: Tensor<2>,
    /// `sum p ln p` of each row.
    negative_entropy: Vec<f64>,
}

/// Normed hidden states of the scored positions of some windows, not yet logits.
#[derive(Debug)]
pub(crate) struct Scored {
    /// `[rows, hidden]`.
    hidden: Tensor<2>,
    targets: Vec<u32>,
    /// Index of the first window.
    window: usize,
    /// Rows of each window.
    per_window: usize,
}

/// Groups of windows that fit one forward pass, as ranges of indices. The windows of a group are equally long.
pub fn batches(windows: &Windows) -> impl Iterator<Item = Range<usize>> + use<> {
    let mut groups: Vec<Range<usize>> = Vec::new();
    for window in 0..windows.len() {
        match groups.last_mut() {
            Some(group)
                if windows.alike(group.start, window)
                    && (group.len() + 1) * windows.input(window).len() <= BATCH_TOKENS =>
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
    model: &CausalLm,
    windows: &Windows,
    batch: Range<usize>,
    mut each: impl FnMut(Rows) -> Result<()>,
) -> Result<()> {
    let scored = run(model, windows, batch)?;
    scored.chunks(model.config().vocab_size).try_for_each(|rows| each(scored.rows(model, rows)))
}

/// As [`for_each_rows`], from the residual stream behind the last block, `[batch, ctx, hidden]`.
///
/// # Errors
/// When `each` fails.
pub fn for_each_rows_of(
    model: &CausalLm,
    hidden: Tensor<3>,
    windows: &Windows,
    batch: Range<usize>,
    mut each: impl FnMut(Rows) -> Result<()>,
) -> Result<()> {
    let scored = finish(model, hidden, windows, batch);
    scored.chunks(model.config().vocab_size).try_for_each(|rows| each(scored.rows(model, rows)))
}

/// Runs one batch of windows through the blocks and keeps what is scored.
///
/// # Errors
/// When the model fails.
pub(crate) fn run(model: &CausalLm, windows: &Windows, batch: Range<usize>) -> Result<Scored> {
    let tokens: Vec<&[u32]> = batch.clone().map(|window| windows.input(window)).collect();
    let hidden = model.run_blocks(model.embed(&tokens)?, 0..model.config().n_blocks, &mut NoTap)?;
    Ok(finish(model, hidden, windows, batch))
}

fn finish(model: &CausalLm, hidden: Tensor<3>, windows: &Windows, batch: Range<usize>) -> Scored {
    let per_window = windows.targets(batch.start).len();
    // The state at position t predicts token t + 1.
    let first = windows.first_target(batch.start).unwrap_or(1) - 1;
    let hidden = model.finish(hidden.narrow(1, first, per_window)); // [batch * per_window, hidden]
    let targets = batch.clone().flat_map(|window| windows.targets(window).to_vec()).collect();
    Scored { hidden, targets, window: batch.start, per_window }
}

impl Scored {
    /// Single rows of a batch, `hidden` being `[rows, hidden]` behind the final norm. An error names `item`.
    pub(crate) fn of(hidden: Tensor<2>, targets: Vec<u32>, item: usize) -> Self {
        let per_window = targets.len().max(1);
        Self { hidden, targets, window: item, per_window }
    }

    /// Ranges of rows whose logits may exist at once.
    pub(crate) fn chunks(&self, vocab: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let (len, chunk) = (self.targets.len(), (LOGIT_ELEMENTS / vocab.max(1)).max(MIN_ROWS));
        (0..len).step_by(chunk).map(move |start| start..(start + chunk).min(len))
    }

    /// The logits of some rows.
    pub(crate) fn rows(&self, model: &CausalLm, rows: Range<usize>) -> Rows {
        let logits = model.head(self.hidden.clone().narrow(0, rows.start, rows.len()));
        let (logits, log_sum_exp) = model.log_sum_exp(logits);
        let window = self.window + rows.start / self.per_window;
        Rows { logits, log_sum_exp, targets: self.targets[rows].to_vec(), window }
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
        let log_probs = self.logits.clone() - self.log_sum_exp.clone();
        let probs = log_probs.clone().exp();
        let negative_entropy = self.check("entropy", to_host((probs.clone() * log_probs).sum_dim(1))?)?;
        Ok(BaseRows { probs, negative_entropy })
    }

    /// Kullback-Leibler divergence of each row from the base model's distribution `p`, in nats:
    /// `sum p (ln p - ln q) = sum p ln p - sum p logit_q + ln sum exp logit_q`.
    ///
    /// # Errors
    /// When a value is NaN or infinite, or the device fails.
    pub fn kl_from(&self, base: &BaseRows) -> Result<Vec<f64>> {
        let cross = (base.probs.clone() * self.logits.clone()).sum_dim(1) - self.log_sum_exp.clone();
        let cross = self.check("KL divergence", to_host(cross)?)?;
        Ok(base.negative_entropy.iter().zip(cross).map(|(p, q)| p - q).collect())
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
        match values.iter().find(|x| !x.is_finite()) {
            Some(&value) => Err(Error::NonFinite { what, value: f64::from(value), window: self.window }),
            None => Ok(values.into_iter().map(f64::from).collect()),
        }
    }
}

/// Says where a model first gave NaN or infinity, when that is what `error` tells.
pub(crate) fn located(error: Error, model: &CausalLm, windows: &Windows) -> Error {
    match error {
        Error::NonFinite { what, value, window } => {
            locate_non_finite(model, windows.input(window), what, value, window)
        }
        other => other,
    }
}

pub(crate) fn to_host<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>> {
    tensor.try_into_vec_as::<f32>().map_err(|e| Error::Device { why: format!("{e:?}") })
}
