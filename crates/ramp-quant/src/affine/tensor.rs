//! The affine quantizer on tensors of any device.

use burn::tensor::{DType, Device, FloatDType, Int, Tensor, TensorData};

use super::{AffineConfig, AffineMatrix, MAX_SCALE, MIN_SCALE};
use crate::error::{Error, Result};

/// An affine matrix on a device. Rows are output channels.
#[derive(Clone, Debug)]
pub struct AffineTensor {
    /// Codes, `[out, in]`.
    pub codes: Tensor<2, Int>,
    /// Scales, `[out, groups]`; each is an f16 number.
    pub scale: Tensor<2>,
    /// Zero points, `[out, groups]`; each is an integer.
    pub zero: Tensor<2>,
    /// Width of the codes and size of the groups.
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
    config.validate()?;
    let shape @ [_, inp] = weight.dims();
    if shape.contains(&0) {
        return Err(Error::EmptyShape { shape });
    }
    let weight = weight.cast(FloatDType::F32);
    let (mut codes, mut scale, mut zero) = (Vec::new(), Vec::new(), Vec::new());
    for part in parts(inp, config.group) {
        let columns = weight.clone().narrow(1, part.start, part.len);
        let (q, s, z) = quantize_part(columns, part.group, f32::from(config.max_code()));
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
    Ok(AffineTensor {
        codes: if codes.len() == 1 { codes.remove(0) } else { Tensor::cat(codes, 1) },
        scale,
        zero: concatenate(zero),
        config: *config,
    })
}

/// Quantizes and dequantizes: the weights that remain of a matrix `[out, in]`.
///
/// # Errors
/// As [`quantize()`].
pub fn fake_quantize(weight: Tensor<2>, config: &AffineConfig) -> Result<Tensor<2>> {
    Ok(quantize(weight, config)?.dequantize())
}

impl AffineTensor {
    /// `s (q - z)`, `[out, in]`.
    ///
    /// # Panics
    /// When the fields were replaced by tensors whose shapes do not belong together.
    #[must_use]
    pub fn dequantize(&self) -> Tensor<2> {
        let [out, inp] = self.codes.dims();
        let codes = self.codes.clone().float().cast(FloatDType::F32);
        let parts = parts(inp, self.config.group).map(|part| {
            let groups = part.len / part.group;
            let first = part.start / self.config.group;
            let per_group = |x: &Tensor<2>| x.clone().narrow(1, first, groups).reshape([out, groups, 1]);
            let q = codes.clone().narrow(1, part.start, part.len).reshape([out, groups, part.group]);
            ((q - per_group(&self.zero)) * per_group(&self.scale)).reshape([out, part.len])
        });
        concatenate(parts.collect())
    }

    /// Copies the parts to host memory.
    ///
    /// # Errors
    /// When the device fails, or the fields were replaced by tensors that are no affine matrix.
    pub fn to_matrix(&self) -> Result<AffineMatrix> {
        self.config.validate()?;
        let shape @ [out, inp] = self.codes.dims();
        if shape.contains(&0) {
            return Err(Error::EmptyShape { shape });
        }
        let expected = [out, self.config.groups(inp)];
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
            self.narrow_codes(codes, inp)?,
            to_host(self.scale.clone())?,
            self.narrow_codes(zero, expected[1])?,
        )
    }

    /// Copies a matrix to a device.
    #[must_use]
    pub fn from_matrix(matrix: &AffineMatrix, device: &Device) -> Self {
        let (config, shape) = (matrix.config(), matrix.shape());
        let groups = [shape[0], config.groups(shape[1])];
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
fn parts(inp: usize, group: usize) -> impl Iterator<Item = Part> {
    let whole = inp / group * group;
    let tail = inp - whole;
    [Part { start: 0, len: whole, group }, Part { start: whole, len: tail, group: tail }]
        .into_iter()
        .filter(|part| part.len > 0)
}

/// Codes `[out, len]`, scales and zero points `[out, len / group]` of columns `[out, len]`.
fn quantize_part(weight: Tensor<2>, group: usize, max_code: f32) -> (Tensor<2, Int>, Tensor<2>, Tensor<2>) {
    let [out, len] = weight.dims();
    let groups = len / group;
    let weight = weight.reshape([out, groups, group]);
    let min = weight.clone().min_dim(2).clamp_max(0.0); // [out, groups, 1]
    let max = weight.clone().max_dim(2).clamp_min(0.0);
    let exact = ((max - min.clone()) / max_code).clamp_min(MIN_SCALE);
    let scale = exact.cast(FloatDType::F16).cast(FloatDType::F32);
    let zero = (-min / scale.clone()).round().clamp(0.0, max_code);
    let codes = (weight / scale.clone() + zero.clone()).round().clamp(0.0, max_code);
    (codes.int().reshape([out, len]), scale.reshape([out, groups]), zero.reshape([out, groups]))
}

fn concatenate(mut parts: Vec<Tensor<2>>) -> Tensor<2> {
    if parts.len() == 1 { parts.remove(0) } else { Tensor::cat(parts, 1) }
}

/// Copies a tensor to host memory as f32, row-major.
fn to_host<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>> {
    tensor.try_into_vec_as::<f32>().map_err(Error::device)
}
