//! Fused row operations for models in host memory.
//!
//! A tensor library runs `x * scale * weight` as several passes over memory, each with a buffer of its own, and
//! takes exponentials one by one. On a CPU such passes cost as much as the matrix products between them. The
//! functions here work on the tensor's own buffer (nothing is copied where nobody else holds it), a row at a time,
//! vectorised for the CPU at hand. Rows are independent and reduced in a fixed order, so that results do not depend
//! on the number of threads.

use std::borrow::Cow;

use burn::tensor::{Device, Tensor, TensorData};
use pulp::Arch;
use rayon::prelude::*;

use crate::divergence::{SERIES, SMALL};

/// Elements that one task of the thread pool works on, about: enough to pay for the task.
const TASK: usize = 1 << 14;
/// Accumulators of a sum: a fixed number, so that the order of additions is one on every CPU.
const LANES: usize = 16;

/// Whether tensors of `device` are plain memory of this process.
pub(crate) fn is_host(device: &Device) -> bool {
    #[cfg(feature = "flex")]
    if *device == Device::flex() && !device.is_autodiff() {
        return true;
    }
    let _ = device;
    false
}

/// Runs `f` on groups of whole rows of `width` elements, in parallel; `f` is told the index of its first row.
pub(crate) fn rows_in_place<const D: usize>(
    tensor: Tensor<D>,
    width: usize,
    f: impl Fn(usize, &mut [f32]) + Sync,
) -> Tensor<D> {
    let (device, shape) = (tensor.device(), tensor.shape());
    let mut data = tensor.into_data();
    let rows = (TASK / width.max(1)).max(1);
    let run = |values: &mut [f32]| {
        values.par_chunks_mut(rows * width).enumerate().for_each(|(task, chunk)| f(task * rows, chunk));
    };
    let done = data.as_mut_slice::<f32>().map(run).is_ok();
    if !done {
        // Another type of float, or a buffer that f32 cannot be read from in place.
        let mut values: Vec<f32> = data.iter::<f32>().collect();
        run(&mut values);
        data = TensorData::new(values, shape);
    }
    Tensor::from_data(data, &device)
}

/// The values of a tensor's data, in place where they are f32.
pub(crate) fn values(data: &TensorData) -> Cow<'_, [f32]> {
    match data.as_slice::<f32>() {
        Ok(values) => Cow::Borrowed(values),
        Err(_) => Cow::Owned(data.iter::<f32>().collect()),
    }
}

/// `x / rms(x) * weight` of each row.
pub(crate) fn rms_norm(x: Tensor<2>, weight: Tensor<1>, eps: f32) -> Tensor<2> {
    let width = x.dims()[1];
    let weight = weight.into_data();
    let weight = values(&weight);
    rows_in_place(x, width, |_, rows| {
        Arch::new().dispatch(|| {
            for row in rows.chunks_exact_mut(width) {
                let mean_square = sum(row, |x| x * x) / width as f32;
                let scale = (mean_square + eps).sqrt().recip();
                row.iter_mut().zip(weight.iter()).for_each(|(x, w)| *x = *x * scale * w);
            }
        });
    })
}

/// `(x - mean(x)) / std(x) * weight + bias` of each row.
pub(crate) fn layer_norm(x: Tensor<2>, weight: Tensor<1>, bias: Tensor<1>, eps: f32) -> Tensor<2> {
    let width = x.dims()[1];
    let (weight, bias) = (weight.into_data(), bias.into_data());
    let (weight, bias) = (values(&weight), values(&bias));
    rows_in_place(x, width, |_, rows| {
        Arch::new().dispatch(|| {
            for row in rows.chunks_exact_mut(width) {
                let mean = sum(row, |x| x) / width as f32;
                let variance = sum(row, |x| (x - mean) * (x - mean)) / width as f32;
                let scale = (variance + eps).sqrt().recip();
                let affine = weight.iter().zip(bias.iter());
                row.iter_mut().zip(affine).for_each(|(x, (w, b))| *x = (*x - mean) * scale * w + b);
            }
        });
    })
}

/// `silu(gate) * up`.
pub(crate) fn swiglu(gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
    let width = gate.dims()[1];
    let up = up.into_data();
    let up = values(&up);
    rows_in_place(gate, width, |first, rows| {
        let up = &up[first * width..][..rows.len()];
        Arch::new().dispatch(|| {
            rows.iter_mut().zip(up).for_each(|(gate, up)| *gate = *gate / (1.0 + exp(-*gate)) * up);
        });
    })
}

