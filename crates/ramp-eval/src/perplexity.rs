//! Perplexity (Eq. 7 of the paper).

use ramp_model::CausalLm;
use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    moments::Moments,
    protocol::Windows,
    rows::{batches, for_each_rows},
};

/// Perplexity of a model on windows of text.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Perplexity {
    /// `exp(mean_nll)`.
    pub perplexity: f64,
    /// Standard error of `perplexity`, by the delta method.
    pub perplexity_se: f64,
    /// Mean negative log-likelihood in nats per token.
    pub mean_nll: f64,
    /// Standard error of `mean_nll`.
    pub mean_nll_se: f64,
    /// Tokens that count.
    pub tokens: u64,
    /// Windows evaluated.
    pub windows: usize,
}

impl Perplexity {
    pub(crate) fn from_moments(nll: &Moments, windows: usize) -> Self {
        let (mean_nll, mean_nll_se) = (nll.mean(), nll.standard_error());
        let perplexity = mean_nll.exp();
        let perplexity_se = perplexity * mean_nll_se;
        Self { perplexity, perplexity_se, mean_nll, mean_nll_se, tokens: nll.count(), windows }
    }
}

/// Perplexity of `model` on `windows`. `progress` is told the windows done and may stop by returning `false`.
///
/// # Errors
/// When the model fails or gives NaN or infinity, or [`Error::Interrupted`].
pub fn perplexity(
    model: &CausalLm,
    windows: &Windows,
    mut progress: impl FnMut(usize) -> bool,
) -> Result<Perplexity> {
    let mut nll = Moments::default();
    for batch in batches(windows) {
        let done = batch.end;
        for_each_rows(model, windows, batch, |rows| {
            nll.extend(rows.nll()?);
            Ok(())
        })?;
        if !progress(done) {
            return Err(Error::Interrupted);
        }
    }
    Ok(Perplexity::from_moments(&nll, windows.len()))
}
