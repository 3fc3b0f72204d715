//! The affine quantizer on tensors of any device.

use burn::tensor::{DType, Device, FloatDType, Int, Tensor, TensorData};

use super::{AffineConfig, AffineMatrix, Layout, MAX_SCALE, MIN_SCALE, ZeroPoint, grid::PRINTED_LEAST};
use crate::error::{Error, Result};

/// An affine matrix on a device. Rows are output channels.
#[derive(Clone, Debug)]
pub struct AffineTensor {
    /// Codes, `[out, in]`.
    pub codes: Tensor<2, Int>,
    /// Scales, `[rows, groups]` as [`AffineConfig::scales`] says; each is an f16 number.
    pub scale: Tensor<2>,
    /// Zero points, of the same shape; each is an integer.
    pub zero: Tensor<2>,
    /// Width of the codes, groups and kind of zero point.
    pub config: AffineConfig,
}

/// Quantizes a matrix `[out, in]` on its device (Eq. 10; see the [module](super)).
///
/// Two numbers per matrix are copied to the host, to know that its weights are finite and its scales within f16.
///
/// # Errors
/// When the configuration is out of range, the matrix is empty, a weight is NaN or infinite, a group's scale is
/// beyond f16, or the device fails.
pub fn quantize(weight: Tensor<2>, config: &AffineConfig) -> Result<AffineTensor> {
    let shape = weight.dims();
    let layout = config.layout(shape)?;
    let weight = weight.cast(FloatDType::F32).reshape([layout.rows, layout.len]);
    let (mut codes, mut scale, mut zero) = (Vec::new(), Vec::new(), Vec::new());
    for part in parts(layout) {
        let columns = weight.clone().narrow(1, part.start, part.len);
        let (q, s, z) = quantize_part(columns, part.group, *config);
        codes.push(q);
        scale.push(s);
        zero.push(z);
    }
    let scale = concatenate(scale);

    // A weight that is NaN or infinite shows in the sum even where the minimum and the maximum ignore it.
    let check = to_host(Tensor::cat(vec![scale.clone().max(), weight.clone().sum()], 0))?;
    if !(check[0] <= MAX_SCALE && check[1].is_finite()) {
        // The slow path knows which weight it is.
        AffineMatrix::quantize(&to_host(weight)?, shape, *config)?;
    }
    let codes = if codes.len() == 1 { codes.remove(0) } else { Tensor::cat(codes, 1) };
    Ok(AffineTensor { codes: codes.reshape(shape), scale, zero: concatenate(zero), config: *config })
}

/// Quantizes and dequantizes: the weights that remain of a matrix `[out, in]`.
///
/// # Errors
/// As [`quantize()`].
pub fn fake_quantize(weight: Tensor<2>, config: &AffineConfig) -> Result<Tensor<2>> {
    #[cfg(feature = "cuda")]
    if let Some(weight) = super::gpu::fake_quantize(&weight, *config)? {
        return Ok(weight);
    }
    Ok(quantize(weight, config)?.dequantize())
}

impl AffineTensor {
    /// `s (q - z)`, `[out, in]`.
    ///
    /// # Panics
    /// When the fields were replaced by tensors whose shapes do not belong together.
    #[must_use]
    pub fn dequantize(&self) -> Tensor<2> {
        let shape = self.codes.dims();
        let layout = self.config.layout(shape).expect("the fields belong together");
        let rows = layout.rows;
        let codes = self.codes.clone().float().cast(FloatDType::F32).reshape([rows, layout.len]);
        let parts = parts(layout).map(|part| {
            let groups = part.len / part.group;
            let first = part.start / layout.group;
            let per_group = |x: &Tensor<2>| x.clone().narrow(1, first, groups).reshape([rows, groups, 1]);
            let q = codes.clone().narrow(1, part.start, part.len).reshape([rows, groups, part.group]);
            ((q - per_group(&self.zero)) * per_group(&self.scale)).reshape([rows, part.len])
        });
        concatenate(parts.collect()).reshape(shape)
    }

    /// Copies the parts to host memory.
    ///
    /// # Errors
    /// When the device fails, or the fields were replaced by tensors that are no affine matrix.
    pub fn to_matrix(&self) -> Result<AffineMatrix> {
        let shape = self.codes.dims();
        let expected = self.config.scales(shape)?;
        for (part, found) in [("scales", self.scale.dims()), ("zero points", self.zero.dims())] {
            if found != expected {
                return Err(Error::AffineShape { part, expected, found });
            }
        }
        let codes = self.codes.clone().try_into_vec_as::<i32>().map_err(Error::device)?;
        let zero = self.zero.clone().int().try_into_vec_as::<i32>().map_err(Error::device)?;
        AffineMatrix::from_parts(
            self.config,
            shape,
            self.narrow_codes(codes, shape[1])?,
            to_host(self.scale.clone())?,
            self.narrow_zeros(zero, expected[1])?,
        )
    }

    /// Copies a matrix to a device.
    #[must_use]
    pub fn from_matrix(matrix: &AffineMatrix, device: &Device) -> Self {
        let (config, shape) = (matrix.config(), matrix.shape());
        let groups = config.scales(shape).expect("a matrix has a possible shape");
        let codes: Vec<i32> = matrix.codes().iter().map(|&code| i32::from(code)).collect();
        let zero: Vec<f32> = matrix.zero().iter().map(|&zero| f32::from(zero)).collect();
        let scale = matrix.scale().to_vec();
        Self {
            codes: Tensor::from_data(TensorData::new(codes, shape), (device, DType::I32)),
            scale: Tensor::from_data(TensorData::new(scale, groups), (device, DType::F32)),
            zero: Tensor::from_data(TensorData::new(zero, groups), (device, DType::F32)),
            config,
        }
    }

