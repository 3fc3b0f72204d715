//! Properties of the codecs that hashes do not show.

use half::f16;
use proptest::prelude::*;

use super::golden_tests::{gauss, importance};
use super::kernel::Isa;
use super::{BlockCodec, codec, decode, encode, encode_into, oracle};
use super::{iq4_nl, iq4_xs, q2_k, q3_k, q4_0, q4_1, q4_k, q5_0, q5_1, q5_k, q6_k, q8_0};
use crate::block::KVALUES;
use crate::{Error, GgmlType, QUANTIZED};

const ENCODABLE: [GgmlType; 15] = [
    GgmlType::F32,
    GgmlType::F16,
    GgmlType::BF16,
    GgmlType::Q8_0,
    GgmlType::Q4_0,
    GgmlType::Q4_1,
    GgmlType::Q5_0,
    GgmlType::Q5_1,
    GgmlType::IQ4_NL,
    GgmlType::IQ4_XS,
    GgmlType::Q2_K,
    GgmlType::Q3_K,
    GgmlType::Q4_K,
    GgmlType::Q5_K,
    GgmlType::Q6_K,
];

fn round_trip(ty: GgmlType, weights: &[f32], n_per_row: usize, imatrix: Option<&[f32]>) -> Vec<f32> {
    let bytes = encode(ty, weights, n_per_row, imatrix).unwrap();
    let mut decoded = vec![f32::NAN; weights.len()];
    decode(ty, &bytes, &mut decoded).unwrap();
    decoded
}

fn relative_rms(weights: &[f32], decoded: &[f32]) -> f64 {
    let square = |x: f32| f64::from(x) * f64::from(x);
    let error: f64 = weights.iter().zip(decoded).map(|(a, b)| square(a - b)).sum();
    (error / weights.iter().map(|x| square(*x)).sum::<f64>()).sqrt()
}

#[test]
fn block_sizes_are_those_of_the_type_table() {
    fn check<C: BlockCodec<W>, const W: usize>(ty: GgmlType) {
        assert_eq!((ty.block_size(), ty.type_size()), (W, size_of::<C::Block>()), "{ty}");
    }
    check::<q8_0::Q8_0, _>(GgmlType::Q8_0);
    check::<q4_0::Q4_0, _>(GgmlType::Q4_0);
    check::<q4_1::Q4_1, _>(GgmlType::Q4_1);
    check::<q5_0::Q5_0, _>(GgmlType::Q5_0);
    check::<q5_1::Q5_1, _>(GgmlType::Q5_1);
    check::<iq4_nl::Iq4Nl, _>(GgmlType::IQ4_NL);
    check::<iq4_xs::Iq4Xs, _>(GgmlType::IQ4_XS);
    check::<q2_k::Q2K, _>(GgmlType::Q2_K);
    check::<q3_k::Q3K, _>(GgmlType::Q3_K);
    check::<q4_k::Q4K, _>(GgmlType::Q4_K);
    check::<q5_k::Q5K, _>(GgmlType::Q5_K);
    check::<q6_k::Q6K, _>(GgmlType::Q6_K);
    assert!(QUANTIZED.iter().all(|ty| ty.can_encode() && ty.is_quantized()));
    for &ty in GgmlType::ALL {
        assert_eq!(ty.can_encode(), ENCODABLE.contains(&ty), "{ty}");
        assert_eq!(ty.can_encode(), codec(ty, Isa::best()).is_some(), "{ty}");
    }
}

/// Error of near-Gaussian weights, relative root mean square. Uniform codes with step `s` have about
/// `s / sqrt(12)`; the bounds leave a tenth above what was measured.
#[test]
fn decoding_undoes_encoding_to_the_precision_of_the_type() {
    let x = gauss();
    let bounds = [
        (GgmlType::F32, 0.0),
        (GgmlType::F16, 0.000_25),
        (GgmlType::BF16, 0.002),
        (GgmlType::Q8_0, 0.0065),
        (GgmlType::Q6_K, 0.022),
        (GgmlType::Q5_K, 0.042),
        (GgmlType::Q4_K, 0.082),
        (GgmlType::Q3_K, 0.175),
        (GgmlType::Q2_K, 0.36),
        (GgmlType::Q5_1, 0.042),
        (GgmlType::Q5_0, 0.047),
        (GgmlType::Q4_1, 0.086),
        (GgmlType::Q4_0, 0.098),
        (GgmlType::IQ4_NL, 0.082),
        (GgmlType::IQ4_XS, 0.082),
    ];
    for (ty, bound) in bounds {
        let error = relative_rms(&x, &round_trip(ty, &x, 4096, None));
        assert!(error <= bound, "{ty}: {error}");
        assert!(error >= bound / 2.0, "{ty}: bound {bound} is loose, measured {error}");
    }
}

