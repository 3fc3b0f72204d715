//! One matrix to its stored bytes, and to what they decode to.

use crate::{
    affine::{AffineConfig, AffineMatrix},
    error::{Error, Result},
    format::Format,
};

/// A quantized matrix.
#[derive(Clone, Debug, PartialEq)]
pub struct Quantized {
    /// What a file holds: [`Format::bytes`] bytes, row after row.
    pub bytes: Vec<u8>,
    /// What the bytes decode to, row-major `[out, in]`: the weights that a reader of the file computes with.
    pub dequantized: Vec<f32>,
}

/// Quantizes a row-major matrix `[out, in]`.
///
/// `imatrix` has one weight per input channel, the mean squared activation; the K types minimise the error that
/// it weights. The other types and affine formats, which follow Eq. 10 to the letter, ignore it.
///
/// The result does not depend on the number of threads.
///
/// # Errors
/// When the slice does not have the shape's length, the format does not fit the shape, the imatrix does not fit
/// the input channels, or a weight is not finite or beyond the format's range.
pub fn quantize(
    weight: &[f32],
    shape: [usize; 2],
    format: Format,
    imatrix: Option<&[f32]>,
) -> Result<Quantized> {
    check_length(weight, shape)?;
    match format {
        Format::Affine { bits, group } => {
            let matrix = AffineMatrix::quantize(weight, shape, AffineConfig::per_group(bits, group))?;
            Ok(Quantized { bytes: matrix.pack(), dequantized: matrix.dequantize() })
        }
        Format::Ggml(ty) => {
            let bytes = ramp_gguf::encode(ty, weight, shape[1], imatrix)?;
            let mut dequantized = vec![0.0; weight.len()];
            ramp_gguf::decode(ty, &bytes, &mut dequantized)?;
            Ok(Quantized { bytes, dequantized })
        }
    }
}

/// The weights of stored bytes, row-major `[out, in]`: what [`quantize`] says that they decode to.
///
/// # Errors
/// When the bytes are not as many as the format and the shape ask for.
pub fn dequantize(bytes: &[u8], shape: [usize; 2], format: Format) -> Result<Vec<f32>> {
    match format {
        Format::Affine { bits, group } => {
            Ok(AffineMatrix::unpack(bytes, shape, AffineConfig::per_group(bits, group))?.dequantize())
        }
        Format::Ggml(ty) => {
            let [out, inp] = shape;
            let mut weights = vec![0.0; out.checked_mul(inp).ok_or(Error::SizeOverflow { shape })?];
            ramp_gguf::decode(ty, bytes, &mut weights)?;
            Ok(weights)
        }
    }
}

/// Checks that a slice is a matrix of the shape.
pub(crate) fn check_length(weight: &[f32], shape: [usize; 2]) -> Result<()> {
    let [out, inp] = shape;
    match out.checked_mul(inp).ok_or(Error::SizeOverflow { shape })? {
        0 => Err(Error::EmptyShape { shape }),
        n if n == weight.len() => Ok(()),
        _ => Err(Error::WeightLength { shape, found: weight.len() }),
    }
}

#[cfg(test)]
mod tests {
    use ramp_gguf::GgmlType;

    use super::*;

    fn wave(n: usize) -> Vec<f32> {
        (0..n).map(|i| (i as f32 * 0.71).sin() * 0.1 + (i as f32 * 0.013).cos() * 0.05).collect()
    }

