//! The output of a block, and how it depends on the block's matrices.

use std::ops::Range;

use burn::tensor::{Tensor, TensorData};
use ramp_model::{CausalLm, LayerId, NoTap};

use crate::error::{Error, Result};

/// What goes into a block of the quantized model, and what comes out of the same block of the unquantized one.
pub(crate) struct BlockOutput<'a> {
    /// On the windows' device.
    plain: CausalLm,
    /// The same with autodiff.
    tracked: CausalLm,
    block: usize,
    layers: &'a [LayerId],
    /// Residual streams `[1, seq, hidden]`.
    windows: Vec<(Tensor<3>, Tensor<3>)>,
}

impl<'a> BlockOutput<'a> {
    /// `model` is only asked for its norms and biases, and `tracked` is the same on a device with autodiff.
    pub(super) fn new(
        model: &CausalLm,
        tracked: &CausalLm,
        block: usize,
        layers: &'a [LayerId],
        windows: Vec<(Tensor<3>, Tensor<3>)>,
    ) -> Self {
        Self { plain: model.clone(), tracked: tracked.clone(), block, layers, windows }
    }

    /// Number of the block.
    pub(crate) const fn block(&self) -> usize {
        self.block
    }

    /// Sum of squared errors of the output with these matrices, over at most `most` windows, evenly taken.
    pub(crate) fn error(&self, weights: &[Vec<f32>], most: usize) -> Result<f64> {
        let mut model = self.plain.clone();
        place(&mut model, self.layers, weights)?;
        let mut error = 0.0;
        for (input, expected) in self.windows.iter().step_by(self.windows.len().div_ceil(most)) {
            let output = model.run_blocks(input.clone(), self.block..self.block + 1, &mut NoTap)?;
            error += sum(output.sub(expected.clone()).square())?;
        }
        Ok(error)
    }

    /// Derivatives of the mean squared error of the output in every weight, summed over some windows, which take turns.
    pub(crate) fn slope(&self, windows: Range<usize>, weights: &[Vec<f32>]) -> Result<Vec<Vec<f32>>> {
        let mut model = self.tracked.clone();
        let leaves = place(&mut model, self.layers, weights)?;
        let mut error: Option<Tensor<1>> = None;
        for window in windows {
            let (input, expected) = &self.windows[window % self.windows.len()];
            let input = Tensor::from_inner(input.clone());
            let output = model.run_blocks(input, self.block..self.block + 1, &mut NoTap)?;
            let more = (output - Tensor::from_inner(expected.clone())).square().mean();
            error = Some(match error {
                Some(error) => error + more,
                None => more,
            });
        }
        let mut gradients = error.map(|error| error.backward());
        let slope = |(leaf, weights): (Tensor<2>, &Vec<f32>)| match gradients
            .as_mut()
            .and_then(|gradients| leaf.grad_remove(gradients))
        {
            Some(gradient) => gradient.try_into_vec_as::<f32>().map_err(Error::device),
            None => Ok(vec![0.0; weights.len()]),
        };
        leaves.into_iter().zip(weights).map(slope).collect()
    }
}

/// Puts matrices into a model, as leaves of a graph where the device has one.
pub(super) fn place(
    model: &mut CausalLm,
    layers: &[LayerId],
    weights: &[Vec<f32>],
) -> Result<Vec<Tensor<2>>> {
    let mut leaves = Vec::with_capacity(layers.len());
    for (&id, weight) in layers.iter().zip(weights) {
        let weight = TensorData::new(weight.clone(), model.config().shape(id));
        let mut weight: Tensor<2> = Tensor::from_data(weight, model.device());
        if model.device().is_autodiff() {
            weight = weight.require_grad();
        }
        model.set_weight(id, weight.clone())?;
        leaves.push(weight);
    }
    Ok(leaves)
}

fn sum(tensor: Tensor<3>) -> Result<f64> {
    let sum = tensor.sum().try_into_vec_as::<f32>().map_err(Error::device)?;
    Ok(f64::from(sum[0]))
}
