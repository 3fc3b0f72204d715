//! The affine quantizer on slices.

use half::f16;
use rayon::prelude::*;

use super::{AffineConfig, MAX_SCALE, MIN_SCALE, bits};
use crate::{
    error::{Error, Result},
    format::Format,
    quantize::check_length,
};

/// An affine matrix in host memory. Rows are output channels.
#[derive(Clone, Debug, PartialEq)]
pub struct AffineMatrix {
    config: AffineConfig,
    shape: [usize; 2],
    /// `[out, in]`.
    codes: Vec<u8>,
    /// `[out, groups]`, each an f16 number.
    scale: Vec<f32>,
    /// `[out, groups]`.
    zero: Vec<u8>,
}

impl AffineMatrix {
    /// Quantizes a row-major matrix `[out, in]` (Eq. 10; see the [module](super)).
    ///
    /// # Errors
    /// When the configuration is out of range, the slice does not have the shape's length, a weight is NaN or
    /// infinite, or a group's scale is beyond f16. The error names the first such weight or group.
    pub fn quantize(weight: &[f32], shape: [usize; 2], config: AffineConfig) -> Result<Self> {
        config.validate()?;
        check_length(weight, shape)?;
        let [out, inp] = shape;
        let groups = config.groups(inp);
        let mut matrix = Self {
            config,
            shape,
            codes: vec![0; weight.len()],
            scale: vec![0.0; out * groups],
            zero: vec![0; out * groups],
        };
        matrix
            .codes
            .par_chunks_mut(inp)
            .zip(matrix.scale.par_chunks_mut(groups))
            .zip(matrix.zero.par_chunks_mut(groups))
            .zip(weight.par_chunks(inp))
            .enumerate()
            .find_map_first(|(row, (((codes, scale), zero), weight))| {
                quantize_row(row, weight, config, codes, scale, zero).err()
            })
            .map_or(Ok(()), Err)?;
        Ok(matrix)
    }

    /// `s (q - z)`, row-major `[out, in]`.
    #[must_use]
    pub fn dequantize(&self) -> Vec<f32> {
        let ([_, inp], groups) = (self.shape, self.groups());
        let mut weight = vec![0.0; self.codes.len()];
        weight.par_chunks_mut(inp).enumerate().for_each(|(row, weight)| {
            for (column, (weight, code)) in weight.iter_mut().zip(&self.codes[row * inp..]).enumerate() {
                let group = row * groups + column / self.config.group;
                *weight = (f32::from(*code) - f32::from(self.zero[group])) * self.scale[group];
            }
        });
        weight
    }

    /// The stored bytes, row after row: codes, scales (f16, little-endian), zero points. Codes and zero points
    /// are packed with the lowest bits first, and each part of a row starts at a whole byte.
    ///
    /// There are as many as [`Format::bytes`] says.
    #[must_use]
    pub fn pack(&self) -> Vec<u8> {
        let ([_, inp], groups, width) = (self.shape, self.groups(), self.config.bits);
        let mut bytes = Vec::new();
        let parts = self.scale.chunks_exact(groups).zip(self.zero.chunks_exact(groups));
        for (codes, (scale, zero)) in self.codes.chunks_exact(inp).zip(parts) {
            bits::pack(codes, width, &mut bytes);
            bytes.extend(scale.iter().flat_map(|&scale| f16::from_f32(scale).to_le_bytes()));
            bits::pack(zero, width, &mut bytes);
        }
        bytes
    }

