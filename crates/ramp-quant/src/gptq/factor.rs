//! The Hessian, its order of columns and its factors.

use std::ops::Range;

use ramp_model::Gram;
use rayon::prelude::*;

use super::{GptqConfig, Lane, form::quadratic_form};
use crate::error::{Error, Result};

/// Columns of the panel that is factored at once.
const PANEL: usize = 64;
/// The least pivot relative to its diagonal element.
const PIVOT: f64 = 1e-13;
/// How often the damping is raised tenfold when the Hessian is singular all the same.
const MAX_RAISES: i32 = 4;

/// `E[x xᵀ]` of a layer's input, damped, and what rounding needs of it. Layers with the same input share it.
#[derive(Clone, Debug)]
pub struct Hessian {
    n: usize,
    /// Row-major `[in, in]`, damped.
    pub(crate) h: Vec<f32>,
    /// Mean of x² per input channel, not damped: the imatrix.
    pub(crate) mean_sq: Vec<f32>,
    /// Columns in the order of rounding, super-block by super-block.
    pub(crate) order: Vec<usize>,
    /// `feedback[i * n + j]` is `U_ji`, what the error of the `j`-th rounded column moves the `i`-th by, `j < i`.
    pub(crate) feedback: Vec<f32>,
    damping: f64,
}

impl Hessian {
    /// Orders the columns and factors the matrix. `block` is the number of consecutive columns that share scales;
    /// they are rounded together.
    ///
    /// A matrix that stays singular with the configured damping is damped more; [`Hessian::damping`] says how
    /// much.
    ///
    /// # Errors
    /// When the configuration is out of range, the width is no whole number of blocks, or the matrix holds NaN or
    /// infinity or is not positive semidefinite.
    pub fn new(gram: &Gram, block: usize, config: &GptqConfig) -> Result<Self> {
        config.validate()?;
        let n = gram.width();
        if block == 0 || !n.is_multiple_of(block) {
            return Err(Error::HessianWidth { width: n, block });
        }
        let diagonal: Vec<f64> = (0..n).map(|i| gram.mean(i, i)).collect();
        let mean = diagonal.iter().sum::<f64>() / n.max(1) as f64;
        if !mean.is_finite() {
            return Err(Error::Hessian { width: n });
        }
        let order = order(&diagonal, block, config.act_order);
        // An input that never fires: any rounding is right.
        let mean = if mean > 0.0 { mean } else { 1.0 };
        for raise in 0..=MAX_RAISES {
            let damping = config.damping * 10.0_f64.powi(raise);
            let damped = |i: usize, j: usize| gram.mean(i, j) + if i == j { damping * mean } else { 0.0 };
            // Reversed, because `U` is upper triangular in the order of rounding.
            let at = |a: usize| order[n - 1 - a];
            let mut l: Vec<f64> = square(n, |i, j| damped(at(i), at(j)));
            if !cholesky(&mut l, n) {
                continue;
            }
            let feedback = square(n, |i, j| {
                let column = n - 1 - i;
                if j < i { (l[(n - 1 - j) * n + column] / l[column * n + column]) as f32 } else { 0.0 }
            });
            let h = square(n, |i, j| damped(i, j) as f32);
            let mean_sq = diagonal.iter().map(|&x| x as f32).collect();
            return Ok(Self { n, h, mean_sq, order, feedback, damping });
        }
        Err(Error::Hessian { width: n })
    }

    /// Input channels.
    #[must_use]
    pub const fn width(&self) -> usize {
        self.n
    }

    /// The damping that was needed, as a share of the mean of the diagonal.
    #[must_use]
    pub const fn damping(&self) -> f64 {
        self.damping
    }

    /// Adds `Σ_j e_j U_ji` over rounded columns `j` to the `i`-th column in the order; `error` is by column.
    #[inline(always)]
    pub(crate) fn add_feedback(&self, w: &mut Lane, error: &[Lane], i: usize, rounded: Range<usize>) {
        let factors = &self.feedback[i * self.n..][rounded.clone()];
        for (&column, &factor) in self.order[rounded].iter().zip(factors) {
            for (w, e) in w.iter_mut().zip(&error[column]) {
                *w += factor * e;
            }
        }
    }

    /// `tr(E H Eᵀ)` of an error `[out, in]`: the squared error of the layer's output, summed over its channels.
    #[must_use]
    pub fn loss(&self, error: &[f32]) -> f64 {
        quadratic_form(&self.h, self.n, error)
    }
}

/// Row-major `[n, n]`, by row and column.
fn square<T: Default + Clone + Send>(n: usize, at: impl Fn(usize, usize) -> T + Sync) -> Vec<T> {
    let mut values = vec![T::default(); n * n];
    values
        .par_chunks_mut(n.max(1))
        .enumerate()
        .for_each(|(i, row)| row.iter_mut().enumerate().for_each(|(j, value)| *value = at(i, j)));
    values
}

/// Blocks in their order or by falling trace, columns of a block by falling diagonal.
fn order(diagonal: &[f64], block: usize, act_order: bool) -> Vec<usize> {
    let mut blocks: Vec<Vec<usize>> =
        (0..diagonal.len() / block).map(|b| (b * block..(b + 1) * block).collect()).collect();
    if act_order {
        let trace = |columns: &[usize]| columns.iter().map(|&c| diagonal[c]).sum::<f64>();
        blocks.sort_by(|a, b| trace(b).total_cmp(&trace(a)));
        for columns in &mut blocks {
            columns.sort_by(|&a, &b| diagonal[b].total_cmp(&diagonal[a]));
        }
    }
    blocks.concat()
}

/// Replaces the lower triangle of a symmetric matrix by its Cholesky factor; `false` when it has none.
///
/// Left-looking by panels; every element is one sum in a fixed order, whatever the number of threads.
fn cholesky(a: &mut [f64], n: usize) -> bool {
    for start in (0..n).step_by(PANEL) {
        let end = (start + PANEL).min(n);
        // The panel's own rows first: the rows below need its triangle.
        for i in start..end {
            for j in start..=i {
                let (row_i, row_j) = (&a[i * n..i * n + j], &a[j * n..j * n + j]);
                let rest = a[i * n + j] - dot(row_i, row_j);
                if i == j {
                    // A pivot that is all rounding error counts as none.
                    if !(rest > a[i * n + i] * PIVOT && rest.is_finite()) {
                        return false;
                    }
                    a[i * n + i] = rest.sqrt();
                } else {
                    a[i * n + j] = rest / a[j * n + j];
                }
            }
        }
        let (done, below) = a.split_at_mut(end * n);
        below.par_chunks_mut(n).for_each(|row| {
            for j in start..end {
                let rest = row[j] - dot(&row[..j], &done[j * n..j * n + j]);
                row[j] = rest / done[j * n + j];
            }
        });
    }
    true
}

/// Scalar product with eight running sums, which vectorises and has one fixed order.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let ((a8, a_rest), (b8, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let mut sums = [0.0; 8];
    for (a, b) in a8.iter().zip(b8) {
        for lane in 0..8 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f64>() + rest
}
