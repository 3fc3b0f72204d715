//! The affine quantizer on slices.

use half::f16;
use rayon::prelude::*;

use super::{AffineConfig, ClipSearch, Grid, MAX_SCALE, ZeroPoint, bits, packed};
use crate::{
    error::{Error, Result},
    quantize::check_length,
};

/// An affine matrix in host memory. Rows are output channels.
#[derive(Clone, Debug, PartialEq)]
pub struct AffineMatrix {
    config: AffineConfig,
    shape: [usize; 2],
    /// `[out, in]`.
    codes: Vec<u8>,
    /// `[rows, groups]`, each an f16 number.
    scale: Vec<f32>,
    /// `[rows, groups]`.
    zero: Vec<i16>,
}

impl AffineMatrix {
    /// Quantizes a row-major matrix `[out, in]` (Eq. 10; see the [module](super)).
    ///
    /// # Errors
    /// When the configuration is out of range, a group is larger than a row, the slice does not have the shape's
    /// length, a weight is NaN or infinite, or a group's scale is beyond f16. The error names the first such weight
    /// or group.
    pub fn quantize(weight: &[f32], shape: [usize; 2], config: AffineConfig) -> Result<Self> {
        Self::with_grids(weight, shape, config, |_, weights| Grid::of(weights, config))
    }

    /// As [`AffineMatrix::quantize`], with the range of each group searched for. `importance`, `[in]`, weights the
    /// squared error of each input channel: the imatrix.
    ///
    /// # Errors
    /// As [`AffineMatrix::quantize`], and when the search's numbers are out of range or the importance is of another
    /// length, negative or not finite.
    pub fn quantize_clipped(
        weight: &[f32],
        shape: [usize; 2],
        config: AffineConfig,
        importance: Option<&[f32]>,
        clip: &ClipSearch,
    ) -> Result<Self> {
        clip.validate()?;
        let Some(importance) = importance else {
            return Self::with_grids(weight, shape, config, |_, weights| clip.grid(weights, None, config));
        };
        let [_, inp] = shape;
        check_importance(importance, inp)?;
        Self::with_grids(weight, shape, config, |start, weights| {
            let column = start % inp;
            match importance.get(column..column + weights.len()) {
                Some(importance) => clip.grid(weights, Some(importance), config),
                // A group of several rows.
                None => {
                    let cycle: Vec<f32> =
                        importance.iter().copied().cycle().skip(column).take(weights.len()).collect();
                    clip.grid(weights, Some(&cycle), config)
                }
            }
        })
    }

    /// Quantizes with a grid for each group; `grid` gets the index of the group's first weight, and its weights.
    fn with_grids(
        weight: &[f32],
        shape: [usize; 2],
        config: AffineConfig,
        grid: impl Fn(usize, &[f32]) -> Grid + Sync,
    ) -> Result<Self> {
        let layout = config.layout(shape)?;
        check_length(weight, shape)?;
        first_non_finite(weight, shape)?;
        let groups = layout.groups();
        let mut matrix = Self {
            config,
            shape,
            codes: vec![0; weight.len()],
            scale: vec![0.0; layout.rows * groups],
            zero: vec![0; layout.rows * groups],
        };
        matrix
            .codes
            .par_chunks_mut(layout.len)
            .zip(matrix.scale.par_chunks_mut(groups))
            .zip(matrix.zero.par_chunks_mut(groups))
            .zip(weight.par_chunks(layout.len))
            .enumerate()
            .find_map_first(|(row, (((codes, scale), zero), weight))| {
                let parts = weight.chunks(layout.group).zip(codes.chunks_mut(layout.group));
                for (group, (weight, codes)) in parts.enumerate() {
                    let grid = grid(row * layout.len + group * layout.group, weight);
                    if let Err(error) = scale_range(&grid, row, group) {
                        return Some(error);
                    }
                    for (code, &w) in codes.iter_mut().zip(weight) {
                        *code = grid.code(w) as u8;
                    }
                    (scale[group], zero[group]) = (grid.scale, grid.zero as i16);
                }
                None
            })
            .map_or(Ok(()), Err)?;
        Ok(matrix)
    }

    /// `s (q - z)`, row-major `[out, in]`.
    #[must_use]
    pub fn dequantize(&self) -> Vec<f32> {
        let layout = self.config.layout(self.shape).expect("the shape was checked at construction");
        let max_code = f32::from(self.config.max_code());
        let mut weight = vec![0.0; self.codes.len()];
        weight.par_chunks_mut(layout.len).enumerate().for_each(|(row, weight)| {
            let codes = &self.codes[row * layout.len..][..layout.len];
            let parts = weight.chunks_mut(layout.group).zip(codes.chunks(layout.group));
            for (group, (weight, codes)) in parts.enumerate() {
                let at = row * layout.groups() + group;
                let grid = Grid::new(self.scale[at], f32::from(self.zero[at]), max_code);
                for (weight, &code) in weight.iter_mut().zip(codes) {
                    *weight = grid.value(f32::from(code));
                }
            }
        });
        weight
    }

