//! Networks in host memory: products, passes and optimiser without a tensor library in between.
//!
//! The networks of an agent are small, and a tensor library's buffers, dispatch and separate passes over memory
//! cost more than their arithmetic. Gradients are written out by hand; `networks_tests.rs` compares them with
//! Burn's automatic ones.

pub(crate) mod adam;
pub(crate) mod mlp;
pub(crate) mod product;

use burn::tensor::Device;

/// Whether tensors of `device` are plain memory of this process, so that this module can take Burn's place.
pub(crate) fn is_host(device: &Device) -> bool {
    #[cfg(feature = "flex")]
    if device.clone().without_autodiff() == Device::flex() {
        return true;
    }
    let _ = device;
    false
}