#[test]
fn importance_lowers_the_error_that_it_weights() {
    let (x, w) = (gauss(), importance());
    let weighted = |decoded: &[f32]| -> f64 {
        x.iter().zip(decoded).enumerate().map(|(i, (a, b))| f64::from(w[i % 4096] * (a - b) * (a - b))).sum()
    };
    for &ty in QUANTIZED.iter().filter(|ty| **ty != GgmlType::Q8_0) {
        let plain = weighted(&round_trip(ty, &x, 4096, None));
        let with = weighted(&round_trip(ty, &x, 4096, Some(&w)));
        assert!(with < plain, "{ty}: {with} is not below {plain}");
    }
}

#[test]
fn zeros_stay_zeros() {
    for ty in ENCODABLE {
        let zeros = vec![0.0; 512];
        assert_eq!(round_trip(ty, &zeros, 256, None), zeros, "{ty}");
        assert_eq!(round_trip(ty, &zeros, 256, Some(&[1.0; 256])), zeros, "{ty}");
    }
}

#[test]
fn importance_of_zero_is_finite() {
    let x = &gauss()[..512];
    for ty in ENCODABLE {
        let decoded = round_trip(ty, x, 256, Some(&[0.0; 256]));
        assert!(decoded.iter().all(|x| x.is_finite()), "{ty}");
    }
}

#[test]
fn the_number_of_threads_does_not_change_the_bytes() {
    let (x, w) = (gauss(), importance());
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let five = rayon::ThreadPoolBuilder::new().num_threads(5).build().unwrap();
    for &ty in QUANTIZED {
        let expected = one.install(|| encode(ty, &x, 4096, Some(&w)).unwrap());
        assert_eq!(five.install(|| encode(ty, &x, 4096, Some(&w)).unwrap()), expected, "{ty}");
        let mut decoded = [vec![0.0; x.len()], vec![0.0; x.len()]];
        one.install(|| decode(ty, &expected, &mut decoded[0]).unwrap());
        five.install(|| decode(ty, &expected, &mut decoded[1]).unwrap());
        assert_eq!(decoded[0], decoded[1], "{ty}");
    }
}

#[test]
fn rows_are_independent() {
    let x = &gauss()[..2048];
    for &ty in QUANTIZED {
        let whole = encode(ty, x, 512, None).unwrap();
        let rows: Vec<u8> = x.chunks(512).flat_map(|row| encode(ty, row, 512, None).unwrap()).collect();
        assert_eq!(whole, rows, "{ty}");
        let mut buffer = vec![0xaa; whole.len()];
        encode_into(ty, x, 512, None, &mut buffer).unwrap();
        assert_eq!(whole, buffer, "{ty}: what was in the buffer shows through");
    }
}

#[test]
fn weights_that_are_not_numbers_are_named() {
    for ty in ENCODABLE {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = vec![0.5; 1024];
            x[256 + 33] = bad;
            x[512 + 1] = bad;
            let error = encode(ty, &x, 256, None).unwrap_err();
            assert!(matches!(error, Error::NonFiniteWeight { row: 1, column: 33, .. }), "{ty}: {error}");
        }
    }
}

#[test]
fn weights_beyond_the_scale_are_named() {
    // Q4_K stores the range / 63 / 15 or 31 in 16 bits, Q6_K the maximum / 128 / 32.
    for (ty, column) in [
        (GgmlType::F16, 300),
        (GgmlType::Q8_0, 288),
        (GgmlType::Q4_0, 288),
        (GgmlType::Q4_1, 288),
        (GgmlType::Q5_0, 288),
        (GgmlType::Q5_1, 288),
        (GgmlType::IQ4_NL, 288),
        (GgmlType::IQ4_XS, 256),
        (GgmlType::Q2_K, 256),
        (GgmlType::Q3_K, 256),
        (GgmlType::Q4_K, 256),
        (GgmlType::Q5_K, 256),
        (GgmlType::Q6_K, 256),
    ] {
        for imatrix in [None, Some(&[1.0; 512][..])] {
            let mut x = vec![0.5; 1024];
            x[512 + 300] = 1e30;
            let error = encode(ty, &x, 512, imatrix).unwrap_err();
            let expected = format!("weights at row 1 from column {column} are too large for {ty}");
            assert_eq!(error.to_string(), expected);
        }
    }
    let error = encode(GgmlType::BF16, &[f32::MAX], 1, None).unwrap_err();
    assert!(matches!(error, Error::WeightRange { ty: GgmlType::BF16, row: 0, column: 0 }));
}

