//! The network of Table 27: FC-LN-ReLU, FC-LN-ReLU, FC-ReLU, FC.
//!
//! Several networks of one shape are stacked along a leading axis, so the twin critics cost one
//! batched matrix product per layer instead of two; an actor is a stack of one.

use burn::tensor::{Device, Tensor, TensorData, activation};
use rand::{Rng, distr::Uniform};
use rand_chacha::ChaCha8Rng;

use crate::error::{Error, Result};

/// Added to the variance by LayerNorm; PyTorch's default, the paper states none.
pub(crate) const LAYER_NORM_EPSILON: f64 = 1e-5;

/// Parameters per network.
pub(crate) const PARAMS: usize = 12;

/// Names of the parameters, in order. Linear and LayerNorm parameters are called as in PyTorch.
pub(crate) const PARAM_NAMES: [&str; PARAMS] = [
    "fc1.weight",
    "fc1.bias",
    "ln1.weight",
    "ln1.bias",
    "fc2.weight",
    "fc2.bias",
    "ln2.weight",
    "ln2.bias",
    "fc3.weight",
    "fc3.bias",
    "head.weight",
    "head.bias",
];

/// Sizes of a stack of networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MlpShape {
    /// Networks in the stack.
    pub(crate) networks: usize,
    /// Elements of an input.
    pub(crate) inputs: usize,
    /// Units of the hidden layers.
    pub(crate) hidden: [usize; 3],
    /// Elements of an output.
    pub(crate) outputs: usize,
}

impl MlpShape {
    /// Shapes of the parameters in [`PARAM_NAMES`]' order: weights `[network, in, out]`, all others
    /// `[network, 1, out]`.
    pub(crate) fn params(&self) -> [[usize; 3]; PARAMS] {
        let Self { networks: k, inputs, hidden: [h1, h2, h3], outputs } = *self;
        let row = |width| [k, 1, width];
        [
            [k, inputs, h1],
            row(h1),
            row(h1),
            row(h1),
            [k, h1, h2],
            row(h2),
            row(h2),
            row(h2),
            [k, h2, h3],
            row(h3),
            [k, h3, outputs],
            row(outputs),
        ]
    }
}

/// Parameters of a stack of networks, see [`MlpShape::params`].
#[derive(Clone, Debug)]
pub(crate) struct Mlp {
    pub(crate) params: [Tensor<3>; PARAMS],
}

impl Mlp {
    /// Initial host values of every parameter: weights and biases of a linear layer uniform in
    /// ±1/√in (PyTorch's `Linear`), LayerNorm 1 and 0. From a host generator, so that one seed gives
    /// the same bytes on every device.
    pub(crate) fn init(shape: &MlpShape, rng: &mut ChaCha8Rng) -> Vec<Vec<f32>> {
        let mut fan_in = shape.inputs;
        let dims = shape.params();
        PARAM_NAMES
            .iter()
            .zip(dims)
            .map(|(name, [networks, rows, columns])| {
                let len = networks * rows * columns;
                match *name {
                    "ln1.weight" | "ln2.weight" => vec![1.0; len],
                    "ln1.bias" | "ln2.bias" => vec![0.0; len],
                    _ => {
                        if name.ends_with(".weight") {
                            fan_in = rows;
                        }
                        let bound = 1.0 / (fan_in as f32).sqrt();
                        let uniform =
                            Uniform::new_inclusive(-bound, bound).expect("bound is positive and finite");
                        (0..len).map(|_| rng.sample(uniform)).collect()
                    }
                }
            })
            .collect()
    }

    /// Uploads host values that have the lengths of `shape`.
    pub(crate) fn upload(shape: &MlpShape, values: Vec<Vec<f32>>, device: &Device) -> Self {
        let mut tensors = values
            .into_iter()
            .zip(shape.params())
            .map(|(v, dims)| Tensor::from_data(TensorData::new(v, dims), device));
        Self { params: std::array::from_fn(|_| tensors.next().expect("one value per parameter")) }
    }

    /// Host copies of every parameter.
    pub(crate) fn download(&self) -> Result<Vec<Vec<f32>>> {
        self.params.iter().map(|param| read(param.clone().without_autodiff())).collect()
    }

    /// Marks every parameter as a leaf that collects a gradient.
    pub(crate) fn trainable(self) -> Self {
        self.map(|param| param.autodiff().require_grad())
    }

    /// The same parameters without autodiff, for targets and inference.
    pub(crate) fn plain(&self) -> Self {
        self.clone().map(Tensor::without_autodiff)
    }

    /// The same parameters in an autodiff graph, as constants: gradients flow through to the inputs
    /// but neither reach nor cost the parameters.
    pub(crate) fn frozen(&self) -> Self {
        self.clone().map(|param| param.without_autodiff().autodiff())
    }

    pub(crate) fn map(self, change: impl FnMut(Tensor<3>) -> Tensor<3>) -> Self {
        Self { params: self.params.map(change) }
    }

    /// `x`: `[1 or network, batch, in]`. Returns `[network, batch, out]`.
    pub(crate) fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [w1, b1, g1, o1, w2, b2, g2, o2, w3, b3, w4, b4] = self.params.clone();
        let x = activation::relu(layer_norm(x.matmul(w1) + b1, g1, o1));
        let x = activation::relu(layer_norm(x.matmul(w2) + b2, g2, o2));
        let x = activation::relu(x.matmul(w3) + b3);
        x.matmul(w4) + b4
    }
}

/// Normalises the last axis to mean 0 and variance 1, then scales and shifts it, per network.
fn layer_norm(x: Tensor<3>, scale: Tensor<3>, shift: Tensor<3>) -> Tensor<3> {
    let centred = x.clone() - x.mean_dim(2);
    let variance = centred.clone().square().mean_dim(2);
    centred * (variance + LAYER_NORM_EPSILON).sqrt().recip() * scale + shift
}

/// Reads a tensor back to the host.
pub(crate) fn read<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>> {
    tensor.try_into_vec_as::<f32>().map_err(|error| Error::Device(error.to_string()))
}
