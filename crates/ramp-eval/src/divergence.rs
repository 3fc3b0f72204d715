//! A model against a base model on the same windows, token by token.

use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    language_model::LanguageModel,
    moments::Moments,
    perplexity::Perplexity,
    protocol::Windows,
    quantiles::Quantiles,
    rows::{Rows, batches, located, run},
    significance::PairedTest,
    window_losses::WindowLosses,
};

/// What a model loses against its base, from the same tokens: the numbers that `llama-perplexity --kl-divergence`
/// prints, and a test.
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
    /// Percentiles of the tokens' divergences.
    pub kld: Quantiles,
    /// Share of tokens where both models find the same token most probable.
    pub same_top1: f64,
    /// Standard error of `same_top1`.
    pub same_top1_se: f64,
    /// By how much the probability of the text's next token changes.
    pub delta_p: DeltaP,
    /// `ln PPL(model) - ln PPL(base)`.
    pub ln_ppl_ratio: f64,
    /// Standard error of `ln_ppl_ratio`, from the paired differences of tokens, as llama.cpp has it.
    pub ln_ppl_ratio_se: f64,
    /// `PPL(model) / PPL(base)`.
    pub ppl_ratio: f64,
    /// Standard error of `ppl_ratio`.
    pub ppl_ratio_se: f64,
    /// `PPL(model) - PPL(base)`.
    pub ppl_difference: f64,
    /// Standard error of `ppl_difference`, with the covariance.
    pub ppl_difference_se: f64,
    /// Correlation of the two negative log-likelihoods of a token; 0 where one does not vary.
    pub correlation: f64,
    /// Whether `ln_ppl_ratio` is more than chance; `None` below two windows.
    pub test: Option<PairedTest>,
}

/// Change of the probability of the token that came next, `p(model) - p(base)`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeltaP {
    /// The mean.
    pub mean: f64,
    /// Its standard error.
    pub mean_se: f64,
    /// Root of the mean square.
    pub rms: f64,
    /// Its standard error, by the delta method.
    pub rms_se: f64,
    /// Percentiles.
    #[serde(flatten)]
    pub quantiles: Quantiles,
}

/// Compares `model` with `base`, window by window; no logits are kept.
///
/// # Errors
/// When the vocabularies differ, a model fails or gives NaN or infinity, or [`Error::Interrupted`].
pub fn compare(
    model: &dyn LanguageModel,
    base: &dyn LanguageModel,
    windows: &Windows,
    progress: impl FnMut(usize) -> bool,
) -> Result<Comparison> {
    Ok(compare_by_window(model, base, windows, progress)?.0)
}

/// As [`compare`], and what the model lost in each window.
///
/// # Errors
/// As [`compare`].
pub fn compare_by_window(
    model: &dyn LanguageModel,
    base: &dyn LanguageModel,
    windows: &Windows,
    mut progress: impl FnMut(usize) -> bool,
) -> Result<(Comparison, WindowLosses)> {
    let (expected, found) = (base.vocab_size(), model.vocab_size());
    if expected != found {
        return Err(Error::Vocabularies { base: expected, other: found });
    }
    let mut tokens = Tokens::default();
    let tokens_at_once = model.pace().tokens.min(base.pace().tokens);
    for batch in batches(windows, tokens_at_once) {
        let scored_base = run(base, windows, batch.clone())?;
        let scored = run(model, windows, batch.clone())?;
        // Chunk by chunk, so that the base's distributions are no larger than its logits.
        for rows in scored.chunks(model) {
            let base_rows = scored_base.rows(base, rows.clone()).and_then(BaseSide::new);
            let base_rows = base_rows.map_err(|error| located(error, base, windows))?;
            let added = scored.rows(model, rows).and_then(|rows| tokens.add(&rows, base_rows));
            added.map_err(|error| located(error, model, windows))?;
        }
        if !progress(batch.end) {
            return Err(Error::Interrupted);
        }
    }
    let sizes: Vec<usize> = (0..windows.len()).map(|window| windows.targets(window).len()).collect();
    let losses = WindowLosses::new(&tokens.model_nll, &sizes);
    Ok((tokens.finish(&sizes), losses))
}

