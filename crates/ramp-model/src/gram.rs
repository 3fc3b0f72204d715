//! The Gram matrix of a layer's input: the Hessian of its squared output error.

/// Sum of `x xᵀ` over tokens, `[in, in]`, in f64: a sum over many tokens in f32 stops growing.
#[derive(Clone, Debug, PartialEq)]
pub struct Gram {
    width: usize,
    /// Row-major, symmetric.
    sum: Vec<f64>,
    count: u64,
}

impl Gram {
    /// Nothing seen yet.
    #[must_use]
    pub fn zeros(width: usize) -> Self {
        Self { width, sum: vec![0.0; width * width], count: 0 }
    }

    /// From a sum that was saved, `[width, width]`.
    pub(crate) const fn from_sum(width: usize, sum: Vec<f64>, count: u64) -> Self {
        Self { width, sum, count }
    }

    /// The sum, row-major `[width, width]`.
    pub(crate) fn sum(&self) -> &[f64] {
        &self.sum
    }

    /// Adds the sum of `x xᵀ` over `rows` tokens.
    ///
    /// # Panics
    /// When `gram` is not `[width, width]`.
    pub fn add(&mut self, gram: &[f32], rows: u64) {
        assert_eq!(gram.len(), self.sum.len(), "a Gram matrix of another width");
        for (sum, &x) in self.sum.iter_mut().zip(gram) {
            *sum += f64::from(x);
        }
        self.count += rows;
    }

    /// Input channels.
    #[must_use]
    pub const fn width(&self) -> usize {
        self.width
    }

    /// Tokens seen.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Mean of `x_i x_j` over the tokens.
    ///
    /// # Panics
    /// When `i` or `j` is not below the width.
    #[must_use]
    pub fn mean(&self, i: usize, j: usize) -> f64 {
        self.sum[i * self.width + j] / self.count.max(1) as f64
    }

    /// The matrix of `x * scale`, where the input is multiplied channel by channel.
    ///
    /// # Panics
    /// When `scale` is not `[width]`.
    #[must_use]
    pub fn scaled(&self, scale: &[f32]) -> Self {
        assert_eq!(scale.len(), self.width, "scales of another width");
        let mut sum = self.sum.clone();
        for (row, &a) in sum.chunks_exact_mut(self.width).zip(scale) {
            for (x, &b) in row.iter_mut().zip(scale) {
                *x *= f64::from(a) * f64::from(b);
            }
        }
        Self { sum, ..*self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_and_scales() {
        let mut gram = Gram::zeros(2);
        gram.add(&[1.0, 2.0, 2.0, 4.0], 1); // x = (1, 2)
        gram.add(&[9.0, -3.0, -3.0, 1.0], 1); // x = (3, -1)
        assert_eq!((gram.width(), gram.count()), (2, 2));
        assert_eq!((gram.mean(0, 0), gram.mean(0, 1), gram.mean(1, 1)), (5.0, -0.5, 2.5));
        let scaled = gram.scaled(&[2.0, 10.0]);
        assert_eq!((scaled.mean(0, 0), scaled.mean(1, 0), scaled.mean(1, 1)), (20.0, -10.0, 250.0));
    }
}
