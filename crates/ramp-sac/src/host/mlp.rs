//! One network in one flat vector of parameters: outputs, and gradients by hand.

use pulp::Arch;

use super::product::{affine, dots, product_transposed, transposed_product};
use crate::shape::{LAYER_NORM_EPSILON, MlpShape, PARAMS};

/// A network of [`MlpShape`], of which there is one here. Parameters in the order of
/// [`PARAM_NAMES`](crate::shape::PARAM_NAMES), weights `[in, out]`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct HostMlp {
    pub(crate) shape: MlpShape,
    pub(crate) params: Vec<f32>,
}

/// What a pass leaves for the gradients: the rows that entered and left each layer.
#[derive(Debug)]
pub(crate) struct HostTape {
    /// `[batch, in]`
    input: Vec<f32>,
    norm_1: Normalised,
    /// `[batch, hidden]` after ReLU
    hidden_1: Vec<f32>,
    norm_2: Normalised,
    hidden_2: Vec<f32>,
    hidden_3: Vec<f32>,
}

/// Rows with mean 0 and variance 1 `[batch, width]`, and the reciprocal of the standard deviation of each.
#[derive(Debug)]
struct Normalised {
    values: Vec<f32>,
    inverse: Vec<f32>,
}

/// Which gradients are wanted; the others cost time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrt {
    Params,
    Input,
}

impl HostMlp {
    pub(crate) fn new(shape: MlpShape, params: Vec<f32>) -> Self {
        Self { shape: MlpShape { networks: 1, ..shape }, params }
    }

    /// Outputs `[batch, out]` of `input` `[batch, in]`.
    pub(crate) fn forward(&self, input: &[f32]) -> Vec<f32> {
        self.pass(input).1
    }

    /// Outputs `[batch, out]`, and what their gradients need.
    pub(crate) fn forward_tape(&self, input: Vec<f32>) -> (Vec<f32>, HostTape) {
        let (mut tape, output) = self.pass(&input);
        tape.input = input;
        (output, tape)
    }

    fn pass(&self, input: &[f32]) -> (HostTape, Vec<f32>) {
        let [w1, b1, g1, o1, w2, b2, g2, o2, w3, b3, w4, b4] = split(&self.shape, &self.params);
        let batch = input.len() / self.shape.inputs;
        let layer = |x: &[f32], w: &[f32], b: &[f32]| {
            let mut out = vec![0.0; batch * b.len()];
            affine(x, w, Some(b), &mut out, b.len());
            out
        };
        let (norm_1, hidden_1) = normalise(layer(input, w1, b1), g1, o1);
        let (norm_2, hidden_2) = normalise(layer(&hidden_1, w2, b2), g2, o2);
        let mut hidden_3 = layer(&hidden_2, w3, b3);
        Arch::new().dispatch(|| hidden_3.iter_mut().for_each(|x| *x = x.max(0.0)));
        let output = layer(&hidden_3, w4, b4);
        (HostTape { input: Vec::new(), norm_1, hidden_1, norm_2, hidden_2, hidden_3 }, output)
    }

    /// Gradients of a loss from those of its outputs, `[batch, out]`: of the parameters in their order, or of the
    /// inputs `[batch, in]`.
    pub(crate) fn backward(&self, tape: &HostTape, outer: &[f32], wrt: Wrt) -> Vec<f32> {
        let [w1, _, g1, _, w2, _, g2, _, w3, _, w4, _] = split(&self.shape, &self.params);
        let mut params = if wrt == Wrt::Params { vec![0.0; self.params.len()] } else { Vec::new() };
        let mut grads = (wrt == Wrt::Params).then(|| split_mut(&self.shape, &mut params));
        let [h1, h2, h3] = self.shape.hidden;
        let batch = outer.len() / self.shape.outputs;

        let mut d3 = vec![0.0; batch * h3];
        product_transposed(outer, w4, &mut d3, h3);
        mask(&mut d3, &tape.hidden_3);
        let mut d2 = vec![0.0; batch * h2];
        product_transposed(&d3, w3, &mut d2, h2);
        mask(&mut d2, &tape.hidden_2);
        if let Some([.., dg2, do2, dw3, db3, dw4, db4]) = &mut grads {
            transposed_product(&tape.hidden_3, outer, dw4, self.shape.outputs);
            column_sums(outer, db4);
            transposed_product(&tape.hidden_2, &d3, dw3, h3);
            column_sums(&d3, db3);
            column_sums_of_products(&d2, &tape.norm_2.values, dg2);
            column_sums(&d2, do2);
        }
        normalise_backward(&mut d2, &tape.norm_2, g2);
        let mut d1 = vec![0.0; batch * h1];
        product_transposed(&d2, w2, &mut d1, h1);
        mask(&mut d1, &tape.hidden_1);
        if let Some([_, _, dg1, do1, dw2, db2, ..]) = &mut grads {
            transposed_product(&tape.hidden_1, &d2, dw2, h2);
            column_sums(&d2, db2);
            column_sums_of_products(&d1, &tape.norm_1.values, dg1);
            column_sums(&d1, do1);
        }
        normalise_backward(&mut d1, &tape.norm_1, g1);
        if let Some([dw1, db1, ..]) = &mut grads {
            transposed_product(&tape.input, &d1, dw1, h1);
            column_sums(&d1, db1);
            return params;
        }
        let mut input = vec![0.0; batch * self.shape.inputs];
        dots(&d1, w1, &mut input, h1);
        input
    }
}