#[test]
fn shapes_are_checked() {
    let x = [0.0; 512];
    assert!(matches!(encode(GgmlType::IQ2_S, &x, 512, None), Err(Error::CannotEncode { .. })));
    assert!(matches!(encode(GgmlType::Q4_K, &x, 0, None), Err(Error::NotWholeRows { .. })));
    assert!(matches!(encode(GgmlType::Q4_K, &x, 100, None), Err(Error::NotWholeRows { .. })));
    assert!(matches!(encode(GgmlType::Q4_K, &x, 128, None), Err(Error::RowNotBlockMultiple { .. })));
    assert!(matches!(
        encode(GgmlType::Q4_K, &x, 256, Some(&[1.0; 512])),
        Err(Error::ImatrixLength { expected: 256, found: 512 })
    ));
    let mut importance = [1.0; 256];
    importance[7] = -1.0;
    assert!(matches!(
        encode(GgmlType::Q4_K, &x, 256, Some(&importance)),
        Err(Error::ImatrixValue { column: 7, .. })
    ));
    assert!(matches!(
        encode_into(GgmlType::Q4_K, &x, 256, None, &mut [0; 287]),
        Err(Error::EncodedLength { expected: 288, found: 287, .. })
    ));
    let mut out = [0.0; 256];
    assert!(matches!(decode(GgmlType::IQ2_S, &[0; 82], &mut out), Err(Error::CannotDecode { .. })));
    assert!(matches!(decode(GgmlType::Q4_K, &[0; 143], &mut out), Err(Error::EncodedLength { .. })));
    assert!(matches!(decode(GgmlType::Q4_K, &[], &mut out[..255]), Err(Error::RowNotBlockMultiple { .. })));
    assert!(encode(GgmlType::Q4_K, &[], 256, None).unwrap().is_empty());
}

