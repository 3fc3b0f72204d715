//! From hidden states to log-probabilities, a few rows at a time so that logits never exist as a whole.

use burn::tensor::{Int, Tensor, TensorData};
use ramp_model::{CausalLm, NoTap};

use crate::{
    error::{Error, Result},
    protocol::Windows,
};

/// Elements of logits that exist at once, 8 MiB in f32: what a core's cache holds, and a buffer that is used again.
const LOGIT_ELEMENTS: usize = 1 << 21;
/// Rows at once for any vocabulary: with fewer, reading the head costs more than multiplying with it.
const MIN_ROWS: usize = 128;
/// Tokens run through the blocks at once.
const BATCH_TOKENS: usize = 2048;

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

/// Groups of windows that fit one forward pass, as ranges of indices.
pub fn batches(windows: &Windows) -> impl Iterator<Item = std::ops::Range<usize>> + use<> {
    let (len, per_batch) = (windows.len(), (BATCH_TOKENS / windows.ctx().max(1)).max(1));
    (0..len).step_by(per_batch).map(move |start| start..(start + per_batch).min(len))
}

/// Runs one batch of windows through the whole model and hands over the logits of the scored positions, chunk
/// by chunk.
///
/// # Errors
/// When the model fails, or `each` does.
pub fn for_each_rows(
    model: &CausalLm,
    windows: &Windows,
    batch: std::ops::Range<usize>,
    each: impl FnMut(Rows) -> Result<()>,
) -> Result<()> {
    let tokens = &windows.tokens()[batch.clone()];
    let hidden = model.run_blocks(model.embed(tokens)?, 0..model.config().n_blocks, &mut NoTap)?;
    for_each_rows_of(model, hidden, windows, batch, each)
}

/// As [`for_each_rows`], from the residual stream behind the last block, `[batch, ctx, hidden]`.
///
/// # Errors
/// When `each` fails.
pub fn for_each_rows_of(
    model: &CausalLm,
    hidden: Tensor<3>,
    windows: &Windows,
    batch: std::ops::Range<usize>,
    mut each: impl FnMut(Rows) -> Result<()>,
) -> Result<()> {
    let first_target = windows.first_target();
    let scored = windows.ctx() - first_target;
    // The state at position t predicts token t + 1.
    let hidden = model.finish(hidden.narrow(1, first_target - 1, scored)); // [batch * scored, hidden]
    let targets: Vec<u32> =
        windows.tokens()[batch.clone()].iter().flat_map(|window| window[first_target..].to_vec()).collect();
    let chunk = (LOGIT_ELEMENTS / model.config().vocab_size).max(MIN_ROWS);
    for start in (0..targets.len()).step_by(chunk) {
        let rows = chunk.min(targets.len() - start);
        let (logits, log_sum_exp) = model.log_sum_exp(model.head(hidden.clone().narrow(0, start, rows)));
        let targets = targets[start..start + rows].to_vec();
        each(Rows { logits, log_sum_exp, targets, window: batch.start + start / scored })?;
    }
    Ok(())
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

fn to_host(tensor: Tensor<2>) -> Result<Vec<f32>> {
    tensor.try_into_vec_as::<f32>().map_err(|e| Error::Device { why: format!("{e:?}") })
}