/// The parameters one by one.
fn split<'a>(shape: &MlpShape, mut rest: &'a [f32]) -> [&'a [f32]; PARAMS] {
    shape.params().map(|[_, rows, columns]| {
        let (param, after) = rest.split_at(rows * columns);
        rest = after;
        param
    })
}

fn split_mut<'a>(shape: &MlpShape, rest: &'a mut [f32]) -> [&'a mut [f32]; PARAMS] {
    let mut rest = Some(rest);
    shape.params().map(|[_, rows, columns]| {
        let whole = rest.take().unwrap_or_default();
        let (param, after) = whole.split_at_mut(rows * columns);
        rest = Some(after);
        param
    })
}

/// `relu(scale * (x - mean) / std + shift)` of each row, and the middle of it.
fn normalise(mut values: Vec<f32>, scale: &[f32], shift: &[f32]) -> (Normalised, Vec<f32>) {
    let width = scale.len();
    let mut inverse = Vec::with_capacity(values.len() / width);
    let mut out = vec![0.0; values.len()];
    Arch::new().dispatch(|| {
        for (row, out) in values.chunks_exact_mut(width).zip(out.chunks_exact_mut(width)) {
            let mean = lanes(row, |x| x) / width as f32;
            row.iter_mut().for_each(|x| *x -= mean);
            let variance = lanes(row, |x| x * x) / width as f32;
            let factor = (variance + LAYER_NORM_EPSILON as f32).sqrt().recip();
            inverse.push(factor);
            for (((x, out), scale), shift) in row.iter_mut().zip(out).zip(scale).zip(shift) {
                *x *= factor;
                *out = (*x * scale + shift).max(0.0);
            }
        }
    });
    (Normalised { values, inverse }, out)
}

/// Gradients behind a LayerNorm to those in front of it.
fn normalise_backward(grads: &mut [f32], normalised: &Normalised, scale: &[f32]) {
    let width = scale.len();
    Arch::new().dispatch(|| {
        let rows = grads.chunks_exact_mut(width).zip(normalised.values.chunks_exact(width));
        for ((grads, values), inverse) in rows.zip(&normalised.inverse) {
            grads.iter_mut().zip(scale).for_each(|(grad, scale)| *grad *= scale);
            let mean = lanes(grads, |x| x) / width as f32;
            let slope = lanes_of_products(grads, values) / width as f32;
            for (grad, value) in grads.iter_mut().zip(values) {
                *grad = (*grad - mean - value * slope) * inverse;
            }
        }
    });
}

/// A ReLU lets a gradient through where its output is not zero.
fn mask(grads: &mut [f32], outputs: &[f32]) {
    Arch::new().dispatch(|| {
        grads.iter_mut().zip(outputs).for_each(|(grad, out)| *grad = if *out > 0.0 { *grad } else { 0.0 });
    });
}

/// Adds rows `[batch, width]` up to `[width]`.
fn column_sums(rows: &[f32], sums: &mut [f32]) {
    Arch::new().dispatch(|| {
        for row in rows.chunks_exact(sums.len()) {
            sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
        }
    });
}

fn column_sums_of_products(a: &[f32], b: &[f32], sums: &mut [f32]) {
    Arch::new().dispatch(|| {
        for (a, b) in a.chunks_exact(sums.len()).zip(b.chunks_exact(sums.len())) {
            sums.iter_mut().zip(a.iter().zip(b)).for_each(|(sum, (a, b))| *sum += a * b);
        }
    });
}

/// A sum in sixteen lanes, a fixed number, so that the order of additions is one on every CPU.
#[inline(always)]
fn lanes(values: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0_f32; 16];
    let (chunks, rest) = values.as_chunks::<16>();
    for chunk in chunks {
        lanes.iter_mut().zip(chunk).for_each(|(lane, x)| *lane += f(*x));
    }
    lanes.iter().sum::<f32>() + rest.iter().map(|x| f(*x)).sum::<f32>()
}

#[inline(always)]
fn lanes_of_products(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0_f32; 16];
    let ((xs, x_rest), (ys, y_rest)) = (a.as_chunks::<16>(), b.as_chunks::<16>());
    for (x, y) in xs.iter().zip(ys) {
        lanes.iter_mut().zip(x.iter().zip(y)).for_each(|(lane, (x, y))| *lane += x * y);
    }
    lanes.iter().sum::<f32>() + x_rest.iter().zip(y_rest).map(|(x, y)| x * y).sum::<f32>()
}