/// What is needed of the base for some rows.
struct BaseSide {
    nll: Vec<f64>,
    top1: Vec<i64>,
    rows: crate::rows::BaseRows,
}

impl BaseSide {
    fn new(rows: Rows) -> Result<Self> {
        Ok(Self { nll: rows.nll()?, top1: rows.top1()?, rows: rows.into_base()? })
    }
}

/// Numbers of each token.
#[derive(Default)]
struct Tokens {
    model_nll: Vec<f64>,
    base_nll: Vec<f64>,
    kld: Vec<f64>,
    same_top1: Moments,
}

impl Tokens {
    fn add(&mut self, model: &Rows, base: BaseSide) -> Result<()> {
        self.model_nll.extend(model.nll()?);
        self.kld.extend(model.kl_from(&base.rows)?);
        let same = model.top1()?.into_iter().zip(&base.top1).map(|(a, b)| f64::from(u8::from(a == *b)));
        self.same_top1.extend(same);
        self.base_nll.extend(base.nll);
        Ok(())
    }

    /// `sizes` are the tokens of each window.
    fn finish(self, sizes: &[usize]) -> Comparison {
        let Self { model_nll, base_nll, kld, same_top1 } = self;
        let moments = |values: &[f64]| {
            let mut moments = Moments::default();
            moments.extend(values.iter().copied());
            moments
        };
        let differences: Vec<f64> = model_nll.iter().zip(&base_nll).map(|(a, b)| a - b).collect();
        let mut rest = differences.as_slice();
        let windows: Vec<(f64, u64)> = sizes
            .iter()
            .map(|&size| {
                let (window, after) = rest.split_at(size.min(rest.len()));
                rest = after;
                (window.iter().sum(), size as u64)
            })
            .collect();
        let (difference, divergence) = (moments(&differences), moments(&kld));
        let model = Perplexity::from_moments(&moments(&model_nll), sizes.len());
        let base = Perplexity::from_moments(&moments(&base_nll), sizes.len());
        let (ratio, ratio_se) = (difference.mean(), difference.standard_error());
        // var(a - b) = var(a) + var(b) - 2 cov(a, b), and all three are at hand.
        let covariance = 0.5 * (model.mean_nll_se.powi(2) + base.mean_nll_se.powi(2) - ratio_se.powi(2));
        let deviations = model.mean_nll_se * base.mean_nll_se;
        let ppl_variance = model.perplexity_se.powi(2) + base.perplexity_se.powi(2)
            - 2.0 * model.perplexity * base.perplexity * covariance;
        let delta_p = model_nll.iter().zip(&base_nll).map(|(a, b)| (-a).exp() - (-b).exp()).collect();
        let kld = Quantiles::of(kld);
        Comparison {
            model,
            base,
            mean_kld: divergence.mean(),
            mean_kld_se: divergence.standard_error(),
            max_kld: kld.max,
            kld,
            same_top1: same_top1.mean(),
            same_top1_se: same_top1.standard_error(),
            delta_p: DeltaP::of(delta_p),
            ln_ppl_ratio: ratio,
            ln_ppl_ratio_se: ratio_se,
            ppl_ratio: ratio.exp(),
            ppl_ratio_se: ratio.exp() * ratio_se,
            ppl_difference: model.perplexity - base.perplexity,
            ppl_difference_se: ppl_variance.max(0.0).sqrt(),
            correlation: if deviations > 0.0 { covariance / deviations } else { 0.0 },
            test: PairedTest::new(&windows),
        }
    }
}

