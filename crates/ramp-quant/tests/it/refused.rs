//! Input that no method can use, and input that looks as if.

use ramp_model::Gram;
use ramp_quant::{
    Error,
    affine::{AffineConfig, ClipSearch, ZeroPoint},
    baseline::{
        AwqConfig, Calibration, GptqAffineConfig, LrqConfig, Matrix, QuipConfig, SmoothquantConfig,
        SqueezellmConfig, awq, gptq_affine, lrq, quip, rtn, smoothquant, squeezellm,
    },
};

use crate::fixture::{Fixture, GROUP, SHAPE};

const AFFINE: AffineConfig = AffineConfig::per_group(4, GROUP);

#[test]
fn weights_that_are_none() {
    let mut weight = Fixture::read().weight;
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        weight[5 * 48 + 7] = bad;
        let error = Matrix::new(&weight, SHAPE).unwrap_err();
        assert!(matches!(error, Error::NonFinite { row: 5, column: 7, .. }), "{error}");
    }
    assert!(matches!(Matrix::new(&weight[1..], SHAPE), Err(Error::WeightLength { .. })));
    assert!(matches!(Matrix::new(&[], [0, 48]), Err(Error::EmptyShape { .. })));
}

#[test]
fn grids_that_cannot_be() {
    let fixture = Fixture::read();
    let (matrix, calibration) = (fixture.matrix(), fixture.calibration());
    for (affine, is_right) in [
        (
            AffineConfig::per_group(4, 49),
            (|e| matches!(e, Error::GroupTooLarge { group: 49, row: 48 })) as fn(&Error) -> bool,
        ),
        (AffineConfig::per_group(4, 0), |e| matches!(e, Error::EmptyGroup)),
        (AffineConfig::per_group(1, 16), |e| matches!(e, Error::Bits { bits: 1 })),
        (AffineConfig::per_group(9, 16), |e| matches!(e, Error::Bits { bits: 9 })),
    ] {
        let gptq = GptqAffineConfig { affine, ..GptqAffineConfig::default() };
        let hessian = gptq.hessian(&fixture.gram).unwrap();
        let awq_config = AwqConfig { affine, ..AwqConfig::default() };
        let smooth = SmoothquantConfig { affine, ..SmoothquantConfig::default() };
        let errors = [
            rtn(matrix, affine).unwrap_err(),
            gptq_affine(matrix, &hessian, &gptq).unwrap_err(),
            awq(&[matrix], &calibration, &awq_config, |_| true).unwrap_err(),
            smoothquant(&[matrix], &calibration, &smooth).unwrap_err(),
            quip(matrix, &calibration, &QuipConfig { affine, ..QuipConfig::default() }).unwrap_err(),
            lrq(matrix, &calibration, &LrqConfig { affine, ..LrqConfig::default() }).unwrap_err(),
        ];
        for error in errors {
            assert!(is_right(&error), "{affine:?}: {error}");
        }
    }
    let fisher = [1.0; 48];
    for bits in [0, 1, 9] {
        let config = SqueezellmConfig { bits, ..SqueezellmConfig::default() };
        assert!(matches!(squeezellm(matrix, &fisher, &config), Err(Error::Bits { .. })));
    }
}