    /// The stored bytes, row after row: codes, scales (f16, little-endian), zero points (packed like the codes, or
    /// i16, little-endian, or none). What is packed has the lowest bits first, and each part of a row starts at a whole
    /// byte. With [`super::Granularity::Tensor`] the whole matrix is one row.
    ///
    /// There are as many as [`AffineConfig::bytes`] says.
    #[must_use]
    pub fn pack(&self) -> Vec<u8> {
        let layout = self.config.layout(self.shape).expect("the shape was checked at construction");
        let (groups, width) = (layout.groups(), self.config.bits);
        let mut bytes = Vec::new();
        let parts = self.scale.chunks_exact(groups).zip(self.zero.chunks_exact(groups));
        for (codes, (scale, zero)) in self.codes.chunks_exact(layout.len).zip(parts) {
            bits::pack(codes, width, &mut bytes);
            bytes.extend(scale.iter().flat_map(|&scale| f16::from_f32(scale).to_le_bytes()));
            match self.config.zero_point {
                ZeroPoint::InRange | ZeroPoint::Clamped => {
                    let zero: Vec<u8> = zero.iter().map(|&zero| zero as u8).collect();
                    bits::pack(&zero, width, &mut bytes);
                }
                ZeroPoint::Printed => bytes.extend(zero.iter().flat_map(|zero| zero.to_le_bytes())),
                ZeroPoint::Symmetric => {}
            }
        }
        bytes
    }

    /// Reads what [`AffineMatrix::pack`] wrote.
    ///
    /// # Errors
    /// When the number of bytes is not that of the shape, or a scale is negative, infinite or NaN.
    pub fn unpack(bytes: &[u8], shape: [usize; 2], config: AffineConfig) -> Result<Self> {
        let (expected, found) = (config.bytes(shape)?, bytes.len() as u64);
        if expected != found {
            return Err(Error::PackedLength { config, shape, expected, found });
        }
        let layout = config.layout(shape)?;
        let groups = layout.groups();
        let code_bytes = packed(layout.len, config.bits).ok_or(Error::SizeOverflow { shape })?;
        let (mut codes, mut zero) = (vec![0; layout.rows * layout.len], Vec::new());
        let mut scale = Vec::with_capacity(layout.rows * groups);
        let mut packed_zero = vec![0; groups];
        for (row, bytes) in bytes.chunks_exact(bytes.len() / layout.rows).enumerate() {
            let (packed_codes, rest) = bytes.split_at(code_bytes);
            let (scales, zeros) = rest.split_at(2 * groups);
            bits::unpack(packed_codes, config.bits, &mut codes[row * layout.len..][..layout.len]);
            match config.zero_point {
                ZeroPoint::InRange | ZeroPoint::Clamped => {
                    bits::unpack(zeros, config.bits, &mut packed_zero);
                    zero.extend(packed_zero.iter().map(|&zero| i16::from(zero)));
                }
                ZeroPoint::Printed => {
                    zero.extend(zeros.as_chunks::<2>().0.iter().map(|&zero| i16::from_le_bytes(zero)));
                }
                ZeroPoint::Symmetric => zero.extend(vec![i16::from(config.max_code() / 2) + 1; groups]),
            }
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
        zero: Vec<i16>,
    ) -> Result<Self> {
        let groups = config.layout(shape)?.groups();
        for (index, &scale) in scale.iter().enumerate() {
            check_scale(index / groups, index % groups, scale)?;
        }
        Ok(Self { config, shape, codes, scale, zero })
    }

    /// Width of the codes, groups and kind of zero point.
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

    /// Scales, row-major as [`AffineConfig::scales`] says; each is an f16 number.
    #[must_use]
    pub fn scale(&self) -> &[f32] {
        &self.scale
    }

    /// Zero points, row-major as [`AffineConfig::scales`] says.
    #[must_use]
    pub fn zero(&self) -> &[i16] {
        &self.zero
    }
}

/// Names the first weight that is NaN or infinite.
pub(crate) fn first_non_finite(weight: &[f32], shape: [usize; 2]) -> Result<()> {
    match weight.iter().position(|w| !w.is_finite()) {
        Some(at) => Err(Error::NonFinite { row: at / shape[1], column: at % shape[1], value: weight[at] }),
        None => Ok(()),
    }
}

/// Checks the importance of input channels.
pub(crate) fn check_importance(importance: &[f32], inp: usize) -> Result<()> {
    if importance.len() != inp {
        return Err(Error::CalibrationWidth { what: "importance", expected: inp, found: importance.len() });
    }
    match importance.iter().position(|h| !(h.is_finite() && *h >= 0.0)) {
        Some(channel) => {
            Err(Error::CalibrationValue { what: "importance", channel, value: importance[channel] })
        }
        None => Ok(()),
    }
}

/// Checks that a grid's scale can be stored.
pub(crate) fn scale_range(grid: &Grid, row: usize, group: usize) -> Result<()> {
    check_scale(row, group, grid.scale)
}

fn check_scale(row: usize, group: usize, value: f32) -> Result<()> {
    if (0.0..=MAX_SCALE).contains(&value) { Ok(()) } else { Err(Error::ScaleRange { row, group, value }) }
}
