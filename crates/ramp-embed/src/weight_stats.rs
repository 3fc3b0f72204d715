//! Moments of a weight matrix.

use rayon::prelude::*;

/// Weights that one thread sums.
const PART: usize = 1 << 14;

/// Moments over all weights of a matrix.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct WeightStats {
    pub(crate) mean: f64,
    /// Population standard deviation.
    pub(crate) std: f64,
    /// Mean of |w|.
    pub(crate) mean_abs: f64,
}

impl WeightStats {
    /// Of weights in host memory, in f64 and in one order, so that an agent reads the same features whatever the model runs
    /// on.
    pub(crate) fn of(weight: &[f32]) -> Self {
        let n = weight.len().max(1) as f64;
        let [sum, sum_abs] = sums(weight, |w| [w, w.abs()]);
        let mean = sum / n;
        let [squares, _] = sums(weight, |w| [(w - mean).powi(2), 0.0]);
        Self { mean, std: (squares / n).sqrt(), mean_abs: sum_abs / n }
    }

    /// E[(w - mean)^4] / std^4: 3 for a Gaussian, more with outliers. A matrix of one number has 3.
    pub(crate) fn kurtosis(self, weight: &[f32]) -> f64 {
        if self.std == 0.0 {
            return 3.0;
        }
        let [fourth, _] = sums(weight, |w| [((w - self.mean) / self.std).powi(4), 0.0]);
        fourth / weight.len().max(1) as f64
    }
}

/// Two sums over all weights, part by part in their order, whichever thread summed a part.
fn sums(weight: &[f32], of: impl Fn(f64) -> [f64; 2] + Sync) -> [f64; 2] {
    let add = |[a, b]: [f64; 2], [c, d]: [f64; 2]| [a + c, b + d];
    let part = |part: &[f32]| part.iter().map(|&w| of(f64::from(w))).fold([0.0; 2], add);
    let parts: Vec<[f64; 2]> = weight.par_chunks(PART).map(part).collect();
    parts.into_iter().fold([0.0; 2], add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_by_hand() {
        let stats = WeightStats::of(&[1.0, -1.0, 3.0, 5.0]); // mean 2, deviations -1, -3, 1, 3
        assert!((stats.std - 5f64.sqrt()).abs() < 1e-6);
        assert_eq!((stats.mean, stats.mean_abs), (2.0, 2.5));
    }

    #[test]
    fn kurtosis_by_hand() {
        let weight = [1.0, -1.0, 3.0, 5.0];
        // Deviations -1, -3, 1, 3: fourth powers 1, 81, 1, 81 over 4, variance 5.
        assert!((WeightStats::of(&weight).kurtosis(&weight) - 41.0 / 25.0).abs() < 1e-5);
        let constant = [0.5; 4];
        assert_eq!(WeightStats::of(&constant).kurtosis(&constant), 3.0);
    }

    #[test]
    fn a_large_mean_does_not_swallow_the_deviation() {
        let weight: Vec<f32> = (0..1 << 16).map(|i| if i % 2 == 0 { 1000.0 } else { 1000.5 }).collect();
        let stats = WeightStats::of(&weight);
        assert!((stats.std - 0.25).abs() < 1e-4, "{}", stats.std);
    }
}
