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

/// A matrix of any of the shapes, widths and kinds that matter: short tails, groups of one, one group for all.
fn cases() -> impl Strategy<Value = (AffineConfig, [usize; 2], Vec<f32>)> {
    (2u8..=8, 1usize..4, 1usize..80).prop_flat_map(|(bits, out, inp)| {
        let granularity = prop_oneof![
            6 => (1..=inp.min(40)).prop_map(Granularity::Group),
            1 => Just(Granularity::Channel),
            1 => Just(Granularity::Tensor),
        ];
        let zero_point = prop_oneof![
            Just(ZeroPoint::InRange),
            Just(ZeroPoint::Printed),
            Just(ZeroPoint::Clamped),
            Just(ZeroPoint::Symmetric)
        ];
        let offset = prop_oneof![3 => Just(0.0f32), 1 => -2.0f32..2.0];
        let weight = prop::collection::vec(-1.0f32..1.0, out * inp);
        (granularity, zero_point, offset, weight).prop_map(
            move |(granularity, zero_point, offset, weight)| {
                let weight = weight.into_iter().map(|w| w + offset).collect();
                (AffineConfig { bits, granularity, zero_point }, [out, inp], weight)
            },
        )
    })
}

#[test]
fn equation_10_by_hand() {
    // min -0.5, max 1.0, 2 bits: s = 0.5, z = 1, W/s + z = 0, 1, 1.8, 3.
    let weight = [-0.5, 0.0, 0.4, 1.0];
    let config = AffineConfig::per_group(2, 4);
    let matrix = AffineMatrix::quantize(&weight, [1, 4], config).unwrap();
    assert_eq!((matrix.codes(), matrix.scale(), matrix.zero()), (&[0, 1, 2, 3][..], &[0.5][..], &[1][..]));
    assert_eq!(matrix.dequantize(), [-0.5, 0.0, 0.5, 1.0]);
    // Codes 0b11100100, scale 0x3800, zero point 1.
    assert_eq!(matrix.pack(), [0b1110_0100, 0x00, 0x38, 0b01]);
}

#[test]
fn one_signed_and_constant_groups_are_kept() {
    let weight = [5.0, 5.5, 6.0, 6.0, -3.0, -3.0, -3.0, -3.0, 0.0, 0.0, 0.0, 0.0];
    let matrix = AffineMatrix::quantize(&weight, [1, 12], AffineConfig::per_group(2, 4)).unwrap();
    assert_eq!(matrix.scale(), [2.0, 1.0, MIN_SCALE]);
    assert_eq!(matrix.zero(), [0, 3, 0]);
    // 5 and 5.5 are 2.5 and 2.75 steps above zero; the tie goes to the even code.
    assert_eq!(matrix.dequantize(), [4.0, 6.0, 6.0, 6.0, -3.0, -3.0, -3.0, -3.0, 0.0, 0.0, 0.0, 0.0]);
}

#[test]
fn weights_that_cannot_be_stored_are_named() {
    let config = AffineConfig::per_group(4, 3);
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut weight = [0.5f32; 10];
        weight[8] = bad;
        for error in [
            AffineMatrix::quantize(&weight, [2, 5], config).unwrap_err(),
            quantize(tensor(&weight, [2, 5]), &config).unwrap_err(),
            fake_quantize_slice(&weight, [2, 5], config, &mut [0.0; 10]).unwrap_err(),
        ] {
            assert!(matches!(error, Error::NonFinite { row: 1, column: 3, .. }), "{error}");
        }
    }
    for large in [3e6, 3e38] {
        let weight = [0.0, 0.0, 0.0, -large, large];
        for error in [
            AffineMatrix::quantize(&weight, [1, 5], config).unwrap_err(),
            quantize(tensor(&weight, [1, 5]), &config).unwrap_err(),
            fake_quantize_slice(&weight, [1, 5], config, &mut [0.0; 5]).unwrap_err(),
        ] {
            assert!(matches!(error, Error::ScaleRange { row: 0, group: 1, .. }), "{error}");
        }
    }
    // The largest that fits.
    let weight = [0.0, MAX_SCALE * 15.0];
    let config = AffineConfig::per_group(4, 2);
    let matrix = AffineMatrix::quantize(&weight, [1, 2], config).unwrap();
    assert_eq!(matrix.dequantize(), weight);
}

