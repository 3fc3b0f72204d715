//! The Kullback-Leibler divergence of next-token distributions, to more digits than their log-probabilities have.
//!
//! `Σ p (ln p - ln q)` as a difference of sums of the size of an entropy loses what is smaller than their rounding: some
//! 1e-6 nats, and always in one direction, because rounded probabilities do not sum to 1. A single quantized matrix may
//! diverge by less. With `u = ln q - ln p` and `φ(u) = e^u - 1 - u`, which is positive, the divergence is
//! `Σ p φ(u)` for distributions that sum to 1. For rounded ones, with `S = Σ p` and `A = Σ p (e^u - 1)`, it is
//! `Σ p φ(u) / S + ln(1 + A / S) - A / S`: nothing in it cancels, and a small constant in `u`, the rounding of a logarithm,
//! changes nothing.

use burn::tensor::Tensor;

use crate::{error::Result, host, model::to_host, precision::Precision, values::HostValues, way::Way};

/// Below this the series of `φ` is used, above it its definition.
pub(crate) const SMALL: f32 = 0.5;

/// `φ(u) / u²` for small `u`, highest power first: `1 / 8!` down to `1 / 2!`.
pub(crate) const SERIES: [f32; 7] =
    [1.0 / 40320.0, 1.0 / 5040.0, 1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5];

/// Divergence of each row of `logits` from the distribution that `log_probs` holds, in nats: `[rows, vocab]` both, and
/// `log_sum_exp` `[rows, 1]` of the logits. NaN or infinite where an input is.
///
/// # Errors
/// When the device fails.
pub fn divergence(log_probs: &Tensor<2>, logits: &Tensor<2>, log_sum_exp: &Tensor<2>) -> Result<Vec<f64>> {
    let sums = match Way::of(&logits.device(), Precision::F32) {
        Way::Host => {
            let [p, x, lse] = [log_probs, logits, log_sum_exp].map(|tensor| HostValues::of(tensor.clone()));
            host::divergence_sums(&p?, &x?, &lse?, logits.dims()[1])
        }
        #[cfg(feature = "cuda")]
        Way::Cuda => {
            let sums = ramp_cuda::ops::divergence(log_probs.clone(), logits.clone(), log_sum_exp.clone());
            crate::model::bits_to_host(sums)?.as_chunks::<3>().0.to_vec()
        }
        Way::Burn => on_any_device(log_probs.clone(), logits.clone(), log_sum_exp.clone())?,
    };
    Ok(sums.into_iter().map(of_sums).collect())
}

/// From `S`, `Σ p u` and `Σ p φ(u)`.
fn of_sums([total, linear, rest]: [f64; 3]) -> f64 {
    let a = (rest + linear) / total;
    rest / total + (a.ln_1p() - a)
}

/// The three sums of each row, with operations that every device has.
fn on_any_device(log_probs: Tensor<2>, logits: Tensor<2>, log_sum_exp: Tensor<2>) -> Result<Vec<[f64; 3]>> {
    let p = log_probs.clone().exp();
    let u = logits - log_sum_exp - log_probs.clone();
    let near = u.clone().clamp(-SMALL, SMALL);
    let series = SERIES[1..]
        .iter()
        .fold(near.clone().zeros_like() + SERIES[0], |sum, &term| sum * near.clone() + term);
    let small = p.clone() * near.clone() * near * series;
    let linear = p.clone() * u.clone();
    let large = (log_probs + u.clone()).exp() - p.clone() - linear.clone();
    let rest = small.mask_where(u.abs().lower_equal_elem(SMALL).bool_not(), large);
    let sums = Tensor::cat(vec![p.sum_dim(1), linear.sum_dim(1), rest.sum_dim(1)], 1);
    Ok(to_host(sums)?.as_chunks::<3>().0.iter().map(|sums| sums.map(f64::from)).collect())
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;
    use crate::model::log_sum_exp;

    const VOCAB: usize = 700;

    fn waves(scale: f32, step: f32) -> Vec<f32> {
        (0..VOCAB).map(|i| (i as f32 * step).sin() * scale).collect()
    }

    /// Of two rows of logits, by definition, in f64.
    fn exact(base: &[f32], other: &[f32]) -> f64 {
        let log_probs = |x: &[f32]| -> Vec<f64> {
            let sum: f64 = x.iter().map(|&x| f64::from(x).exp()).sum();
            x.iter().map(|&x| f64::from(x) - sum.ln()).collect()
        };
        let (p, q) = (log_probs(base), log_probs(other));
        p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum()
    }

    fn rows(values: &[f32], device: &Device) -> Tensor<2> {
        Tensor::from_data(TensorData::new(values.to_vec(), [1, VOCAB]), device)
    }

    #[test]
    fn small_divergences_keep_their_digits() {
        let device = Device::flex();
        let base = waves(6.0, 0.37);
        for difference in [1e-4, 1e-3, 1e-2, 0.3, 3.0, 30.0] {
            let other: Vec<f32> = base.iter().zip(waves(difference, 1.3)).map(|(x, d)| x + 3.0 + d).collect();
            let expected = exact(&base, &other);
            let (logits, lse) = log_sum_exp(rows(&base, &device));
            let log_probs = logits - lse;
            let (logits, lse) = log_sum_exp(rows(&other, &device));
            let found = divergence(&log_probs, &logits, &lse).unwrap()[0];
            let any = on_any_device(log_probs.clone(), logits.clone(), lse.clone()).unwrap()[0];
            // Log-probabilities of f32 differ from those of f64 by some 1e-6.
            let close = 1e-5 + 1e-6 / f64::from(difference);
            for found in [found, of_sums(any)] {
                assert!((found / expected - 1.0).abs() < close, "{difference}: {found:e}, {expected:e}");
            }
            // The base itself, and with a sum that is off.
            for shift in [0.0, 1e-5] {
                let same =
                    divergence(&log_probs, &(log_probs.clone() + shift), &lse.zeros_like()).unwrap()[0];
                assert!(same.abs() < 1e-12, "{shift}: {same:e}");
            }
        }
    }

    #[test]
    fn what_is_not_finite_stays_so() {
        let device = Device::flex();
        let base = waves(2.0, 0.9);
        let (logits, lse) = log_sum_exp(rows(&base, &device));
        let log_probs = logits - lse;
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut other = base.clone();
            other[13] = bad;
            let (logits, lse) = log_sum_exp(rows(&other, &device));
            let found = divergence(&log_probs, &logits, &lse).unwrap()[0];
            assert!(!found.is_finite(), "{bad}: {found}");
        }
    }
}
