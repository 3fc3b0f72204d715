//! The published post-training methods that allocations are compared with, one file each.
//!
//! A method takes matrices `[out, in]` and the statistics of their common input, and gives what is left of the
//! weights and the exact number of bytes. Nothing here needs a model; [`apply`] runs a [`Method`] on a whole one, where
//! inputs may come from what is quantized already, and AWQ searches for the output of attention or of the feed-forward
//! network.
//!
//! | method | file | statistics | what it stores |
//! |---|---|---|---|
//! | RTN | [`rtn()`] | none | codes, scales, zero points |
//! | GPTQ | [`gptq_affine`] | Gram matrix | the same; an index for act-order without static groups |
//! | AWQ | [`awq()`] | Gram matrix, mean of \|x\| | the same; channel scales fold into the layer before |
//! | SmoothQuant | [`smoothquant()`] | largest \|x\| | the same |
//! | SqueezeLLM | [`squeezellm()`] | mean of x² | codes, a table a row, sparse outliers |
//! | QuIP# essentials | [`quip()`] | Gram matrix | codes, scales, zero points, a sign per channel |
//! | LRQ | [`lrq()`], [`lrq_by`] | Gram matrix, or a block's output | codes, scales, zero points |
//!
//! All are deterministic: the same input gives the same bits on any number of threads.

mod awq;
mod blockwise;
mod gptq;
mod kmeans;
mod lrq;
mod method;
mod model;
mod output_error;
mod quip;
mod random;
mod rotation;
mod rtn;
mod smoothquant;
mod squeezellm;

use ramp_model::{ChannelStats, Gram};

pub use self::{
    awq::{Awq, AwqConfig, awq, awq_by},
    gptq::{GptqAffineConfig, gptq_affine},
    lrq::{LrqConfig, lrq, lrq_by},
    method::{Inputs, Kind, Method},
    model::{Applied, AppliedLayer, apply},
    output_error::OutputError,
    quip::{QuipConfig, quip},
    rtn::rtn,
    smoothquant::{Smoothed, SmoothquantConfig, smoothquant},
    squeezellm::{SqueezellmConfig, squeezellm},
};
use crate::{
    affine::first_non_finite,
    error::{Error, Result},
    quantize::check_length,
};

/// A weight matrix.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    /// Row-major `[out, in]`.
    pub weight: &'a [f32],
    /// `[out, in]`.
    pub shape: [usize; 2],
}

impl<'a> Matrix<'a> {
    /// A matrix with finite weights.
    ///
    /// # Errors
    /// When the slice does not have the shape's length, or a weight is NaN or infinite.
    pub fn new(weight: &'a [f32], shape: [usize; 2]) -> Result<Self> {
        check_length(weight, shape)?;
        first_non_finite(weight, shape)?;
        Ok(Self { weight, shape })
    }

    /// Every column `j` multiplied by `scale[j]`.
    fn times_columns(&self, scale: &[f32]) -> Vec<f32> {
        self.weight.iter().zip(scale.iter().cycle()).map(|(w, s)| w * s).collect()
    }
}

/// Statistics of a layer's input, per input channel.
#[derive(Clone, Copy, Debug)]
pub struct Calibration<'a> {
    /// Sums of `x_i x_j`.
    pub gram: &'a Gram,
    /// Mean of \|x\|, `[in]`.
    pub mean_abs: &'a [f32],
    /// Largest \|x\|, `[in]`.
    pub max_abs: &'a [f32],
}

impl<'a> Calibration<'a> {
    /// Statistics that belong together and are possible.
    ///
    /// # Errors
    /// When the widths differ, or a mean or maximum is negative, NaN or infinite. The Gram matrix is checked where it
    /// is used.
    pub fn new(gram: &'a Gram, mean_abs: &'a [f32], max_abs: &'a [f32]) -> Result<Self> {
        for (what, values) in [("mean of |x|", mean_abs), ("largest |x|", max_abs)] {
            if values.len() != gram.width() {
                return Err(Error::CalibrationWidth { what, expected: gram.width(), found: values.len() });
            }
            if let Some(channel) = values.iter().position(|x| !(x.is_finite() && *x >= 0.0)) {
                return Err(Error::CalibrationValue { what, channel, value: values[channel] });
            }
        }
        Ok(Self { gram, mean_abs, max_abs })
    }

    /// The statistics of a calibration pass.
    ///
    /// # Errors
    /// As [`Calibration::new`].
    pub fn of(stats: &'a ChannelStats, gram: &'a Gram) -> Result<Self> {
        Self::new(gram, &stats.mean_abs, &stats.max_abs)
    }

    /// Checks that a matrix has this input.
    fn check(&self, matrix: &Matrix<'_>) -> Result<()> {
        let (expected, found) = (matrix.shape[1], self.gram.width());
        if expected == found {
            return Ok(());
        }
        Err(Error::CalibrationWidth { what: "Gram matrix", expected, found })
    }
}

/// The diagonal of a Gram matrix: the imatrix.
fn mean_sq(gram: &Gram) -> Result<Vec<f32>> {
    let mean_sq: Vec<f32> = (0..gram.width()).map(|i| gram.mean(i, i) as f32).collect();
    match mean_sq.iter().position(|h| !(h.is_finite() && *h >= 0.0)) {
        Some(channel) => {
            Err(Error::CalibrationValue { what: "mean of x²", channel, value: mean_sq[channel] })
        }
        None => Ok(mean_sq),
    }
}

/// What a method leaves of a matrix.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The weights that the stored bytes stand for, row-major `[out, in]`, for the layer's original input.
    pub dequantized: Vec<f32>,
    /// Bytes that have to be stored, all of them.
    pub bytes: u64,
    /// The damping of the Hessian, where it had to be raised because the Hessian is singular.
    pub raised_damping: Option<f64>,
}

impl Outcome {
    const fn new(dequantized: Vec<f32>, bytes: u64) -> Self {
        Self { dequantized, bytes, raised_damping: None }
    }

    /// Bits per weight.
    #[must_use]
    pub fn bits_per_weight(&self) -> f64 {
        8.0 * self.bytes as f64 / self.dequantized.len() as f64
    }
}
