//! Who computes the steps of a forward pass.

use burn::tensor::Device;

use crate::{host, precision::Precision};

/// Three ways to the same numbers, up to rounding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Burn's matrix products, the rest in this process's memory.
    Host,
    /// cuBLAS and kernels of our own.
    #[cfg(feature = "cuda")]
    Cuda,
    /// Burn's operations for everything, which every device has and gradients pass through.
    Burn,
}

impl Way {
    /// The fastest one for tensors of this type on this device.
    pub(crate) fn of(device: &Device, precision: Precision) -> Self {
        #[cfg(feature = "cuda")]
        if ramp_cuda::is_available(device) {
            return Self::Cuda;
        }
        if precision == Precision::F32 && host::is_host(device) { Self::Host } else { Self::Burn }
    }
}