#[test]
fn broken_configurations_and_bytes_are_refused() {
    let config = AffineConfig::per_group(4, 2);
    for (broken, bits) in [(AffineConfig::per_group(1, 2), true), (AffineConfig::per_group(4, 0), false)] {
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
fn kinds_of_zero_points_by_hand() {
    let quantized = |weight: &[f32], zero_point| {
        let config = AffineConfig::per_group(2, weight.len()).with_zero_point(zero_point);
        let matrix = AffineMatrix::quantize(weight, [1, weight.len()], config).unwrap();
        (matrix.scale()[0], matrix.zero()[0], matrix.dequantize())
    };
    // Between 5 and 6.5, 3 steps of 1/2.
    let high = [5.0, 5.5, 6.0, 6.5];
    assert_eq!(quantized(&high, ZeroPoint::Printed), (0.5, -10, high.to_vec()));
    // AWQ's zero point cannot follow.
    assert_eq!(quantized(&high, ZeroPoint::Clamped), (0.5, 0, vec![1.5; 4]));
    // From -3 to 3 in three steps, of which the last is not reached.
    assert_eq!(quantized(&[-3.0, 1.0, 0.5, 2.0], ZeroPoint::Symmetric), (2.0, 2, vec![-4.0, 0.0, 0.0, 2.0]));
    // A constant is restored to a 20000th part, and to f16.
    let (scale, _, restored) = quantized(&[7.0; 3], ZeroPoint::Printed);
    assert!((scale - 7.0 / 20_000.0).abs() < 1e-6 && (restored[0] - 7.0).abs() < 1e-3, "{restored:?}");
    for zero_point in [ZeroPoint::InRange, ZeroPoint::Printed, ZeroPoint::Clamped, ZeroPoint::Symmetric] {
        assert_eq!(quantized(&[0.0; 3], zero_point).2, [0.0; 3]);
    }
}

#[test]
fn bits_per_weight_count_everything() {
    let bits = |granularity, zero_point, shape: [usize; 2]| {
        AffineConfig { bits: 4, granularity, zero_point }.bits_per_weight(shape).unwrap()
    };
    let shape = [64, 1024];
    assert_eq!(bits(Granularity::Group(128), ZeroPoint::InRange, shape), 4.0 + 20.0 / 128.0);
    assert_eq!(bits(Granularity::Group(128), ZeroPoint::Symmetric, shape), 4.0 + 16.0 / 128.0);
    assert_eq!(bits(Granularity::Group(128), ZeroPoint::Printed, shape), 4.0 + 32.0 / 128.0);
    // One zero point of 4 bits takes a byte.
    assert_eq!(bits(Granularity::Channel, ZeroPoint::Clamped, shape), 4.0 + 24.0 / 1024.0);
    assert_eq!(bits(Granularity::Tensor, ZeroPoint::Printed, shape), 4.0 + 32.0 / 65536.0);
}

#[test]
fn groups_and_searches_that_cannot_be() {
    let config = AffineConfig::per_group(4, 6);
    let error = AffineMatrix::quantize(&[1.0; 10], [2, 5], config).unwrap_err();
    assert!(matches!(error, Error::GroupTooLarge { group: 6, row: 5 }), "{error}");
    assert!(matches!(quantize(tensor(&[1.0; 10], [2, 5]), &config), Err(Error::GroupTooLarge { .. })));
    assert!(matches!(config.bytes([2, 5]), Err(Error::GroupTooLarge { .. })));

    let config = AffineConfig::per_group(4, 5);
    let clipped = |importance: Option<&[f32]>, clip: &ClipSearch| {
        AffineMatrix::quantize_clipped(&[1.0; 10], [2, 5], config, importance, clip).unwrap_err()
    };
    for clip in [
        ClipSearch { steps: 0, max_shrink: 0.5 },
        ClipSearch { steps: 3, max_shrink: 1.0 },
        ClipSearch { steps: 3, max_shrink: f32::NAN },
    ] {
        assert!(matches!(clipped(None, &clip), Error::ClipSearch { .. }));
    }
    let clip = ClipSearch::default();
    assert!(matches!(clipped(Some(&[1.0; 4]), &clip), Error::CalibrationWidth { found: 4, .. }));
    let importance = [1.0, 1.0, f32::NAN, 1.0, 1.0];
    assert!(matches!(clipped(Some(&importance), &clip), Error::CalibrationValue { channel: 2, .. }));
}

#[test]
fn replaced_parts_are_checked() {
    let config = AffineConfig::per_group(3, 2);
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
        let layout = config.layout(shape).unwrap();
        let bound = 0.5 + f32::from(config.max_code()) * 2f32.powi(-11);
        let dequantized = matrix.dequantize();
        let rows = weight.chunks(layout.len).zip(dequantized.chunks(layout.len));
        let groups = rows.flat_map(|(w, q)| w.chunks(layout.group).zip(q.chunks(layout.group)));
        for (&scale, (w, q)) in matrix.scale().iter().zip(groups) {
            if config.zero_point == ZeroPoint::Clamped && (w.iter().all(|w| *w > 0.0) || w.iter().all(|w| *w < 0.0)) {
                continue;
            }
            let largest = w.iter().fold(0.0f32, |a, w| a.max(w.abs()));
            for (w, q) in w.iter().zip(q) {
                // Far from 0, W / s + z cancels in f32, too.
                let slack = (f32::from(config.max_code()) * scale + largest) * 1e-6;
                // Below 2^-14 a scale is rounded to a multiple of 2^-24, whatever its size.
                let coarse = if scale < 2f32.powi(-14) { f32::from(config.max_code()) * 2f32.powi(-25) } else { 0.0 };
                let bound = bound * scale + slack + coarse;
                prop_assert!((w - q).abs() <= bound, "{w} became {q}, scale {scale}");
            }
        }
    }

    /// What was restored is a weight of its own grid, so that quantizing it on that grid changes nothing.
    #[test]
    fn restored_weights_keep_their_codes((config, shape, weight) in cases()) {
        let matrix = AffineMatrix::quantize(&weight, shape, config).unwrap();
        let layout = config.layout(shape).unwrap();
        let (dequantized, max_code) = (matrix.dequantize(), f32::from(config.max_code()));
        let rows = dequantized.chunks(layout.len).zip(matrix.codes().chunks(layout.len));
        let groups = rows.flat_map(|(w, q)| w.chunks(layout.group).zip(q.chunks(layout.group)));
        for ((&scale, &zero), (weights, codes)) in matrix.scale().iter().zip(matrix.zero()).zip(groups) {
            let grid = Grid::new(scale, f32::from(zero), max_code);
            for (&w, &code) in weights.iter().zip(codes) {
                prop_assert_eq!(grid.code(w), f32::from(code));
                prop_assert_eq!(grid.nearest(w), w);
            }
        }
    }

    #[test]
    fn clipping_never_loses((config, shape, weight) in cases(), importance in prop::collection::vec(0.0f32..9.0, 80)) {
        let importance = &importance[..shape[1]];
        let error = |matrix: &AffineMatrix, weighted: bool| -> f64 {
            let errors = weight.iter().zip(matrix.dequantize()).enumerate();
            errors.map(|(at, (w, q))| {
                let h = if weighted { importance[at % shape[1]] } else { 1.0 };
                f64::from(h) * f64::from(w - q).powi(2)
            }).sum()
        };
        let whole = AffineMatrix::quantize(&weight, shape, config).unwrap();
        for weighted in [false, true] {
            let importance = weighted.then_some(importance);
            let clip = ClipSearch::default();
            let clipped = AffineMatrix::quantize_clipped(&weight, shape, config, importance, &clip).unwrap();
            prop_assert!(error(&clipped, weighted) <= error(&whole, weighted) * (1.0 + 1e-6));
        }
    }

    #[test]
    fn device_and_host_give_the_same_bits((config, shape, weight) in cases()) {
        let host = AffineMatrix::quantize(&weight, shape, config).unwrap();
        let device = quantize(tensor(&weight, shape), &config).unwrap();
        prop_assert_eq!(&device.to_matrix().unwrap(), &host);
        prop_assert_eq!(values(device.dequantize()), host.dequantize());
        prop_assert_eq!(values(fake_quantize(tensor(&weight, shape), &config).unwrap()), host.dequantize());
        let mut fake = vec![f32::NAN; weight.len()];
        fake_quantize_slice(&weight, shape, config, &mut fake).unwrap();
        prop_assert_eq!(fake, host.dequantize());
    }

    #[test]
    fn packed_bytes_restore_the_matrix((config, shape, weight) in cases()) {
        let matrix = AffineMatrix::quantize(&weight, shape, config).unwrap();
        let bytes = matrix.pack();
        prop_assert_eq!(bytes.len() as u64, config.bytes(shape).unwrap());
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
        let config = AffineConfig::per_group(bits, 2 + codes.len());
        let (zero, max) = (zero & config.max_code(), config.max_code());
        let scale = f32::from(steps) / 1024.0; // 11 bits: an f16 number
        let codes: Vec<u8> = [0, max].into_iter().chain(codes.iter().map(|code| code & max)).collect();
        let weight: Vec<f32> =
            codes.iter().map(|&code| (f32::from(code) - f32::from(zero)) * scale).collect();
        let matrix = AffineMatrix::quantize(&weight, [1, weight.len()], config).unwrap();
        prop_assert_eq!(matrix.codes(), codes);
        prop_assert_eq!(matrix.scale(), &[scale]);
        prop_assert_eq!(matrix.zero(), &[i16::from(zero)]);
        prop_assert_eq!(matrix.dequantize(), weight);
    }
}