/// The formulas of the format table, one weight at a time, without any of the codec's index arithmetic.
fn decode_by_the_table(ty: GgmlType, block: &[u8], e: usize) -> f32 {
    let half_at = |at: usize| f16::from_le_bytes([block[at], block[at + 1]]).to_f32();
    let k4 = |j: usize| {
        let s = &block[4..16];
        if j < 4 {
            (s[j] & 63, s[j + 4] & 63)
        } else {
            ((s[j + 4] & 15) + (s[j - 4] >> 6) * 16, (s[j + 4] >> 4) + (s[j] >> 6) * 16)
        }
    };
    let nibble = |bytes: &[u8]| bytes[e / 64 * 32 + e % 32] >> (e % 64 / 32 * 4) & 15;
    let legacy = |bytes: &[u8]| bytes[e % 16] >> (e % 32 / 16 * 4) & 15;
    let fifth = |bytes: &[u8]| (bytes[e / 8] >> (e % 8) & 1) * 16;
    match ty {
        GgmlType::Q8_0 => half_at(0) * f32::from(block[2 + e] as i8),
        GgmlType::Q4_0 => half_at(0) * (f32::from(legacy(&block[2..])) - 8.0),
        GgmlType::Q4_1 => half_at(0) * f32::from(legacy(&block[4..])) + half_at(2),
        GgmlType::Q5_0 => half_at(0) * (f32::from(legacy(&block[6..]) + fifth(&block[2..])) - 16.0),
        GgmlType::Q5_1 => half_at(0) * f32::from(legacy(&block[8..]) + fifth(&block[4..])) + half_at(2),
        GgmlType::IQ4_NL => half_at(0) * KVALUES[usize::from(legacy(&block[2..]))],
        GgmlType::IQ4_XS => {
            let j = e / 32;
            let low = block[4 + j / 2] >> (j % 2 * 4) & 15;
            let scale = low + (block[2 + j / 4] >> (j % 4 * 2) & 3) * 16;
            let q = block[8 + j * 16 + e % 16] >> (e % 32 / 16 * 4) & 15;
            half_at(0) * (f32::from(scale) - 32.0) * KVALUES[usize::from(q)]
        }
        GgmlType::Q2_K => {
            let q = block[16 + e / 128 * 32 + e % 32] >> (e % 128 / 32 * 2) & 3;
            let (scale, min) = (block[e / 16] & 15, block[e / 16] >> 4);
            half_at(80) * f32::from(scale) * f32::from(q) - half_at(82) * f32::from(min)
        }
        GgmlType::Q3_K => {
            let (high, low) = (block[e % 32] >> (e / 32) & 1, block[32 + e / 128 * 32 + e % 32]);
            let q = (low >> (e % 128 / 32 * 2) & 3) + 4 * high;
            let (j, s) = (e / 16, &block[96..108]);
            let low = if j < 8 { s[j] & 15 } else { s[j - 8] >> 4 };
            let scale = low + (s[8 + j % 4] >> (2 * (j / 4)) & 3) * 16;
            half_at(108) * (f32::from(scale) - 32.0) * (f32::from(q) - 4.0)
        }
        GgmlType::Q4_K => {
            let (scale, min) = k4(e / 32);
            half_at(0) * f32::from(scale) * f32::from(nibble(&block[16..])) - half_at(2) * f32::from(min)
        }
        GgmlType::Q5_K => {
            let (scale, min) = k4(e / 32);
            let q = nibble(&block[48..]) + 16 * (block[16 + e % 32] >> (e / 32) & 1);
            half_at(0) * f32::from(scale) * f32::from(q) - half_at(2) * f32::from(min)
        }
        GgmlType::Q6_K => {
            let (h, quarter, l) = (e / 128, e % 128 / 32, e % 32);
            let low = block[64 * h + 32 * (quarter % 2) + l] >> (quarter / 2 * 4) & 15;
            let q = low + 16 * (block[128 + 32 * h + l] >> (2 * quarter) & 3);
            half_at(208) * f32::from(block[192 + e / 16] as i8) * (f32::from(q) - 32.0)
        }
        _ => unreachable!("only quantized types"),
    }
}

/// Rows of sub-blocks of many kinds and magnitudes: where sums cancel, scales vanish beside others and codes leave
/// their range.
fn rows() -> impl Strategy<Value = Vec<f32>> {
    let x = -1.0_f32..1.0;
    let kind = prop_oneof![
        4 => prop::collection::vec(x.clone(), 32),
        1 => prop::collection::vec(0.0_f32..1.0, 32),
        1 => prop::collection::vec(-1.0_f32..0.0, 32),
        1 => prop::collection::vec(0.5_f32..0.5001, 32),
        1 => prop::collection::vec(prop_oneof![Just(0.0), Just(-0.0), Just(1.0), Just(-1.0), Just(0.5)], 32),
        1 => prop::collection::vec(prop_oneof![8 => Just(0.0), 1 => x.clone()], 32),
        1 => prop::collection::vec(prop_oneof![15 => x.clone().prop_map(|x| x / 128.0), 1 => x], 32),
        1 => prop_oneof![Just(0.0), Just(-0.0), Just(0.375), Just(-0.375)].prop_map(|x| vec![x; 32]),
    ];
    // Mostly alike, as in a matrix; sometimes down to subnormal numbers, and up to where a scale is too large.
    let exponent = prop_oneof![6 => -8_i32..0, 2 => -40_i32..10, 1 => -149_i32..-100, 1 => 10_i32..40];
    prop::collection::vec((kind, exponent), ROWS * N_PER_ROW / 32).prop_map(|sub_blocks| {
        let scaled = |(x, exponent): (Vec<f32>, i32)| x.into_iter().map(move |x| x * 2.0_f32.powi(exponent));
        sub_blocks.into_iter().flat_map(scaled).collect()
    })
}

/// What the oracle makes of rows, and `None` where a scale is not finite.
fn expected(ty: GgmlType, weights: &[f32], imatrix: Option<&[f32]>) -> Option<Vec<u8>> {
    let bytes = oracle::encode(ty, weights, N_PER_ROW, imatrix);
    let mut decoded = vec![0.0; weights.len()];
    decode(ty, &bytes, &mut decoded).unwrap();
    decoded.iter().all(|x| x.is_finite()).then_some(bytes)
}

