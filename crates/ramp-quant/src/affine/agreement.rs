//! Whether a device computes what the host does.

use burn::tensor::{Device, Tensor, TensorData};

use super::{AffineConfig, AffineMatrix, quantize};
use crate::error::Result;

/// Where a device's quantization of a matrix differs from the host's.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Agreement {
    /// Codes that differ.
    pub codes: usize,
    /// Scales that differ.
    pub scales: usize,
    /// Zero points that differ.
    pub zeros: usize,
    /// The largest difference of a dequantized weight, in steps (the host's scale) of its group.
    pub steps: f32,
}

impl Agreement {
    /// Whether both give the same bits.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        *self == Self::default()
    }

    /// What is different in two quantizations of one matrix.
    fn between(host: &AffineMatrix, device: &AffineMatrix) -> Result<Self> {
        fn differing<T: PartialEq>(a: &[T], b: &[T]) -> usize {
            a.iter().zip(b).filter(|(a, b)| a != b).count()
        }
        let layout = host.config().layout(host.shape())?;
        let (a, b) = (host.dequantize(), device.dequantize());
        let rows = a.chunks(layout.len).zip(b.chunks(layout.len));
        let groups = rows.flat_map(|(a, b)| a.chunks(layout.group).zip(b.chunks(layout.group)));
        let steps = host
            .scale()
            .iter()
            .zip(groups)
            .flat_map(|(scale, (a, b))| a.iter().zip(b).map(move |(a, b)| (a - b).abs() / scale));
        Ok(Self {
            codes: differing(host.codes(), device.codes()),
            scales: differing(host.scale(), device.scale()),
            zeros: differing(host.zero(), device.zero()),
            steps: steps.fold(0.0, f32::max),
        })
    }
}

/// Quantizes a row-major matrix `[out, in]` on the host and on a device, and compares.
///
/// CPU backends give the same bits. A GPU may fuse a product with a sum or divide by an approximate reciprocal, so that a
/// weight half-way between two codes takes the other one, and a scale half-way between two f16 numbers as well.
///
/// # Errors
/// As [`AffineMatrix::quantize`], and when the device fails.
pub fn agreement(
    weight: &[f32],
    shape: [usize; 2],
    config: AffineConfig,
    device: &Device,
) -> Result<Agreement> {
    let host = AffineMatrix::quantize(weight, shape, config)?;
    let tensor: Tensor<2> = Tensor::from_data(TensorData::new(weight.to_vec(), shape), device);
    Agreement::between(&host, &quantize(tensor, &config)?.to_matrix()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: [usize; 2] = [2, 6];
    const WEIGHT: [f32; 12] = [0.1, -0.4, 0.9, 0.3, -0.2, 0.0, 1.5, -1.0, 0.7, 0.2, -0.6, 0.4];

    #[test]
    fn a_host_agrees_with_itself() {
        let config = AffineConfig::per_group(4, 4);
        assert!(agreement(&WEIGHT, SHAPE, config, &Device::flex()).unwrap().is_exact());
    }

    #[test]
    fn differences_are_counted() {
        let config = AffineConfig::per_group(4, 4);
        let host = AffineMatrix::quantize(&WEIGHT, SHAPE, config).unwrap();
        let mut other = WEIGHT;
        other[5] = -0.1; // the second group of the first row was -0.2 to 0
        let other = AffineMatrix::quantize(&other, SHAPE, config).unwrap();
        let found = Agreement::between(&host, &other).unwrap();
        // From 0, code 15, to -0.1, halfway down 15 steps.
        assert_eq!((found.codes, found.scales, found.zeros), (1, 0, 0));
        assert!((7.0..=8.0).contains(&found.steps), "{found:?}");
    }
}
