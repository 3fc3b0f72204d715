//! How a model holds the matrices that are put into it.

use burn::tensor::{Device, Tensor};
use ramp_gguf::GgmlType;

use crate::{
    error::Result,
    layer::LayerId,
    model::{moved, placed},
    packed::{DeviceEncoder, PackedMatrix},
    precision::Precision,
    values::HostValues,
};

/// The device of a model's matrices and the type of those in blocks.
#[derive(Clone, Debug)]
pub struct Placement {
    device: Device,
    precision: Precision,
}

impl Placement {
    pub(crate) const fn new(device: Device, precision: Precision) -> Self {
        Self { device, precision }
    }

    /// A matrix from host memory, row-major `[out, in]`, as the model holds the one of that name: on its device, in
    /// its type.
    #[must_use]
    pub fn place(&self, id: LayerId, data: Vec<f32>, shape: [usize; 2]) -> Tensor<2> {
        self.typed(id, placed(data, shape, &self.device))
    }

    /// A matrix of the same name from another device, `[out, in]`, through host memory.
    ///
    /// # Errors
    /// When a device fails.
    pub fn copy(&self, id: LayerId, weight: &Tensor<2>) -> Result<Tensor<2>> {
        Ok(self.typed(id, moved(weight, &self.device)?))
    }

    /// A matrix as the blocks of a file, row after row, from which the device decodes it. `None` where it has no decoder
    /// of the type: [`Placement::decodes`] tells.
    #[must_use]
    pub fn place_packed(
        &self,
        id: LayerId,
        ty: GgmlType,
        bytes: Vec<u8>,
        shape: [usize; 2],
    ) -> Option<PackedMatrix> {
        self.decodes(ty).then(|| PackedMatrix::new(ty, bytes, shape, self.of(id), &self.device))?
    }

    /// A copy of f32 weights, `[out, in]`, on the device, to be packed there with errors weighted by the importance of the
    /// columns. `None` where the device has no encoders.
    #[must_use]
    pub fn encoder(
        &self,
        id: LayerId,
        weight: &HostValues,
        shape: [usize; 2],
        importance: Option<&[f32]>,
    ) -> Option<DeviceEncoder> {
        DeviceEncoder::new(weight, shape, importance, self.of(id), &self.device)
    }

    /// Whether the device decodes blocks of this type itself.
    #[must_use]
    pub fn decodes(&self, ty: GgmlType) -> bool {
        PackedMatrix::is_possible(ty, &self.device)
    }

    /// Bytes of a decoded weight.
    #[must_use]
    pub const fn weight_bytes(&self, id: LayerId) -> usize {
        self.of(id).bytes()
    }

    /// Bytes of the device's memory that are free, and all of them, where the device has a memory of its own.
    #[must_use]
    pub fn memory(&self) -> Option<(u64, u64)> {
        #[cfg(feature = "cuda")]
        {
            // What Burn keeps for later is free, too.
            self.device.memory_cleanup();
            ramp_cuda::memory(&self.device)
        }
        #[cfg(not(feature = "cuda"))]
        None
    }

    pub(crate) fn typed(&self, id: LayerId, weight: Tensor<2>) -> Tensor<2> {
        self.of(id).cast(weight)
    }

    /// Embedding and head are f32 always.
    const fn of(&self, id: LayerId) -> Precision {
        match id {
            LayerId::Block { .. } => self.precision,
            LayerId::TokenEmbd | LayerId::Output => Precision::F32,
        }
    }
}
