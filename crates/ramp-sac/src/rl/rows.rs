//! What goes between a loop and the agent: rows of numbers on a device.

use burn::tensor::{Device, Int, Tensor};
use burn_rl::{Batchable, SliceAccess};

/// Observations or actions, `[batch, elements]`.
#[derive(Clone, Debug)]
pub struct Rows(pub Tensor<2>);

/// Squashed Gaussians, `[batch, action]` each: µ and log σ in front of the squashing.
#[derive(Clone, Debug)]
pub struct GaussianRows {
    /// µ
    pub mean: Rows,
    /// log σ
    pub log_std: Rows,
}

impl Rows {
    /// Rows of equal length; none give a tensor `[0, 0]`.
    #[must_use]
    pub fn from_host(rows: &[Vec<f32>], device: &Device) -> Self {
        let width = rows.first().map_or(0, Vec::len);
        let flat = Tensor::<1>::from_floats(rows.concat().as_slice(), device);
        Self(flat.reshape([rows.len(), width]))
    }
}

impl Batchable for Rows {
    /// # Panics
    /// Without an item: there is no device to put a tensor on.
    fn batch(items: Vec<Self>) -> Self {
        Self(Tensor::cat(items.into_iter().map(|rows| rows.0).collect(), 0))
    }

    fn unbatch(self) -> Vec<Self> {
        let [rows, width] = self.0.dims();
        (0..rows).map(|row| Self(self.0.clone().slice([row..row + 1, 0..width]))).collect()
    }
}

impl Batchable for GaussianRows {
    fn batch(items: Vec<Self>) -> Self {
        let (mean, log_std) = items.into_iter().map(|item| (item.mean, item.log_std)).unzip();
        Self { mean: Rows::batch(mean), log_std: Rows::batch(log_std) }
    }

    fn unbatch(self) -> Vec<Self> {
        let rows = self.mean.unbatch().into_iter().zip(self.log_std.unbatch());
        rows.map(|(mean, log_std)| Self { mean, log_std }).collect()
    }
}

impl SliceAccess for Rows {
    fn zeros_like(sample: &Self, capacity: usize, device: &Device) -> Self {
        Self(<Tensor<2> as SliceAccess>::zeros_like(&sample.0, capacity, device))
    }

    fn select(self, dim: usize, indices: Tensor<1, Int>) -> Self {
        Self(SliceAccess::select(self.0, dim, indices))
    }

    fn slice_assign_inplace(&mut self, index: usize, value: Self) {
        self.0.slice_assign_inplace(index, value.0);
    }
}