/// GELU in its tanh form, `x sigmoid(2 sqrt(2 / pi) (x + 0.044715 x^3))`.
pub(crate) fn gelu_tanh(x: Tensor<2>) -> Tensor<2> {
    let width = x.dims()[1];
    rows_in_place(x, width, |_, rows| {
        Arch::new().dispatch(|| {
            for x in rows.iter_mut() {
                let inner = GELU_SLOPE * (*x + GELU_CUBE * *x * *x * *x);
                *x /= 1.0 + exp(-inner);
            }
        });
    })
}

/// `2 sqrt(2 / pi)`.
pub(crate) const GELU_SLOPE: f32 = 1.595_769_2;
/// Hendrycks and Gimpel, arXiv 1606.08415, section 2.
pub(crate) const GELU_CUBE: f32 = 0.044_715;

/// `x + bias` for each row.
pub(crate) fn add_bias(x: Tensor<2>, bias: Tensor<1>) -> Tensor<2> {
    let width = x.dims()[1];
    let bias = bias.into_data();
    let bias = values(&bias);
    rows_in_place(x, width, |_, rows| {
        for row in rows.chunks_exact_mut(width) {
            row.iter_mut().zip(bias.iter()).for_each(|(x, b)| *x += b);
        }
    })
}

/// `ln sum exp` of each row, `[rows, 1]`, and the rows themselves, untouched.
pub(crate) fn log_sum_exp(x: Tensor<2>) -> (Tensor<2>, Tensor<2>) {
    let [rows, width] = x.dims();
    let device = x.device();
    let data = x.into_data();
    let result: Vec<f32> = values(&data)
        .par_chunks_exact(width)
        .map(|row| {
            Arch::new().dispatch(|| {
                let max = max(row);
                max + sum(row, |x| exp(x - max)).ln()
            })
        })
        .collect();
    (Tensor::from_data(data, &device), Tensor::from_data(TensorData::new(result, [rows, 1]), &device))
}

/// `Σ p`, `Σ p u` and `Σ p φ(u)` of each row, for `ln p`, `[rows, width]`, and `u = x - log_sum_exp - ln p`; see
/// [`crate::divergence`].
pub(crate) fn divergence_sums(log_p: &[f32], x: &[f32], log_sum_exp: &[f32], width: usize) -> Vec<[f64; 3]> {
    /// Elements that are summed in f32.
    const SPAN: usize = 256;
    let rows = log_p.par_chunks_exact(width).zip(x.par_chunks_exact(width)).zip(log_sum_exp);
    let sums = rows.map(|((log_p, x), &lse)| {
        let mut sums = [0.0_f64; 3];
        for (log_p, x) in log_p.chunks(SPAN).zip(x.chunks(SPAN)) {
            let part = Arch::new().dispatch(|| divergence_part(log_p, x, lse));
            sums.iter_mut().zip(part).for_each(|(sum, part)| *sum += f64::from(part));
        }
        sums
    });
    sums.collect()
}

#[inline(always)]
fn divergence_part(log_p: &[f32], x: &[f32], lse: f32) -> [f32; 3] {
    let mut lanes = [[0.0_f32; LANES]; 3];
    let mut add = |lane: usize, log_p: f32, x: f32| {
        let (p, u) = (exp(log_p), x - lse - log_p);
        let series = SERIES[1..].iter().fold(SERIES[0], |sum, term| sum * u + term);
        let linear = p * u;
        let large = exp(log_p + u) - p - linear;
        lanes[0][lane] += p;
        lanes[1][lane] += linear;
        lanes[2][lane] += if u.abs() <= SMALL { linear * u * series } else { large };
    };
    let ((p, p_rest), (x, x_rest)) = (log_p.as_chunks::<LANES>(), x.as_chunks::<LANES>());
    for (p, x) in p.iter().zip(x) {
        for lane in 0..LANES {
            add(lane, p[lane], x[lane]);
        }
    }
    for (lane, (p, x)) in p_rest.iter().zip(x_rest).enumerate() {
        add(lane, *p, *x);
    }
    lanes.map(|lanes| lanes.iter().sum())
}

/// Softmax of `row[visible]`, zero elsewhere.
pub(crate) fn masked_softmax(row: &mut [f32], visible: std::ops::Range<usize>) {
    Arch::new().dispatch(|| {
        row[..visible.start].fill(0.0);
        row[visible.end..].fill(0.0);
        let row = &mut row[visible];
        let max = max(row);
        let scale = exp_and_sum(row, max).recip();
        row.iter_mut().for_each(|x| *x *= scale);
    });
}

