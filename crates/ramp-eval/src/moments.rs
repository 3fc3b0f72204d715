//! Mean and standard error of per-token numbers.

use serde::{Deserialize, Serialize};

/// Count, sum and sum of squares, in f64.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Moments {
    count: u64,
    sum: f64,
    sum_sq: f64,
}

impl Moments {
    /// Adds one number.
    pub fn push(&mut self, x: f64) {
        self.count += 1;
        self.sum += x;
        self.sum_sq += x * x;
    }

    /// How many numbers there are.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// The mean; 0 of nothing.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.sum / self.count.max(1) as f64
    }

    /// Standard error of the mean, `sqrt((E[x²] - E[x]²) / (n - 1))` as llama.cpp's perplexity tool; 0 below
    /// two numbers.
    #[must_use]
    pub fn standard_error(&self) -> f64 {
        if self.count < 2 {
            return 0.0;
        }
        let mean = self.mean();
        let variance = (self.sum_sq / self.count as f64 - mean * mean).max(0.0);
        (variance / (self.count - 1) as f64).sqrt()
    }
}

impl Extend<f64> for Moments {
    fn extend<I: IntoIterator<Item = f64>>(&mut self, numbers: I) {
        numbers.into_iter().for_each(|x| self.push(x));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mean_and_error_of_four_numbers() {
        let mut moments = Moments::default();
        moments.extend([1.0, 2.0, 3.0, 6.0]);
        assert_eq!(moments.mean(), 3.0);
        // Population variance 3.5, over n - 1 = 3.
        assert!((moments.standard_error() - (3.5f64 / 3.0).sqrt()).abs() < 1e-12);
        assert_eq!(Moments::default().mean(), 0.0);
        assert_eq!(Moments::default().standard_error(), 0.0);
    }
}
