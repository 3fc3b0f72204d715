//! Matrices that stay packed in device memory.

use burn::tensor::{Device, Tensor};
use ramp_gguf::GgmlType;

#[cfg(feature = "cuda")]
use crate::error::Error;
use crate::{error::Result, precision::Precision, values::HostValues};

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

    /// The bytes as a file has them.
    ///
    /// # Errors
    /// When the device fails.
    pub fn bytes(&self) -> Result<Vec<u8>> {
        self.0.bytes()
    }
}

/// What a packed matrix loses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PackingErrors {
    /// `Σ_ij a_j (W_ij - Ŵ_ij)²`, where `a` is the importance of the columns, or 1.
    pub weighted: f64,
    /// `Σ_ij a_j W_ij²`.
    pub weighted_norm: f64,
    /// `Σ_ij (W_ij - Ŵ_ij)²`.
    pub plain: f64,
}

/// A matrix on a device, of f32 weights, to be packed in several types there.
#[derive(Clone, Debug)]
pub struct DeviceEncoder(Encoder);

impl DeviceEncoder {
    pub(crate) fn new(
        weight: &HostValues,
        shape: [usize; 2],
        importance: Option<&[f32]>,
        precision: Precision,
        device: &Device,
    ) -> Option<Self> {
        Encoder::new(weight, shape, importance, precision, device).map(Self)
    }

    /// Queues the matrix' encoding in a type, and does not wait for it. `None` where the device has no encoder of the type.
    #[must_use]
    pub fn encode(&self, ty: GgmlType) -> Option<Packing> {
        self.0.encode(ty).map(Packing)
    }
}

/// A matrix that the device is packing.
#[derive(Debug)]
pub struct Packing(Queued);

impl Packing {
    /// Waits for the matrix, which has the bytes that the CPU encodes, and what it loses. `None` where a weight or a scale is
    /// not finite: the CPU's codec says which.
    ///
    /// # Errors
    /// When the device fails.
    pub fn finish(self) -> Result<Option<(PackedMatrix, PackingErrors)>> {
        let encoded = self.0.finish()?;
        Ok(encoded.map(|(packed, errors)| (PackedMatrix(packed), errors)))
    }
}

#[cfg(feature = "cuda")]
#[derive(Clone, Debug)]
struct Encoder {
    /// `[out, in]`.
    weight: Tensor<2>,
    /// `[in]`.
    importance: Option<Tensor<1>>,
    precision: Precision,
}

#[cfg(feature = "cuda")]
impl Encoder {
    fn new(
        weight: &HostValues,
        shape: [usize; 2],
        importance: Option<&[f32]>,
        precision: Precision,
        device: &Device,
    ) -> Option<Self> {
        use burn::tensor::TensorData;
        if !ramp_cuda::is_available(device) {
            return None;
        }
        let weight = weight.upload(shape, device);
        let importance = importance
            .map(|importance| Tensor::from_data(TensorData::new(importance.to_vec(), [shape[1]]), device));
        Some(Self { weight, importance, precision })
    }

    fn encode(&self, ty: GgmlType) -> Option<Queued> {
        use burn::tensor::DType;
        let shape = self.weight.dims();
        let kind = Packed::kind(ty).filter(|kind| kind.has_encoder() && shape[1] % ty.block_size() == 0)?;
        let (blocks, bad) = ramp_cuda::ops::encode(self.weight.clone(), self.importance.clone(), kind);
        let decoded = ramp_cuda::ops::decode(blocks.clone(), kind, shape, DType::F32);
        let rows = ramp_cuda::ops::errors(self.weight.clone(), decoded, self.importance.clone());
        Some(Queued { packed: Packed { blocks, kind, shape, precision: self.precision }, rows, bad })
    }
}

#[cfg(feature = "cuda")]
#[derive(Debug)]
struct Queued {
    packed: Packed,
    /// `[out, 3]`, the bits of f64.
    rows: Tensor<2, burn::tensor::Int>,
    /// `[1]`
    bad: Tensor<1>,
}

#[cfg(feature = "cuda")]
impl Queued {
    fn finish(self) -> Result<Option<(Packed, PackingErrors)>> {
        let rows = crate::model::bits_to_host(self.rows)?;
        let bad = self.bad.try_into_vec_as::<f32>().map_err(Error::device)?;
        if bad.iter().any(|bad| *bad != 0.0) {
            return Ok(None);
        }
        let sum = |which: usize| rows.iter().skip(which).step_by(3).sum();
        let errors = PackingErrors { weighted: sum(0), weighted_norm: sum(1), plain: sum(2) };
        Ok(Some((self.packed, errors)))
    }
}

/// No device of this build encodes.
#[cfg(not(feature = "cuda"))]
#[derive(Clone, Debug)]
enum Encoder {}

#[cfg(not(feature = "cuda"))]
impl Encoder {
    const fn new(
        _weight: &HostValues,
        _shape: [usize; 2],
        _importance: Option<&[f32]>,
        _precision: Precision,
        _device: &Device,
    ) -> Option<Self> {
        None
    }

    const fn encode(&self, _ty: GgmlType) -> Option<Queued> {
        match *self {}
    }
}

/// No device of this build encodes.
#[cfg(not(feature = "cuda"))]
#[derive(Debug)]
enum Queued {}

#[cfg(not(feature = "cuda"))]
impl Queued {
    const fn finish(self) -> Result<Option<(Packed, PackingErrors)>> {
        match self {}
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

    fn bytes(&self) -> Result<Vec<u8>> {
        self.blocks.clone().try_into_vec_as::<u8>().map_err(Error::device)
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

    const fn bytes(&self) -> Result<Vec<u8>> {
        match *self {}
    }

    const fn decode(&self) -> Tensor<2> {
        match *self {}
    }
}
