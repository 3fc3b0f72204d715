//! A random rotation that is fast and can be undone.

use super::random::SplitMix;

/// Random signs, then an orthogonal transform that spreads every channel over all: `R = (C ⊗ H) diag(signs)`.
///
/// A width `2^k m`, `m` odd, takes the Walsh-Hadamard transform `H` of `2^k` and the cosine transform `C` (DCT-II) of `m`;
/// widths that are powers of two, the common case, take Hadamard's alone. (QuIP# has Hadamard matrices of some other
/// orders in tables.)
#[derive(Clone, Debug)]
pub(super) struct Rotation {
    signs: Vec<f32>,
    /// Width of the Hadamard transform.
    power: usize,
    /// Row-major `[m, m]`.
    cosine: Vec<f64>,
    m: usize,
}

impl Rotation {
    pub(super) fn new(n: usize, random: &mut SplitMix) -> Self {
        let power = 1usize << n.trailing_zeros();
        let m = n / power;
        let cosine = |k: usize, j: usize| {
            let angle = std::f64::consts::PI * (2 * j + 1) as f64 * k as f64 / (2 * m) as f64;
            let norm = if k == 0 { 1.0 } else { 2.0 };
            (norm / m as f64).sqrt() * angle.cos()
        };
        let cosine = (0..m * m).map(|at| cosine(at / m, at % m)).collect();
        Self { signs: (0..n).map(|_| random.sign()).collect(), power, cosine, m }
    }

    /// `R x`, in place.
    pub(super) fn apply(&self, x: &mut [f64]) {
        x.iter_mut().zip(&self.signs).for_each(|(x, s)| *x *= f64::from(*s));
        self.spread(x, |cosine, k, j| cosine[k * self.m + j]);
    }

    /// `Rᵀ x`, in place.
    pub(super) fn undo(&self, x: &mut [f64]) {
        self.spread(x, |cosine, k, j| cosine[j * self.m + k]);
        x.iter_mut().zip(&self.signs).for_each(|(x, s)| *x *= f64::from(*s));
    }

    /// `C ⊗ H`, or with a transposed `C`.
    fn spread(&self, x: &mut [f64], cosine: impl Fn(&[f64], usize, usize) -> f64) {
        x.chunks_exact_mut(self.power).for_each(hadamard);
        if self.m > 1 {
            let before = x.to_vec();
            for (k, x) in x.chunks_exact_mut(self.power).enumerate() {
                x.fill(0.0);
                for (j, before) in before.chunks_exact(self.power).enumerate() {
                    let c = cosine(&self.cosine, k, j);
                    x.iter_mut().zip(before).for_each(|(x, b)| *x += c * b);
                }
            }
        }
    }

    /// Applies `rotate` to every row of a matrix `[rows, n]`, in parallel.
    pub(super) fn rows(matrix: &mut [f64], n: usize, rotate: impl Fn(&mut [f64]) + Sync + Send) {
        use rayon::prelude::*;
        matrix.par_chunks_mut(n).for_each(rotate);
    }
}

/// The transpose of a matrix `[rows, columns]`.
pub(super) fn transposed(matrix: &[f64], columns: usize) -> Vec<f64> {
    let rows = matrix.len() / columns;
    (0..matrix.len()).map(|at| matrix[at % rows * columns + at / rows]).collect()
}

/// The orthonormal Walsh-Hadamard transform of a power of two, in place.
fn hadamard(x: &mut [f64]) {
    let n = x.len();
    let mut half = 1;
    while half < n {
        for pair in x.chunks_exact_mut(2 * half) {
            let (a, b) = pair.split_at_mut(half);
            for (a, b) in a.iter_mut().zip(b) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        half *= 2;
    }
    let norm = (n as f64).sqrt().recip();
    x.iter_mut().for_each(|x| *x *= norm);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotations_keep_lengths_and_can_be_undone() {
        for n in [1, 2, 8, 12, 15, 768] {
            let rotation = Rotation::new(n, &mut SplitMix(3));
            let x: Vec<f64> = (0..n).map(|i| (i as f64 * 0.7).sin() + 0.1).collect();
            let mut y = x.clone();
            rotation.apply(&mut y);
            let norm = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>();
            assert!((norm(&x) - norm(&y)).abs() < 1e-9 * norm(&x), "{n}");
            rotation.undo(&mut y);
            assert!(x.iter().zip(&y).all(|(x, y)| (x - y).abs() < 1e-12), "{n}");
        }
    }

    #[test]
    fn one_channel_is_spread_over_all() {
        for n in [256, 768] {
            let rotation = Rotation::new(n, &mut SplitMix(4));
            let mut x = vec![0.0; n];
            x[n / 3] = 1.0;
            rotation.apply(&mut x);
            // Hadamard's entries are 1/sqrt(n), the cosine's at most sqrt(2) times that.
            let largest = x.iter().fold(0.0f64, |a, x| a.max(x.abs()));
            assert!(largest <= (2.0 / n as f64).sqrt() + 1e-12, "{n}: {largest}");
        }
    }
}