    #[test]
    fn every_format_has_the_bytes_it_says() {
        let types = GgmlType::ALL.iter().copied().filter(|ty| ty.can_encode());
        for ty in types {
            for shape in [[1, 256], [3, 512], [5, 768]] {
                let quantized = quantize(&wave(shape[0] * shape[1]), shape, Format::Ggml(ty), None).unwrap();
                assert_eq!(
                    dequantize(&quantized.bytes, shape, Format::Ggml(ty)).unwrap(),
                    quantized.dequantized
                );
                assert_eq!(
                    quantized.bytes.len() as u64,
                    Format::Ggml(ty).bytes(shape).unwrap(),
                    "{ty} {shape:?}"
                );
            }
        }
        for bits in AffineConfig::MIN_BITS..=AffineConfig::MAX_BITS {
            for shape in [[1, 1], [3, 127], [2, 128], [5, 129], [4, 300]] {
                let format = Format::Affine { bits, group: 64 }.fallback(shape[1]);
                let quantized = quantize(&wave(shape[0] * shape[1]), shape, format, None).unwrap();
                assert_eq!(quantized.bytes.len() as u64, format.bytes(shape).unwrap(), "{format} {shape:?}");
            }
        }
        for ty in [GgmlType::F32, GgmlType::F16, GgmlType::BF16] {
            let quantized = quantize(&wave(3 * 7), [3, 7], Format::Ggml(ty), None).unwrap();
            assert_eq!(quantized.bytes.len() as u64, Format::Ggml(ty).bytes([3, 7]).unwrap());
        }
    }

    #[test]
    fn dequantized_is_what_the_bytes_decode_to() {
        let (weight, shape) = (wave(4 * 512), [4, 512]);
        let imatrix: Vec<f32> = (0..512).map(|i| 1.0 + (i % 7) as f32).collect();
        let quantized = quantize(&weight, shape, Format::Ggml(GgmlType::Q3_K), Some(&imatrix)).unwrap();
        let mut decoded = vec![0.0; weight.len()];
        ramp_gguf::decode(GgmlType::Q3_K, &quantized.bytes, &mut decoded).unwrap();
        assert_eq!(decoded, quantized.dequantized);
        let plain = quantize(&weight, shape, Format::Ggml(GgmlType::Q3_K), None).unwrap();
        assert_ne!(plain.bytes, quantized.bytes, "the imatrix must reach the codec");

        let config = AffineConfig::per_group(3, 100);
        let quantized = quantize(&weight, shape, Format::Affine { bits: 3, group: 100 }, None).unwrap();
        let unpacked = AffineMatrix::unpack(&quantized.bytes, shape, config).unwrap();
        assert_eq!(unpacked.dequantize(), quantized.dequantized);
    }

    #[test]
    fn more_bits_lose_less() {
        let (weight, shape) = (wave(16 * 256), [16, 256]);
        let error = |format: Format| -> f64 {
            let quantized = quantize(&weight, shape, format, None).unwrap();
            weight.iter().zip(&quantized.dequantized).map(|(w, q)| f64::from(w - q).powi(2)).sum()
        };
        let ggml =
            [GgmlType::Q2_K, GgmlType::Q3_K, GgmlType::Q4_K, GgmlType::Q5_K, GgmlType::Q6_K, GgmlType::Q8_0];
        let ggml = ggml.map(|ty| error(ty.into())).to_vec();
        let affine = (2..=8).map(|bits| error(Format::Affine { bits, group: 64 })).collect::<Vec<_>>();
        for errors in [ggml, affine] {
            assert!(errors.windows(2).all(|pair| pair[1] < pair[0]), "{errors:?}");
        }
    }

    #[test]
    fn broken_input_is_refused() {
        let q4 = Format::Ggml(GgmlType::Q4_K);
        let refused = |weight: &[f32], shape, format| quantize(weight, shape, format, None).unwrap_err();
        assert!(matches!(refused(&[0.0; 3], [2, 2], q4), Error::WeightLength { found: 3, .. }));
        assert!(matches!(refused(&[], [0, 256], q4), Error::EmptyShape { .. }));
        assert!(matches!(refused(&[0.0], [usize::MAX, 2], q4), Error::SizeOverflow { .. }));
        assert!(matches!(refused(&[0.0; 100], [1, 100], q4), Error::Gguf(_)));
        assert!(matches!(refused(&[f32::NAN; 256], [1, 256], q4), Error::Gguf(_)));
        assert!(matches!(quantize(&[0.0; 256], [1, 256], q4, Some(&[1.0])), Err(Error::Gguf(_))));
    }
}