#[test]
fn settings_out_of_range() {
    let fixture = Fixture::read();
    let (matrix, calibration) = (fixture.matrix(), fixture.calibration());
    let field = |error: Error| match error {
        Error::Setting { field, .. } => field,
        other => panic!("{other}"),
    };
    let awq_config = AwqConfig { affine: AFFINE, n_grid: 0, ..AwqConfig::default() };
    assert_eq!(field(awq(&[matrix], &calibration, &awq_config, |_| true).unwrap_err()), "n_grid");
    let smooth = SmoothquantConfig { affine: AFFINE, alpha: f64::NAN };
    assert_eq!(field(smoothquant(&[matrix], &calibration, &smooth).unwrap_err()), "alpha");
    let lrq_config = LrqConfig { affine: AFFINE, learning_rate: -1.0, ..LrqConfig::default() };
    assert_eq!(field(lrq(matrix, &calibration, &lrq_config).unwrap_err()), "learning_rate");
    for (name, outliers, sensitive) in [("outliers", 1.5, 0.0), ("sensitive", 0.0, -0.1)] {
        let config = SqueezellmConfig { bits: 4, outliers, sensitive };
        assert_eq!(field(squeezellm(matrix, &[1.0; 48], &config).unwrap_err()), name);
    }
    let clip = Some(ClipSearch { steps: 0, max_shrink: 0.5 });
    let awq_config = AwqConfig { affine: AFFINE, clip, ..AwqConfig::default() };
    assert!(matches!(awq(&[matrix], &calibration, &awq_config, |_| true), Err(Error::ClipSearch { .. })));
    let gptq = GptqAffineConfig { affine: AFFINE, damping: 0.0, ..GptqAffineConfig::default() };
    assert!(matches!(gptq.hessian(&fixture.gram), Err(Error::Damping { .. })));
}

#[test]
fn statistics_of_another_layer() {
    let fixture = Fixture::read();
    let gram = Gram::zeros(32);
    let zeros = [0.0; 32];
    let other = Calibration::new(&gram, &zeros, &zeros).unwrap();
    let matrix = fixture.matrix();
    let width = |error: Error| matches!(error, Error::CalibrationWidth { expected: 48, found: 32, .. });
    let gptq = GptqAffineConfig { affine: AFFINE, ..GptqAffineConfig::default() };
    let error = gptq_affine(matrix, &gptq.hessian(&gram).unwrap(), &gptq).unwrap_err();
    assert!(matches!(error, Error::HessianWidth { width: 32, block: 48 }), "{error}");
    let awq_config = AwqConfig { affine: AFFINE, ..AwqConfig::default() };
    assert!(width(awq(&[matrix], &other, &awq_config, |_| true).unwrap_err()));
    let smooth = SmoothquantConfig { affine: AFFINE, ..SmoothquantConfig::default() };
    assert!(width(smoothquant(&[matrix], &other, &smooth).unwrap_err()));
    assert!(width(quip(matrix, &other, &QuipConfig::default()).unwrap_err()));
    assert!(width(lrq(matrix, &other, &LrqConfig { affine: AFFINE, ..LrqConfig::default() }).unwrap_err()));
    assert!(width(squeezellm(matrix, &zeros, &SqueezellmConfig::default()).unwrap_err()));

    let error = Calibration::new(&fixture.gram, &fixture.mean_abs[1..], &fixture.max_abs).unwrap_err();
    assert!(matches!(error, Error::CalibrationWidth { what: "mean of |x|", expected: 48, found: 47 }));
    let mut max_abs = fixture.max_abs.clone();
    for bad in [f32::NAN, f32::INFINITY, -1.0] {
        max_abs[3] = bad;
        let error = Calibration::new(&fixture.gram, &fixture.mean_abs, &max_abs).unwrap_err();
        assert!(matches!(error, Error::CalibrationValue { what: "largest |x|", channel: 3, .. }));
    }
    let mut broken = Gram::zeros(48);
    broken.add(&[f32::NAN; 48 * 48], 1);
    let broken = Calibration { gram: &broken, ..fixture.calibration() };
    let quip_config = QuipConfig { affine: AFFINE, ..QuipConfig::default() };
    assert!(matches!(quip(matrix, &broken, &quip_config), Err(Error::Hessian { width: 48 })));
    assert!(matches!(awq(&[matrix], &broken, &awq_config, |_| true), Err(Error::Hessian { width: 48 })));
}