#[inline(always)]
fn sum(row: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let chunks = row.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        lanes.iter_mut().zip(chunk).for_each(|(lane, x)| *lane += f(*x));
    }
    lanes.iter_mut().zip(rest).for_each(|(lane, x)| *lane += f(*x));
    lanes.iter().sum()
}

/// Replaces `x` by `e^(x - max)` and gives the sum, in the order of [`sum`], in one pass.
#[inline(always)]
fn exp_and_sum(row: &mut [f32], max: f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let add = |(lane, x): (&mut f32, &mut f32)| {
        *x = exp(*x - max);
        *lane += *x;
    };
    let mut chunks = row.chunks_exact_mut(LANES);
    for chunk in &mut chunks {
        lanes.iter_mut().zip(chunk).for_each(add);
    }
    lanes.iter_mut().zip(chunks.into_remainder()).for_each(add);
    lanes.iter().sum()
}

/// The largest value; not a NaN where there is another value, which the sum of exponentials finds all the same.
#[inline(always)]
fn max(row: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let mut lanes = [f32::MIN; LANES];
    let chunks = row.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        lanes.iter_mut().zip(chunk).for_each(|(lane, x)| *lane = larger(*lane, *x));
    }
    lanes.iter_mut().zip(rest).for_each(|(lane, x)| *lane = larger(*lane, *x));
    lanes.iter().fold(f32::MIN, |a, b| larger(a, *b))
}

/// `e^x` to one unit in the last place or two, without a branch, so that a loop over it vectorises.
///
/// `x = n ln 2 + r` with `|r| <= ln 2 / 2`, a Taylor polynomial for `e^r`, and `n` goes into the exponent. Below
/// -87 and above 88 the result stays what it is there. NaN stays NaN.
#[inline(always)]
fn exp(x: f32) -> f32 {
    /// Adding it rounds to an integer, which then stands in the low bits.
    const ROUND: f32 = 12_582_912.0;
    // ln 2 in two parts: the first has few enough bits for `n * LN2_HIGH` to be exact.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = x.clamp(-87.0, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * LN2_HIGH - n * LN2_LOW;
    let poly = 1.0 / 5040.0;
    let poly = poly * r + 1.0 / 720.0;
    let poly = poly * r + 1.0 / 120.0;
    let poly = poly * r + 1.0 / 24.0;
    let poly = poly * r + 1.0 / 6.0;
    let poly = poly * r + 0.5;
    let poly = poly * r + 1.0;
    let poly = poly * r + 1.0;
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3f80_0000));
    poly * power
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_exact_to_two_units() {
        for i in -870_000..=880_000 {
            let x = i as f32 * 1e-4;
            let expected = f64::from(x).exp();
            let error = (f64::from(exp(x)) - expected).abs() / expected;
            assert!(error < 2.0 * f64::from(f32::EPSILON), "exp({x}): {error:e}");
        }
        assert!(exp(f32::NAN).is_nan());
        assert_eq!((exp(-1e9), exp(0.0)), (exp(-87.0), 1.0));
    }

    #[test]
    fn softmax_sees_what_is_visible() {
        let mut row: Vec<f32> = (0..50).map(|i| (i as f32 * 0.7).sin() * 9.0).collect();
        let total: f64 = row[3..40].iter().map(|x| f64::from(*x).exp()).sum();
        let expected: Vec<f64> = row.iter().map(|x| f64::from(*x).exp() / total).collect();
        masked_softmax(&mut row, 3..40);
        for (at, (x, y)) in row.iter().zip(&expected).enumerate() {
            let y = if (3..40).contains(&at) { *y } else { 0.0 };
            assert!((f64::from(*x) - y).abs() < 1e-6, "{at}");
        }
    }

    #[test]
    fn a_nan_is_not_lost() {
        let device = Device::flex();
        let mut values = vec![1.0f32; 64];
        values[40] = f32::NAN;
        let x: Tensor<2> = Tensor::from_data(TensorData::new(values, [2, 32]), &device);
        let (_, lse) = log_sum_exp(x);
        let lse = lse.try_into_vec_as::<f32>().unwrap();
        assert!((lse[0] - (1.0 + 32f32.ln())).abs() < 1e-5 && lse[1].is_nan(), "{lse:?}");
    }
}