const ROWS: usize = if cfg!(miri) { 1 } else { 3 };
const N_PER_ROW: usize = if cfg!(miri) { 256 } else { 768 };

proptest! {
    // Miri is some thousand times slower, and looks at the memory that is touched, not at the numbers.
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 1 } else { 64 }))]

    /// Every instruction set of this CPU gives the bytes of the plain implementation.
    #[test]
    fn every_path_equals_the_oracle(
        weights in rows(),
        importance in prop::collection::vec(
            prop_oneof![4 => 0.0_f32..10.0, 1 => Just(0.0), 1 => Just(1e-8), 1 => Just(1e6)],
            N_PER_ROW,
        ),
    ) {
        for ty in ENCODABLE {
            for imatrix in [None, Some(&importance[..])] {
                let expected = expected(ty, &weights, imatrix);
                for isa in Isa::available() {
                    let (encode, _) = codec(ty, isa).unwrap();
                    let mut bytes = vec![0xaa; ty.tensor_bytes(ROWS, N_PER_ROW).unwrap() as usize];
                    // What is refused is refused on every path; what the plain implementation could store may still
                    // be beyond the largest weight.
                    if encode(&weights, imatrix, &mut bytes) {
                        let difference = expected.as_ref().map(|expected| {
                            bytes.iter().zip(expected).position(|(a, b)| a != b).map(|at| at / ty.type_size())
                        });
                        let with = if imatrix.is_some() { "importance" } else { "none" };
                        prop_assert_eq!(difference, Some(None), "{} {:?} {}: first block", ty, isa, with);
                    } else {
                        let largest = weights.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
                        prop_assert!(largest > 60000.0, "{} {:?} refused {}", ty, isa, largest);
                    }
                }
            }
        }
    }

    /// Every instruction set decodes any bytes to the same bits.
    #[test]
    fn every_path_decodes_alike(bytes in prop::collection::vec(any::<u8>(), ROWS * 1024)) {
        for ty in ENCODABLE {
            let blocks = bytes.len() / ty.type_size();
            let bytes = &bytes[..blocks * ty.type_size()];
            let decoded = |isa| {
                let mut out = vec![0.0_f32; blocks * ty.block_size()];
                codec(ty, isa).unwrap().1(bytes, &mut out);
                out.iter().map(|x| if x.is_nan() { u32::MAX } else { x.to_bits() }).collect::<Vec<_>>()
            };
            let expected = decoded(Isa::Portable);
            for isa in Isa::available() {
                prop_assert!(decoded(isa) == expected, "{} {:?}", ty, isa);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 1 } else { 256 }))]

    /// Any bytes decode, and to what the table says.
    #[test]
    fn any_bytes_decode_as_the_table_says(bytes in prop::collection::vec(any::<u8>(), 2 * 210)) {
        for &ty in QUANTIZED {
            let blocks = 2;
            let bytes = &bytes[..blocks * ty.type_size()];
            let mut decoded = vec![0.0_f32; blocks * ty.block_size()];
            decode(ty, bytes, &mut decoded).unwrap();
            for (i, found) in decoded.iter().enumerate() {
                let block = &bytes[i / ty.block_size() * ty.type_size()..][..ty.type_size()];
                let expected = decode_by_the_table(ty, block, i % ty.block_size());
                let both_nan = expected.is_nan() && found.is_nan();
                prop_assert!(both_nan || expected == *found, "{ty} {i}: {expected} {found}");
            }
        }
    }

    /// Weights of any magnitude within range encode to finite weights of the same order.
    #[test]
    fn any_weights_encode(
        weights in prop::collection::vec(-1.0_f32..1.0, 256),
        exponent in -40..10,
        importance in prop::collection::vec(0.0_f32..10.0, 256),
    ) {
        let weights: Vec<f32> = weights.iter().map(|x| x * 2.0_f32.powi(exponent)).collect();
        let amax = weights.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
        for ty in ENCODABLE {
            for imatrix in [None, Some(&importance[..])] {
                for x in round_trip(ty, &weights, 256, imatrix) {
                    prop_assert!(x.abs() <= 2.0 * amax + 1e-4, "{ty}: {x} from at most {amax}");
                }
            }
        }
    }
}