/// Constant and all-zero groups, and inputs that never fire: every method gives finite weights, and zeros stay zeros.
#[test]
fn groups_of_one_value_and_silent_inputs() {
    let mut weight = vec![0.0f32; 24 * 48];
    weight[48..2 * 48].fill(0.25);
    weight[2 * 48..3 * 48].fill(-3.0);
    let matrix = Matrix::new(&weight, SHAPE).unwrap();
    let fixture = Fixture::read();
    let (silent, zeros) = (Gram::zeros(48), [0.0; 48]);
    let silent = Calibration::new(&silent, &zeros, &zeros).unwrap();
    for calibration in [fixture.calibration(), silent] {
        let gptq = GptqAffineConfig { affine: AFFINE, ..GptqAffineConfig::default() };
        let awq_config =
            AwqConfig { affine: AFFINE.with_zero_point(ZeroPoint::InRange), ..AwqConfig::default() };
        let smooth = SmoothquantConfig { affine: AFFINE, ..SmoothquantConfig::default() };
        let fisher: Vec<f32> = (0..48).map(|i| calibration.gram.mean(i, i) as f32).collect();
        let hessian = gptq.hessian(calibration.gram).unwrap();
        let config = LrqConfig { affine: AFFINE, steps: 3, ..LrqConfig::default() };
        let outcomes = [
            gptq_affine(matrix, &hessian, &gptq).unwrap(),
            awq(&[matrix], &calibration, &awq_config, |_| true).unwrap().outcomes.remove(0),
            smoothquant(&[matrix], &calibration, &smooth).unwrap().outcomes.remove(0),
            squeezellm(matrix, &fisher, &SqueezellmConfig::default()).unwrap(),
            lrq(matrix, &calibration, &config).unwrap(),
        ];
        for (at, outcome) in outcomes.iter().enumerate() {
            assert!(outcome.dequantized.iter().all(|w| w.is_finite()), "method {at}");
            assert!(outcome.dequantized[3 * 48..].iter().all(|w| *w == 0.0), "method {at}");
            let largest =
                weight.iter().zip(&outcome.dequantized).fold(0.0f32, |a, (w, q)| a.max((w - q).abs()));
            assert!(largest < 0.25, "method {at}: {largest}");
        }
        let quip_config = QuipConfig { affine: AFFINE, ..QuipConfig::default() };
        let rotated = quip(matrix, &calibration, &quip_config).unwrap();
        assert!(rotated.dequantized.iter().all(|w| w.is_finite()));
    }
}

#[test]
fn a_singular_hessian_is_damped_more_and_said_so() {
    let fixture = Fixture::read();
    let mut gram = Gram::zeros(48);
    gram.add(&[1.0; 48 * 48], 1); // one token
    let config = GptqAffineConfig { affine: AFFINE, damping: 1e-15, ..GptqAffineConfig::default() };
    let hessian = config.hessian(&gram).unwrap();
    let outcome = gptq_affine(fixture.matrix(), &hessian, &config).unwrap();
    assert!(outcome.raised_damping.is_some_and(|damping| damping > 1e-15), "{:?}", outcome.raised_damping);
    let config = GptqAffineConfig { damping: 0.01, ..config };
    let outcome = gptq_affine(fixture.matrix(), &config.hessian(&gram).unwrap(), &config).unwrap();
    assert_eq!(outcome.raised_damping, None);
}

#[test]
fn scales_beyond_f16() {
    let fixture = Fixture::read();
    let mut weight = fixture.weight.clone();
    weight[9 * 48 + 20] = 3e7;
    let matrix = Matrix::new(&weight, SHAPE).unwrap();
    let place = |error: Error| match error {
        Error::ScaleRange { row, group, .. } => (row, group),
        other => panic!("{other}"),
    };
    assert_eq!(place(rtn(matrix, AFFINE).unwrap_err()), (9, 1));
    let gptq = GptqAffineConfig { affine: AFFINE, ..GptqAffineConfig::default() };
    let hessian = gptq.hessian(&fixture.gram).unwrap();
    assert_eq!(place(gptq_affine(matrix, &hessian, &gptq).unwrap_err()), (9, 1));
    let config = LrqConfig { affine: AFFINE, ..LrqConfig::default() };
    assert_eq!(place(lrq(matrix, &fixture.calibration(), &config).unwrap_err()), (9, 1));
    let error = squeezellm(matrix, &[1.0; 48], &SqueezellmConfig::default()).unwrap_err();
    assert_eq!(place(error), (9, 0));
}
