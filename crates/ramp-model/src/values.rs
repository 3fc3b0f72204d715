//! A matrix's values in host memory, shared where they are there already.

use std::{fmt, ops::Deref};

use burn::tensor::Tensor;
#[cfg(feature = "flex")]
use burn::{backend::Flex, backend::tensor::FloatTensor};

use crate::error::{Error, Result};

/// f32 values of a tensor, row-major. A model in this process's memory lends its own.
#[derive(Clone)]
pub struct HostValues(Kept);

#[derive(Clone)]
enum Kept {
    /// The tensor's own, without gaps.
    #[cfg(feature = "flex")]
    Shared(FloatTensor<Flex>),
    Owned(Vec<f32>),
}

impl HostValues {
    pub(crate) fn of<const D: usize>(tensor: Tensor<D>) -> Result<Self> {
        #[cfg(feature = "flex")]
        if crate::host::is_host(&tensor.device())
            && let Ok(shared) = tensor.clone().try_into_primitive::<Flex>()
            && shared.as_slice::<f32>().is_some()
        {
            return Ok(Self(Kept::Shared(shared)));
        }
        Ok(Self(Kept::Owned(tensor.try_into_vec_as::<f32>().map_err(Error::device)?)))
    }
}

#[cfg(feature = "cuda")]
impl HostValues {
    /// A copy on a GPU, `[rows, columns]`.
    pub(crate) fn upload(&self, shape: [usize; 2], device: &burn::tensor::Device) -> Tensor<2> {
        use std::sync::Arc;
        ramp_cuda::ops::upload(ramp_cuda::ops::HostSource(Arc::new(self.clone())), shape, device)
    }
}

impl From<Vec<f32>> for HostValues {
    fn from(values: Vec<f32>) -> Self {
        Self(Kept::Owned(values))
    }
}

impl Deref for HostValues {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &self.0 {
            #[cfg(feature = "flex")]
            Kept::Shared(tensor) => tensor.as_slice::<f32>().unwrap_or_default(),
            Kept::Owned(values) => values,
        }
    }
}

impl AsRef<[f32]> for HostValues {
    fn as_ref(&self) -> &[f32] {
        self
    }
}

impl fmt::Debug for HostValues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostValues({})", self.len())
    }
}
