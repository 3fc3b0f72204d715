//! Error bounds, idempotence and packing of the affine quantizer.

use burn::tensor::{Device, Tensor, TensorData};
use proptest::prelude::*;

use super::*;

fn tensor(weight: &[f32], shape: [usize; 2]) -> Tensor<2> {
    Tensor::from_data(TensorData::new(weight.to_vec(), shape), &Device::flex())
}

fn values(tensor: Tensor<2>) -> Vec<f32> {
    tensor.try_into_vec_as().unwrap()
}

/// A matrix of any of the shapes and widths that matter: short tails, groups of one, groups beyond the row.
fn cases() -> impl Strategy<Value = (AffineConfig, [usize; 2], Vec<f32>)> {
    (2u8..=8, 1usize..40, 1usize..4, 1usize..80).prop_flat_map(|(bits, group, out, inp)| {
        let offset = prop_oneof![3 => Just(0.0f32), 1 => -2.0f32..2.0];
        let weight = prop::collection::vec(-1.0f32..1.0, out * inp);
        (offset, weight).prop_map(move |(offset, weight)| {
            let weight = weight.into_iter().map(|w| w + offset).collect();
            (AffineConfig { bits, group }, [out, inp], weight)
        })
    })
}

#[test]
fn equation_10_by_hand() {
    // min -0.5, max 1.0, 2 bits: s = 0.5, z = 1, W/s + z = 0, 1, 1.8, 3.
    let weight = [-0.5, 0.0, 0.4, 1.0];
    let config = AffineConfig { bits: 2, group: 4 };
    let matrix = AffineMatrix::quantize(&weight, [1, 4], config).unwrap();
    assert_eq!((matrix.codes(), matrix.scale(), matrix.zero()), (&[0, 1, 2, 3][..], &[0.5][..], &[1][..]));
    assert_eq!(matrix.dequantize(), [-0.5, 0.0, 0.5, 1.0]);
    // Codes 0b11100100, scale 0x3800, zero point 1.
    assert_eq!(matrix.pack(), [0b1110_0100, 0x00, 0x38, 0b01]);
}

#[test]
fn one_signed_and_constant_groups_are_kept() {
    let weight = [5.0, 5.5, 6.0, 6.0, -3.0, -3.0, -3.0, -3.0, 0.0, 0.0, 0.0, 0.0];
    let matrix = AffineMatrix::quantize(&weight, [1, 12], AffineConfig { bits: 2, group: 4 }).unwrap();
    assert_eq!(matrix.scale(), [2.0, 1.0, MIN_SCALE]);
    assert_eq!(matrix.zero(), [0, 3, 0]);
    // 5 and 5.5 are 2.5 and 2.75 steps above zero; the tie goes to the even code.
    assert_eq!(matrix.dequantize(), [4.0, 6.0, 6.0, 6.0, -3.0, -3.0, -3.0, -3.0, 0.0, 0.0, 0.0, 0.0]);
}

#[test]
fn weights_that_cannot_be_stored_are_named() {
    let config = AffineConfig { bits: 4, group: 3 };
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut weight = [0.5f32; 10];
        weight[8] = bad;
        for error in [
            AffineMatrix::quantize(&weight, [2, 5], config).unwrap_err(),
            quantize(tensor(&weight, [2, 5]), &config).unwrap_err(),
        ] {
            assert!(matches!(error, Error::NonFinite { row: 1, column: 3, .. }), "{error}");
        }
    }
    for large in [3e6, 3e38] {
        let weight = [0.0, 0.0, 0.0, -large, large];
        for error in [
            AffineMatrix::quantize(&weight, [1, 5], config).unwrap_err(),
            quantize(tensor(&weight, [1, 5]), &config).unwrap_err(),
        ] {
            assert!(matches!(error, Error::ScaleRange { row: 0, group: 1, .. }), "{error}");
        }
    }
    // The largest that fits.
    let weight = [0.0, MAX_SCALE * 15.0];
    let matrix = AffineMatrix::quantize(&weight, [1, 2], config).unwrap();
    assert_eq!(matrix.dequantize(), weight);
}

