//! Percentiles as llama.cpp's perplexity tool computes them, with standard errors.

use serde::{Deserialize, Serialize};

/// The percentages that `llama-perplexity` prints of divergences and probabilities; 50 is the median.
const PERCENTS: [f64; 11] = [0.1, 1.0, 5.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.9];

/// A percentile of many numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Quantile {
    /// Per cent of the numbers that are not larger.
    pub percent: f64,
    /// The percentile.
    pub value: f64,
    /// Standard error of `value`: half of the distance between the percentiles one binomial standard deviation
    /// below and above (Woodruff 1952). It needs no assumption about the distribution, and is wide where few
    /// numbers are.
    pub se: f64,
}

/// Percentiles of one number per token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Quantiles {
    /// The smallest number.
    pub min: f64,
    /// The 0.1, 1, 5, 10, 25, 50, 75, 90, 95, 99 and 99.9 per cent points.
    pub points: [Quantile; 11],
    /// The largest number.
    pub max: f64,
}

impl Quantiles {
    /// Of `values`, which are sorted for it; zeros of nothing.
    #[must_use]
    pub fn of(mut values: Vec<f64>) -> Self {
        values.sort_unstable_by(f64::total_cmp);
        let n = values.len() as f64;
        let mut points = [Quantile::default(); 11];
        for (point, percent) in points.iter_mut().zip(PERCENTS) {
            let f = percent / 100.0;
            let deviation = (f * (1.0 - f) / n.max(1.0)).sqrt();
            let (low, high) = (at(&values, f - deviation), at(&values, f + deviation));
            *point = Quantile { percent, value: at(&values, f), se: 0.5 * (high - low) };
        }
        Self { min: at(&values, 0.0), points, max: at(&values, 1.0) }
    }

    /// The median.
    #[must_use]
    pub const fn median(&self) -> Quantile {
        self.points[5]
    }
}

/// Linear interpolation at `fraction * (n - 1)` of sorted numbers.
fn at(sorted: &[f64], fraction: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let position = fraction.clamp(0.0, 1.0) * last as f64;
    let below = position as usize;
    let part = position - below as f64;
    (1.0 - part) * sorted[below] + part * sorted[(below + 1).min(last)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_interpolate() {
        // 0, 1, .., 100 in another order: the percentile is the per cent.
        let values: Vec<f64> = (0..101).map(|i| f64::from((i * 37) % 101)).collect();
        let quantiles = Quantiles::of(values);
        assert_eq!((quantiles.min, quantiles.max), (0.0, 100.0));
        for point in quantiles.points {
            assert!((point.value - point.percent).abs() < 1e-9, "{point:?}");
        }
        // One standard deviation of the median's rank is sqrt(0.25 / 101) of 100.
        let expected = 100.0 * (0.25f64 / 101.0).sqrt();
        assert!((quantiles.median().se - expected).abs() < 1e-9, "{:?}", quantiles.median());
        // 0.1 % of 101 numbers is at the edge: only the upper side is left.
        assert!(quantiles.points[0].se > 0.0 && quantiles.points[0].se < 1.0);
    }

    #[test]
    fn few_numbers_are_no_special_case() {
        let quantiles = Quantiles::of(vec![4.0, 1.0]);
        assert_eq!((quantiles.min, quantiles.median().value, quantiles.max), (1.0, 2.5, 4.0));
        assert_eq!(Quantiles::of(vec![7.0]).median(), Quantile { percent: 50.0, value: 7.0, se: 0.0 });
        assert_eq!(Quantiles::of(Vec::new()).median().value, 0.0);
    }
}
