//! What llama.cpp's tools compute from logits, in the same precision and order.
//!
//! Upstream: `tools/perplexity/perplexity.cpp` (`log_softmax`, `process_logits`, the KL-divergence mode).

/// log-softmax of one row of logits at one token: `logits[token] - max - ln(sum(exp(logits - max)))`.
///
/// The exponentials are f32, their sum is f64, as in llama.cpp.
#[must_use]
pub fn log_prob(logits: &[f32], token: usize) -> f64 {
    let (max, log_sum) = log_sum_exp(logits);
    f64::from(logits[token] - max) - log_sum
}

/// Largest logit, and the log of the sum of exponentials relative to it.
fn log_sum_exp(logits: &[f32]) -> (f32, f64) {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&logit| f64::from((logit - max).exp())).sum();
    (max, sum.ln())
}

/// KL divergence in nats of one row's distribution from the base model's, `sum(p_base * ln(p_base / p))`.
#[must_use]
pub fn kl_divergence(base: &[f32], logits: &[f32]) -> f64 {
    let (base_max, base_log_sum) = log_sum_exp(base);
    let (max, log_sum) = log_sum_exp(logits);
    base.iter()
        .zip(logits)
        .map(|(&base, &logit)| {
            let base = f64::from(base - base_max) - base_log_sum;
            let log_prob = f64::from(logit - max) - log_sum;
            base.exp() * (base - log_prob)
        })
        .sum()
}

/// Index of the largest logit; the first of equals.
#[must_use]
pub fn argmax(logits: &[f32]) -> usize {
    let mut best = 0;
    for (token, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = token;
        }
    }
    best
}

/// Mean of a stream of values and its standard error, from sums of values and of squares in f64.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Moments {
    count: u64,
    sum: f64,
    sum_of_squares: f64,
}

impl Moments {
    /// Adds a value.
    pub fn push(&mut self, value: f64) {
        self.count += 1;
        self.sum += value;
        self.sum_of_squares += value * value;
    }

    /// How many values there were.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Mean; NaN without values.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.sum / self.count as f64
    }

    /// Standard error of the mean, `sqrt((E[x^2] - mean^2) / (count - 1))`; 0 below two values.
    #[must_use]
    pub fn standard_error(&self) -> f64 {
        if self.count < 2 {
            return 0.0;
        }
        let variance = self.sum_of_squares / self.count as f64 - self.mean() * self.mean();
        (variance.max(0.0) / (self.count - 1) as f64).sqrt()
    }
}

/// Cuts tokens into windows of `ctx`: the rest is dropped, BOS takes the place of each window's first token.
///
/// # Errors
/// With fewer than `2 * ctx` tokens (as `llama-perplexity`), a context that scores nothing, or zero windows.
pub fn windows(
    tokens: &[i32],
    ctx: usize,
    max_windows: Option<usize>,
    bos: Option<i32>,
) -> anyhow::Result<Vec<Vec<i32>>> {
    anyhow::ensure!(ctx >= 4, "a context of {ctx} tokens is too short: its second half predicts nothing");
    anyhow::ensure!(max_windows != Some(0), "zero windows leave nothing to evaluate");
    let n = tokens.len();
    anyhow::ensure!(n >= 2 * ctx, "the text has {n} tokens; a context of {ctx} needs at least {}", 2 * ctx);
    let mut windows: Vec<Vec<i32>> =
        tokens.chunks_exact(ctx).take(max_windows.unwrap_or(usize::MAX)).map(<[i32]>::to_vec).collect();
    if let Some(bos) = bos {
        windows.iter_mut().for_each(|window| window[0] = bos);
    }
    Ok(windows)
}

/// Position of the first prediction that counts: those of `ctx / 2 ..= ctx - 2` do.
#[must_use]
pub const fn first_scored(ctx: usize) -> usize {
    ctx / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_prob_is_the_log_of_softmax() {
        let logits = [0.0, 1.0, 2.0];
        let sum = 1.0 + 1f64.exp() + 2f64.exp();
        assert!((log_prob(&logits, 1) - (1f64.exp() / sum).ln()).abs() < 1e-7);
        // Far from zero the largest logit must be taken out first.
        let shifted = [1e4, 1e4 + 1.0, 1e4 + 2.0];
        assert!((log_prob(&shifted, 1) - log_prob(&logits, 1)).abs() < 1e-7);
    }

    #[test]
    fn divergence_is_zero_only_for_the_same_distribution() {
        let base = [0.5, -1.0, 2.0];
        let shifted = [1.5, 0.0, 3.0];
        assert!(kl_divergence(&base, &shifted).abs() < 1e-7);
        let other = [2.0, -1.0, 0.5];
        let expected: f64 =
            (0..3).map(|i| log_prob(&base, i).exp() * (log_prob(&base, i) - log_prob(&other, i))).sum();
        assert!(expected > 0.1);
        assert!((kl_divergence(&base, &other) - expected).abs() < 1e-12);
    }

    #[test]
    fn the_first_of_equal_logits_wins() {
        assert_eq!(argmax(&[1.0, 3.0, 3.0]), 1);
    }

    #[test]
    fn moments_match_a_hand_calculation() {
        let mut moments = Moments::default();
        [1.0, 2.0, 3.0, 6.0].into_iter().for_each(|x| moments.push(x));
        assert_eq!((moments.count(), moments.mean()), (4, 3.0));
        // E[x^2] = 12.5, variance 3.5, over 3.
        assert!((moments.standard_error() - (3.5f64 / 3.0).sqrt()).abs() < 1e-12);
        assert_eq!(Moments::default().standard_error(), 0.0);
    }

    #[test]
    fn windows_drop_the_rest_and_replace_the_first_token() {
        let tokens: Vec<i32> = (10..19).collect();
        assert_eq!(windows(&tokens, 4, None, Some(1)).unwrap(), [[1, 11, 12, 13], [1, 15, 16, 17]]);
        assert_eq!(windows(&tokens, 4, Some(1), None).unwrap(), [[10, 11, 12, 13]]);
        let error = windows(&tokens[..7], 4, None, None).unwrap_err().to_string();
        assert!(error.contains("7 tokens") && error.contains("at least 8"), "{error}");
        assert!(windows(&tokens, 3, None, None).is_err());
        assert!(windows(&tokens, 4, Some(0), None).is_err());
    }

    #[test]
    fn a_window_of_512_scores_255_tokens() {
        assert_eq!((first_scored(512)..=512 - 2).count(), 255);
    }
}