#[test]
fn broken_configurations_and_bytes_are_refused() {
    let config = AffineConfig { bits: 4, group: 2 };
    for (broken, bits) in
        [(AffineConfig { bits: 1, group: 2 }, true), (AffineConfig { bits: 4, group: 0 }, false)]
    {
        let host = AffineMatrix::quantize(&[1.0], [1, 1], broken).unwrap_err();
        let device = quantize(tensor(&[1.0], [1, 1]), &broken).unwrap_err();
        for error in [host, device] {
            assert_eq!(matches!(error, Error::Bits { bits: 1 }), bits);
            assert_eq!(matches!(error, Error::EmptyGroup), !bits);
        }
    }
    let mut bytes = AffineMatrix::quantize(&[1.0, -1.0, 0.5], [1, 3], config).unwrap().pack();
    assert!(matches!(
        AffineMatrix::unpack(&bytes[1..], [1, 3], config),
        Err(Error::PackedLength { expected: 7, found: 6, .. })
    ));
    bytes[3] = 0xfc; // the first scale becomes negative infinity, or NaN
    assert!(matches!(AffineMatrix::unpack(&bytes, [1, 3], config), Err(Error::ScaleRange { group: 0, .. })));
}

#[test]
fn replaced_parts_are_checked() {
    let config = AffineConfig { bits: 3, group: 2 };
    let whole = quantize(tensor(&[1.0, -1.0, 0.5, 0.25], [2, 2]), &config).unwrap();
    let codes = AffineTensor { codes: whole.codes.clone() + 1, ..whole.clone() };
    assert!(matches!(codes.pack(), Err(Error::CodeRange { bits: 3, value: 8, .. })));
    let scale = AffineTensor { scale: tensor(&[1.0, 1.0], [1, 2]), ..whole };
    assert!(matches!(scale.pack(), Err(Error::AffineShape { part: "scales", .. })));
}

proptest! {
    #[test]
    fn error_is_at_most_half_a_step((config, shape, weight) in cases()) {
        let matrix = AffineMatrix::quantize(&weight, shape, config).unwrap();
        let groups = config.groups(shape[1]);
        let bound = 0.5 + f32::from(config.max_code()) * 2f32.powi(-11);
        for (index, (w, q)) in weight.iter().zip(matrix.dequantize()).enumerate() {
            let [row, column] = [index / shape[1], index % shape[1]];
            let scale = matrix.scale()[row * groups + column / config.group];
            let range = f32::from(config.max_code()) * scale;
            prop_assert!((w - q).abs() <= bound * scale + range * 1e-6, "{w} became {q}, scale {scale}");
        }
    }

    #[test]
    fn device_and_host_give_the_same_bits((config, shape, weight) in cases()) {
        let host = AffineMatrix::quantize(&weight, shape, config).unwrap();
        let device = quantize(tensor(&weight, shape), &config).unwrap();
        prop_assert_eq!(&device.to_matrix().unwrap(), &host);
        prop_assert_eq!(values(device.dequantize()), host.dequantize());
        prop_assert_eq!(values(fake_quantize(tensor(&weight, shape), &config).unwrap()), host.dequantize());
    }

    #[test]
    fn packed_bytes_restore_the_matrix((config, shape, weight) in cases()) {
        let matrix = AffineMatrix::quantize(&weight, shape, config).unwrap();
        let bytes = matrix.pack();
        prop_assert_eq!(bytes.len() as u64, crate::Format::from(config).bytes(shape).unwrap());
        prop_assert_eq!(&AffineMatrix::unpack(&bytes, shape, config).unwrap(), &matrix);
        let device = AffineTensor::unpack(&bytes, shape, &config, &Device::flex()).unwrap();
        prop_assert_eq!(values(device.dequantize()), matrix.dequantize());
        prop_assert_eq!(device.pack().unwrap(), bytes);
    }

    /// Weights on a grid that uses both ends of the codes are a fixed point: quantizing again changes nothing.
    #[test]
    fn representable_weights_are_a_fixed_point(
        bits in 2u8..=8,
        steps in 1u16..2048,
        zero in any::<u8>(),
        codes in prop::collection::vec(any::<u8>(), 0..30),
    ) {
        let config = AffineConfig { bits, group: 32 };
        let (zero, max) = (zero & config.max_code(), config.max_code());
        let scale = f32::from(steps) / 1024.0; // 11 bits: an f16 number
        let codes: Vec<u8> = [0, max].into_iter().chain(codes.iter().map(|code| code & max)).collect();
        let weight: Vec<f32> =
            codes.iter().map(|&code| (f32::from(code) - f32::from(zero)) * scale).collect();
        let matrix = AffineMatrix::quantize(&weight, [1, weight.len()], config).unwrap();
        prop_assert_eq!(matrix.codes(), codes);
        prop_assert_eq!(matrix.scale(), &[scale]);
        prop_assert_eq!(matrix.zero(), &[zero]);
        prop_assert_eq!(matrix.dequantize(), weight);
    }
}