impl DeltaP {
    fn of(values: Vec<f64>) -> Self {
        let (mut first, mut second) = (Moments::default(), Moments::default());
        first.extend(values.iter().copied());
        second.extend(values.iter().map(|x| x * x));
        let rms = second.mean().sqrt();
        let rms_se = if rms > 0.0 { 0.5 / rms * second.standard_error() } else { 0.0 };
        let (mean, mean_se) = (first.mean(), first.standard_error());
        Self { mean, mean_se, rms, rms_se, quantiles: Quantiles::of(values) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens() -> Tokens {
        let mut same_top1 = Moments::default();
        same_top1.extend([1.0, 0.0, 1.0, 1.0]);
        Tokens {
            model_nll: vec![1.0, 2.0, 4.0, 3.0],
            base_nll: vec![1.5, 1.0, 3.0, 2.5],
            kld: vec![0.1, 0.4, 0.2, 0.3],
            same_top1,
        }
    }

    #[test]
    fn statistics_by_hand() {
        let c = tokens().finish(&[2, 2]);
        assert!((c.model.mean_nll - 2.5).abs() < 1e-12 && (c.base.mean_nll - 2.0).abs() < 1e-12);
        // Differences -0.5, 1, 1, 0.5: mean 0.5, population variance 0.375, over 3.
        assert!((c.ln_ppl_ratio - 0.5).abs() < 1e-12);
        assert!((c.ln_ppl_ratio_se - (0.375f64 / 3.0).sqrt()).abs() < 1e-12);
        assert!((c.ppl_ratio - 0.5f64.exp()).abs() < 1e-12);
        // Deviations: model -1.5 -0.5 1.5 0.5; base -0.5 -1 1 0.5. Sum of products 3, of squares 5 and 2.5.
        assert!((c.correlation - 3.0 / (5.0f64 * 2.5).sqrt()).abs() < 1e-9, "{}", c.correlation);
        // cov of the means is 3 / 4 / 3; the delta method by its definition.
        let (p, q) = (2.5f64.exp(), 2f64.exp());
        let (var_p, var_q, cov) = (p * p * (5.0 / 12.0), q * q * (2.5 / 12.0), p * q * (3.0 / 12.0));
        assert!((c.ppl_difference - (p - q)).abs() < 1e-12);
        assert!((c.ppl_difference_se - (var_p + var_q - 2.0 * cov).sqrt()).abs() < 1e-9);
        assert!((c.mean_kld - 0.25).abs() < 1e-12 && c.max_kld == 0.4 && c.kld.min == 0.1);
        assert!((c.kld.median().value - 0.25).abs() < 1e-12);
        // p (1 - p) / (n - 1)
        assert!((c.same_top1_se - (0.75f64 * 0.25 / 3.0).sqrt()).abs() < 1e-12);
        // Windows sum to 0.5 and 1.5, residuals -0.5 and 0.5 around 2 x 0.5.
        let test = c.test.unwrap();
        assert!((test.se - (0.5f64 * 2.0).sqrt() / 4.0).abs() < 1e-12, "{test:?}");
        assert!(tokens().finish(&[4]).test.is_none());
    }

    #[test]
    fn delta_p_by_hand() {
        let d = DeltaP::of(vec![0.1, -0.3, 0.2]);
        assert!(d.mean.abs() < 1e-12);
        // Mean square 0.14 / 3; of the squares 0.01, 0.09, 0.04 the variance is 0.0033 / 3 - ...
        let mean_square: f64 = 0.14 / 3.0;
        assert!((d.rms - mean_square.sqrt()).abs() < 1e-12);
        let variance = (0.0001 + 0.0081 + 0.0016) / 3.0 - mean_square * mean_square;
        let expected = 0.5 / mean_square.sqrt() * (variance / 2.0).sqrt();
        assert!((d.rms_se - expected).abs() < 1e-12);
        assert_eq!((d.quantiles.min, d.quantiles.max), (-0.3, 0.2));
        assert_eq!(DeltaP::of(vec![0.0, 0.0]).rms_se, 0.0);
    }
}