    /// The stored bytes; see [`AffineMatrix::pack`].
    ///
    /// # Errors
    /// As [`AffineTensor::to_matrix`].
    pub fn pack(&self) -> Result<Vec<u8>> {
        Ok(self.to_matrix()?.pack())
    }

    /// Reads stored bytes of a matrix `[out, in]` onto a device.
    ///
    /// # Errors
    /// As [`AffineMatrix::unpack`].
    pub fn unpack(bytes: &[u8], shape: [usize; 2], config: &AffineConfig, device: &Device) -> Result<Self> {
        Ok(Self::from_matrix(&AffineMatrix::unpack(bytes, shape, *config)?, device))
    }

    fn narrow_zeros(&self, zeros: Vec<i32>, per_row: usize) -> Result<Vec<i16>> {
        let (bits, max_code) = (self.config.bits, i32::from(self.config.max_code()));
        let possible = match self.config.zero_point {
            ZeroPoint::InRange | ZeroPoint::Clamped => 0..=max_code,
            ZeroPoint::Printed => i32::from(i16::MIN)..=i32::from(i16::MAX),
            ZeroPoint::Symmetric => max_code / 2 + 1..=max_code / 2 + 1,
        };
        let narrow = |(index, zero): (usize, i32)| {
            let fits = i16::try_from(zero).ok().filter(|_| possible.contains(&zero));
            fits.ok_or(Error::CodeRange { row: index / per_row, value: zero.into(), bits })
        };
        zeros.into_iter().enumerate().map(narrow).collect()
    }

    fn narrow_codes(&self, codes: Vec<i32>, per_row: usize) -> Result<Vec<u8>> {
        let narrow = |(index, code): (usize, i32)| {
            let (row, bits) = (index / per_row, self.config.bits);
            let fits = u8::try_from(code).ok().filter(|&code| code <= self.config.max_code());
            fits.ok_or(Error::CodeRange { row, value: code.into(), bits })
        };
        codes.into_iter().enumerate().map(narrow).collect()
    }
}

/// Columns that are whole groups of one size.
struct Part {
    start: usize,
    len: usize,
    group: usize,
}

/// The whole groups of a row, and the short one after them.
fn parts(layout: Layout) -> impl Iterator<Item = Part> {
    let Layout { len, group, .. } = layout;
    let whole = len / group * group;
    let tail = len - whole;
    [Part { start: 0, len: whole, group }, Part { start: whole, len: tail, group: tail }]
        .into_iter()
        .filter(|part| part.len > 0)
}

/// Codes `[rows, len]`, scales and zero points `[rows, len / group]` of columns `[rows, len]`.
fn quantize_part(
    weight: Tensor<2>,
    group: usize,
    config: AffineConfig,
) -> (Tensor<2, Int>, Tensor<2>, Tensor<2>) {
    let [rows, len] = weight.dims();
    let (groups, max_code) = (len / group, f32::from(config.max_code()));
    let weight = weight.reshape([rows, groups, group]);
    let min = weight.clone().min_dim(2); // [rows, groups, 1]
    let max = weight.clone().max_dim(2);
    let round = |exact: Tensor<3>| exact.clamp_min(MIN_SCALE).cast(FloatDType::F16).cast(FloatDType::F32);
    let largest = || Tensor::cat(vec![-min.clone(), max.clone()], 2).max_dim(2).clamp_min(0.0);
    let (scale, zero) = match config.zero_point {
        ZeroPoint::InRange => {
            let (min, max) = (min.clamp_max(0.0), max.clamp_min(0.0));
            let scale = round((max - min.clone()) / max_code);
            (scale.clone(), (-min / scale).round().clamp(0.0, max_code))
        }
        ZeroPoint::Printed => {
            let exact =
                Tensor::cat(vec![(max.clone() - min.clone()) / max_code, largest() * PRINTED_LEAST], 2);
            let scale = round(exact.max_dim(2));
            (scale.clone(), (-min / scale).round())
        }
        ZeroPoint::Clamped => {
            let scale = round((max - min.clone()) / max_code);
            (scale.clone(), (-min / scale).round().clamp(0.0, max_code))
        }
        ZeroPoint::Symmetric => {
            let largest = largest();
            let scale = round((largest.clone() + largest) / max_code);
            let zero = scale.zeros_like() + (max_code + 1.0) * 0.5;
            (scale, zero)
        }
    };
    // As the host has it; `recip` may be an approximation on some device.
    let inverse = scale.ones_like() / scale.clone();
    let codes = (weight * inverse + zero.clone()).round().clamp(0.0, max_code);
    (codes.int().reshape([rows, len]), scale.reshape([rows, groups]), zero.reshape([rows, groups]))
}

fn concatenate(mut parts: Vec<Tensor<2>>) -> Tensor<2> {
    if parts.len() == 1 { parts.remove(0) } else { Tensor::cat(parts, 1) }
}

/// Copies a tensor to host memory as f32, row-major.
fn to_host<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>> {
    tensor.try_into_vec_as::<f32>().map_err(Error::device)
}
