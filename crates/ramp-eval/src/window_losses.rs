//! What a model lost in each window, to compare models that were not run side by side.

use serde::{Deserialize, Serialize};

use crate::significance::PairedTest;

/// Sum of the negative log-likelihoods and number of tokens of each window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WindowLosses(Vec<(f64, u64)>);

impl WindowLosses {
    /// From the losses of all tokens and the number of tokens of each window.
    pub(crate) fn new(nll: &[f64], sizes: &[usize]) -> Self {
        let mut rest = nll;
        let windows = sizes.iter().map(|&size| {
            let (window, after) = rest.split_at(size.min(rest.len()));
            rest = after;
            (window.iter().sum(), size as u64)
        });
        Self(windows.collect())
    }

    /// `ln PPL(self) - ln PPL(other)` and whether it is more than chance; `None` below two windows, or when the windows
    /// are not the same.
    #[must_use]
    pub fn against(&self, other: &Self) -> Option<(f64, PairedTest)> {
        if self.0.len() != other.0.len() || self.0.iter().zip(&other.0).any(|(a, b)| a.1 != b.1) {
            return None;
        }
        let differences: Vec<(f64, u64)> =
            self.0.iter().zip(&other.0).map(|(a, b)| (a.0 - b.0, a.1)).collect();
        let tokens: u64 = differences.iter().map(|window| window.1).sum();
        let mean = differences.iter().map(|window| window.0).sum::<f64>() / tokens.max(1) as f64;
        Some((mean, PairedTest::new(&differences)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Verdict;

    #[test]
    fn windows_are_compared_in_pairs() {
        let a = WindowLosses::new(&[1.0, 2.0, 4.0, 3.0, 2.0, 2.0], &[2, 2, 2]);
        let b = WindowLosses::new(&[1.5, 2.5, 4.5, 3.5, 2.5, 2.6], &[2, 2, 2]);
        let (mean, test) = a.against(&b).unwrap();
        assert!((mean + 3.1 / 6.0).abs() < 1e-12);
        assert_eq!(test.verdict, Verdict::Better);
        assert_eq!(b.against(&a).unwrap().1.verdict, Verdict::Worse);
        assert_eq!(a.against(&WindowLosses::new(&[1.0; 6], &[3, 3])), None);
        assert_eq!(a.against(&WindowLosses::new(&[1.0; 6], &[1, 2, 3])), None);
    }
}
