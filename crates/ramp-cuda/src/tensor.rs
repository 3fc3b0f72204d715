//! Burn's tensors as buffers of device memory.

use burn::tensor::{DType, Shape};
use burn_cubecl::{kernel::into_contiguous, tensor::CubeTensor};
use cubecl::cuda::CudaRuntime;
use cubecl_runtime::{
    runtime::Runtime,
    server::ServerStorage,
    storage::{ComputeStorage, ManagedResource},
};

use crate::{
    blas::{Float, Matrices},
    error::{Error, Result},
};

type Server = <CudaRuntime as Runtime>::Server;
type Resource = <<Server as ServerStorage>::Storage as ComputeStorage>::Resource;

/// A matrix in device memory, `[rows, columns]`; its columns are neighbours.
#[derive(Debug)]
pub(crate) struct Buffer {
    /// Address of the first element.
    pub(crate) at: u64,
    pub(crate) dtype: DType,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    /// Elements from one row to the next.
    pub(crate) ld: usize,
    /// Keeps the memory.
    _resource: ManagedResource<Resource>,
}

/// Ordinal of the tensor's device.
pub(crate) fn ordinal(tensor: &CubeTensor) -> Result<usize> {
    match &tensor.device {
        cubecl::Device::Cuda(device) => Ok(device.index),
        other => Err(Error::Buffer(format!("{other:?} is not a CUDA device"))),
    }
}

/// A tensor without contents, rows without gaps, beside `like`.
pub(crate) fn empty(like: &CubeTensor, shape: Shape, dtype: DType) -> CubeTensor {
    let bytes = shape.num_elements() * dtype.size();
    let handle = like.client.empty(bytes);
    CubeTensor::new_contiguous(like.client.clone(), like.device.clone(), shape, handle, dtype)
}

/// The tensor with neighbouring columns: itself, where they are.
pub(crate) fn row_major(tensor: CubeTensor) -> CubeTensor {
    let (shape, strides) = (tensor.meta.shape(), tensor.meta.strides());
    let rank = shape.num_dims();
    let matrix = match rank {
        1 => strides[0] == 1,
        2 => strides[1] == 1 && (shape[0] == 1 || strides[0] >= shape[1]),
        _ => false,
    };
    if matrix { tensor } else { into_contiguous(tensor) }
}

impl Buffer {
    /// Of a tensor that [`row_major`] gave or [`empty`] made; all but the last axis are rows. Work that was queued for it
    /// has reached the device when this returns.
    pub(crate) fn of(tensor: &CubeTensor) -> Result<Self> {
        let resource = tensor
            .client
            .get_resource::<Server>(tensor.handle.clone())
            .map_err(|why| Error::Buffer(why.to_string()))?;
        let (shape, strides) = (tensor.meta.shape(), tensor.meta.strides());
        let rank = shape.num_dims();
        let columns = shape[rank - 1];
        let rows: usize = (0..rank - 1).map(|axis| shape[axis]).product();
        let ld = if rank == 2 && rows > 1 { strides[0] } else { columns };
        Ok(Self { at: resource.resource().ptr, dtype: tensor.dtype, rows, columns, ld, _resource: resource })
    }

    pub(crate) fn float(&self) -> Result<Float> {
        match self.dtype {
            DType::F32 => Ok(Float::F32),
            DType::F16 => Ok(Float::F16),
            DType::BF16 => Ok(Float::Bf16),
            other => Err(Error::Buffer(format!("{other:?} is no float that is computed with"))),
        }
    }

    /// The whole as one matrix.
    pub(crate) fn matrix(&self) -> Result<Matrices> {
        self.matrices(0, 0)
    }

    /// Matrices inside of it: the first one begins `first` elements after the beginning, the others `stride` apart.
    pub(crate) fn matrices(&self, first: usize, stride: usize) -> Result<Matrices> {
        let at = self.at + (first * self.dtype.size()) as u64;
        Ok(Matrices { at, float: self.float()?, ld: self.ld, stride })
    }
}
