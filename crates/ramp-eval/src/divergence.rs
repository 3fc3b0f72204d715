//! A model against a base model on the same windows, token by token.

use ramp_model::CausalLm;
use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    moments::Moments,
    perplexity::Perplexity,
    protocol::Windows,
    rows::{BaseRows, Rows, batches, for_each_rows},
};

/// What a model loses against its base, from the same tokens.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Perplexity of the model.
    pub model: Perplexity,
    /// Perplexity of the base.
    pub base: Perplexity,
    /// Mean Kullback-Leibler divergence from the base's next-token distribution, in nats.
    pub mean_kld: f64,
    /// Standard error of `mean_kld`.
    pub mean_kld_se: f64,
    /// Largest divergence of a token.
    pub max_kld: f64,
    /// Share of tokens where both models find the same token most probable.
    pub same_top1: f64,
    /// Standard error of `same_top1`.
    pub same_top1_se: f64,
    /// `ln PPL(model) - ln PPL(base)`.
    pub ln_ppl_ratio: f64,
    /// Standard error of `ln_ppl_ratio`, from the paired differences.
    pub ln_ppl_ratio_se: f64,
}

/// Compares `model` with `base`, window by window; no logits are kept.
///
/// # Errors
/// When the vocabularies differ, a model fails or gives NaN or infinity, or [`Error::Interrupted`].
pub fn compare(
    model: &CausalLm,
    base: &CausalLm,
    windows: &Windows,
    mut progress: impl FnMut(usize) -> bool,
) -> Result<Comparison> {
    let (expected, found) = (base.config().vocab_size, model.config().vocab_size);
    if expected != found {
        return Err(Error::Vocabularies { base: expected, other: found });
    }
    let mut sums = Sums::default();
    for batch in batches(windows) {
        let done = batch.end;
        let mut base_rows = Vec::new();
        for_each_rows(base, windows, batch.clone(), |rows| {
            base_rows.push(Base { nll: rows.nll()?, top1: rows.top1()?, rows: rows.into_base()? });
            Ok(())
        })?;
        let mut base_rows = base_rows.into_iter();
        for_each_rows(model, windows, batch, |rows| match base_rows.next() {
            Some(base) => sums.add(&rows, &base),
            None => Ok(()),
        })?;
        if !progress(done) {
            return Err(Error::Interrupted);
        }
    }
    Ok(sums.finish(windows.len()))
}

/// The base model's side of some rows.
struct Base {
    nll: Vec<f64>,
    top1: Vec<i64>,
    rows: BaseRows,
}

#[derive(Default)]
struct Sums {
    model_nll: Moments,
    base_nll: Moments,
    difference: Moments,
    kld: Moments,
    max_kld: f64,
    same_top1: Moments,
}

impl Sums {
    fn add(&mut self, model: &Rows, base: &Base) -> Result<()> {
        let nll = model.nll()?;
        let kld = model.kl_from(&base.rows)?;
        self.max_kld = kld.iter().copied().fold(self.max_kld, f64::max);
        self.difference.extend(nll.iter().zip(&base.nll).map(|(a, b)| a - b));
        self.model_nll.extend(nll);
        self.base_nll.extend(base.nll.iter().copied());
        self.kld.extend(kld);
        let same = model.top1()?.into_iter().zip(&base.top1).map(|(a, b)| f64::from(u8::from(a == *b)));
        self.same_top1.extend(same);
        Ok(())
    }

    fn finish(self, windows: usize) -> Comparison {
        Comparison {
            model: Perplexity::from_moments(&self.model_nll, windows),
            base: Perplexity::from_moments(&self.base_nll, windows),
            mean_kld: self.kld.mean(),
            mean_kld_se: self.kld.standard_error(),
            max_kld: self.max_kld,
            same_top1: self.same_top1.mean(),
            same_top1_se: self.same_top1.standard_error(),
            ln_ppl_ratio: self.difference.mean(),
            ln_ppl_ratio_se: self.difference.standard_error(),
        }
    }
}
