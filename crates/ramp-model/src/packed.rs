//! Matrices that stay packed in device memory.

use burn::tensor::{Device, Tensor};
use ramp_gguf::GgmlType;

use crate::precision::Precision;

/// A matrix on a device as the blocks that a file holds. [`PackedMatrix::decode`] gives its weights, in a pass that costs
/// little beside any product with them.
#[derive(Clone, Debug)]
pub struct PackedMatrix(Packed);

impl PackedMatrix {
    pub(crate) fn is_possible(ty: GgmlType, device: &Device) -> bool {
        Packed::is_possible(ty, device)
    }

    pub(crate) fn new(
        ty: GgmlType,
        bytes: Vec<u8>,
        shape: [usize; 2],
        precision: Precision,
        device: &Device,
    ) -> Option<Self> {
        Packed::new(ty, bytes, shape, precision, device).map(Self)
    }

    /// The weights, `[out, in]`: bit for bit those that the CPU decodes, rounded to the model's type.
    #[must_use]
    pub fn decode(&self) -> Tensor<2> {
        self.0.decode()
    }
}

#[cfg(feature = "cuda")]
#[derive(Clone, Debug)]
struct Packed {
    /// Bytes, block after block.
    blocks: Tensor<1, burn::tensor::Int>,
    kind: ramp_cuda::ops::KQuant,
    shape: [usize; 2],
    precision: Precision,
}

#[cfg(feature = "cuda")]
impl Packed {
    fn kind(ty: GgmlType) -> Option<ramp_cuda::ops::KQuant> {
        use ramp_cuda::ops::KQuant;
        Some(match ty {
            GgmlType::Q2_K => KQuant::Q2,
            GgmlType::Q3_K => KQuant::Q3,
            GgmlType::Q4_K => KQuant::Q4,
            GgmlType::Q5_K => KQuant::Q5,
            GgmlType::Q6_K => KQuant::Q6,
            GgmlType::IQ4_XS => KQuant::Iq4Xs,
            _ => return None,
        })
    }

    fn is_possible(ty: GgmlType, device: &Device) -> bool {
        Self::kind(ty).is_some() && ramp_cuda::is_available(device)
    }

    fn new(
        ty: GgmlType,
        bytes: Vec<u8>,
        shape: [usize; 2],
        precision: Precision,
        device: &Device,
    ) -> Option<Self> {
        use burn::tensor::{DType, TensorData};
        let (kind, n) = (Self::kind(ty)?, bytes.len());
        let blocks = Tensor::from_data(TensorData::new(bytes, [n]), (device, DType::U8));
        Some(Self { blocks, kind, shape, precision })
    }

    fn decode(&self) -> Tensor<2> {
        ramp_cuda::ops::decode(self.blocks.clone(), self.kind, self.shape, self.precision.dtype().into())
    }
}

/// No device of this build decodes: there is no such matrix.
#[cfg(not(feature = "cuda"))]
#[derive(Clone, Debug)]
enum Packed {}

#[cfg(not(feature = "cuda"))]
impl Packed {
    const fn is_possible(_ty: GgmlType, _device: &Device) -> bool {
        false
    }

    fn new(
        _ty: GgmlType,
        _bytes: Vec<u8>,
        _shape: [usize; 2],
        _precision: Precision,
        _device: &Device,
    ) -> Option<Self> {
        None
    }

    const fn decode(&self) -> Tensor<2> {
        match *self {}
    }
}