    /// Reads what [`AffineMatrix::pack`] wrote.
    ///
    /// # Errors
    /// When the number of bytes is not that of the shape, or a scale is negative, infinite or NaN.
    pub fn unpack(bytes: &[u8], shape: [usize; 2], config: AffineConfig) -> Result<Self> {
        let format = Format::from(config);
        let (expected, found) = (format.bytes(shape)?, bytes.len() as u64);
        if expected != found {
            return Err(Error::PackedLength { format, shape, expected, found });
        }
        let [out, inp] = shape;
        let groups = config.groups(inp);
        let packed = |n: usize| (n * usize::from(config.bits)).div_ceil(8);
        let (mut codes, mut zero) = (vec![0; out * inp], vec![0; out * groups]);
        let mut scale = Vec::with_capacity(out * groups);
        for (row, bytes) in bytes.chunks_exact(bytes.len() / out).enumerate() {
            let (packed_codes, rest) = bytes.split_at(packed(inp));
            let (scales, packed_zero) = rest.split_at(2 * groups);
            bits::unpack(packed_codes, config.bits, &mut codes[row * inp..][..inp]);
            bits::unpack(packed_zero, config.bits, &mut zero[row * groups..][..groups]);
            for (group, bytes) in scales.as_chunks::<2>().0.iter().enumerate() {
                let value = f16::from_le_bytes(*bytes).to_f32();
                check_scale(row, group, value)?;
                scale.push(value);
            }
        }
        Ok(Self { config, shape, codes, scale, zero })
    }

    /// Puts a matrix together from its parts, which have the lengths that shape and configuration give.
    pub(super) fn from_parts(
        config: AffineConfig,
        shape: [usize; 2],
        codes: Vec<u8>,
        scale: Vec<f32>,
        zero: Vec<u8>,
    ) -> Result<Self> {
        let matrix = Self { config, shape, codes, scale, zero };
        let groups = matrix.groups();
        for (index, &scale) in matrix.scale.iter().enumerate() {
            check_scale(index / groups, index % groups, scale)?;
        }
        Ok(matrix)
    }

    /// Width of the codes and size of the groups.
    #[must_use]
    pub const fn config(&self) -> AffineConfig {
        self.config
    }

    /// `[out, in]`.
    #[must_use]
    pub const fn shape(&self) -> [usize; 2] {
        self.shape
    }

    /// Codes, row-major `[out, in]`.
    #[must_use]
    pub fn codes(&self) -> &[u8] {
        &self.codes
    }

    /// Scales, row-major `[out, groups]`; each is an f16 number.
    #[must_use]
    pub fn scale(&self) -> &[f32] {
        &self.scale
    }

    /// Zero points, row-major `[out, groups]`.
    #[must_use]
    pub fn zero(&self) -> &[u8] {
        &self.zero
    }

    const fn groups(&self) -> usize {
        self.config.groups(self.shape[1])
    }
}

/// The operations and their order are those of [`super::quantize`], so that both give the same bits.
fn quantize_row(
    row: usize,
    weight: &[f32],
    config: AffineConfig,
    codes: &mut [u8],
    scale: &mut [f32],
    zero: &mut [u8],
) -> Result<()> {
    if let Some(column) = weight.iter().position(|w| !w.is_finite()) {
        return Err(Error::NonFinite { row, column, value: weight[column] });
    }
    let max_code = f32::from(config.max_code());
    let groups = weight.chunks(config.group).zip(codes.chunks_mut(config.group));
    for (group, (weight, codes)) in groups.enumerate() {
        let min = weight.iter().copied().fold(0.0, f32::min);
        let max = weight.iter().copied().fold(0.0, f32::max);
        let exact = ((max - min) / max_code).max(MIN_SCALE);
        let s = f16::from_f32(exact).to_f32();
        if s > MAX_SCALE {
            return Err(Error::ScaleRange { row, group, value: exact });
        }
        let z = (-min / s).round_ties_even().clamp(0.0, max_code);
        for (code, w) in codes.iter_mut().zip(weight) {
            *code = (w / s + z).round_ties_even().clamp(0.0, max_code) as u8;
        }
        (scale[group], zero[group]) = (s, z as u8);
    }
    Ok(())
}

fn check_scale(row: usize, group: usize, value: f32) -> Result<()> {
    if (0.0..=MAX_SCALE).contains(&value) { Ok(()) } else { Err(Error::ScaleRange { row, group, value }) }
}
