//! A stack of networks as tensors.
//!
//! Several networks of one shape are stacked along a leading axis, so the twin critics cost one
//! batched matrix product per layer instead of two; an actor is a stack of one.

use burn::tensor::{Device, Tensor, TensorData, activation};

use crate::{
    error::{Error, Result},
    shape::{LAYER_NORM_EPSILON, MlpShape, PARAMS},
};

/// Parameters of a stack of networks, see [`MlpShape::params`].
#[derive(Clone, Debug)]
pub(crate) struct Mlp {
    pub(crate) params: [Tensor<3>; PARAMS],
}

impl Mlp {
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
