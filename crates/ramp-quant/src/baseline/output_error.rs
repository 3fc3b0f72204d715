//! The squared error of a layer's output, from the Gram matrix of its input.

use pulp::Arch;
use ramp_model::Gram;
use rayon::prelude::*;

use crate::{
    error::{Error, Result},
    gptq::{ROWS, lanes, product, quadratic_form},
};

/// `E[|(W - Ŵ) x|²] = tr(E H Eᵀ)` with `H = E[x xᵀ]`, and its gradient.
#[derive(Clone, Debug)]
pub struct OutputError {
    n: usize,
    /// Row-major `[in, in]`.
    h: Vec<f32>,
}

impl OutputError {
    /// From the Gram matrix of the layer's input.
    ///
    /// # Errors
    /// When the matrix holds NaN or infinity.
    pub fn new(gram: &Gram) -> Result<Self> {
        let n = gram.width();
        let h: Vec<f32> = (0..n * n).map(|k| gram.mean(k / n, k % n) as f32).collect();
        if h.iter().any(|h| !h.is_finite()) {
            return Err(Error::Hessian { width: n });
        }
        Ok(Self { n, h })
    }

    /// Input channels.
    #[must_use]
    pub const fn width(&self) -> usize {
        self.n
    }

    /// Squared error of the output, summed over its channels, for weights that are off by `error`, `[out, in]`.
    #[must_use]
    pub fn of(&self, error: &[f32]) -> f64 {
        quadratic_form(&self.h, self.n, error)
    }

    /// Squared error of the output when `weight` becomes `dequantized`.
    #[must_use]
    pub fn between(&self, weight: &[f32], dequantized: &[f32]) -> f64 {
        let error: Vec<f32> = weight.iter().zip(dequantized).map(|(w, q)| w - q).collect();
        self.of(&error)
    }

    /// `E H`, row-major `[out, in]`: half of the gradient.
    pub(super) fn times(&self, error: &[f32]) -> Vec<f32> {
        let n = self.n;
        let mut products = vec![0.0; error.len()];
        products.par_chunks_mut(ROWS * n).zip(error.par_chunks(ROWS * n)).for_each(|(products, error)| {
            let e = lanes(error, n);
            Arch::new().dispatch(|| {
                for (i, h) in self.h.chunks_exact(n).enumerate() {
                    let g = product(h, &e);
                    for (row, g) in products.chunks_exact_mut(n).zip(g) {
                        row[i] = g;
                    }
                }
            });
        });
        products
    }

    /// `H` of some consecutive channels, for `i` and `j` in `start..start + len`.
    pub(super) fn block(&self, start: usize, len: usize) -> impl Iterator<Item = &[f32]> {
        (start..start + len).map(move |i| &self.h[i * self.n + start..][..len])
    }
}

/// `a · b` in lanes of a fixed number, so that the order of additions is one on every CPU.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 16];
    let (a, b) = (a.as_chunks::<16>(), b.as_chunks::<16>());
    for (a, b) in a.0.iter().zip(b.0) {
        for (lane, (a, b)) in lanes.iter_mut().zip(a.iter().zip(b)) {
            *lane += a * b;
        }
    }
    lanes.iter().sum::<f32>() + a.1.iter().zip(b.1).map(|(a, b)| a * b).sum::<f32>()
}
