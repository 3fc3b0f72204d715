//! Each method against the same method in NumPy or PyTorch, in f64 (`tests/data/baselines.py`).

use ramp_quant::{
    affine::{AffineConfig, AffineMatrix, ZeroPoint},
    baseline::{
        AwqConfig, GptqAffineConfig, LrqConfig, Outcome, QuipConfig, SmoothquantConfig, SqueezellmConfig,
        awq, gptq_affine, lrq, quip, rtn, smoothquant, squeezellm,
    },
};

use crate::fixture::{Fixture, GROUP, SHAPE};

const fn affine(bits: u8) -> AffineConfig {
    AffineConfig::per_group(bits, GROUP)
}

/// All weights as the reference has them, up to the rounding of f32: one step of any grid here is above 1e-2.
#[track_caller]
fn same(fixture: &Fixture, outcome: &Outcome, name: &str) {
    let expected = fixture.get(name);
    let off = expected.iter().zip(&outcome.dequantized).filter(|(a, b)| (*a - *b).abs() > 2e-6).count();
    assert_eq!(off, 0, "{name}: {off} of {} weights differ", expected.len());
}

#[test]
fn rtn_is_numpys() {
    let fixture = Fixture::read();
    for bits in [3, 4] {
        let outcome = rtn(fixture.matrix(), affine(bits)).unwrap();
        same(&fixture, &outcome, &format!("rtn{bits}"));
        let packed = AffineMatrix::quantize(&fixture.weight, SHAPE, affine(bits)).unwrap().pack();
        assert_eq!(outcome.bytes, packed.len() as u64);
        assert_eq!(outcome.bits_per_weight(), 8.0 * packed.len() as f64 / (24.0 * 48.0));
    }
}

#[test]
fn gptq_is_that_of_the_inverse_hessian() {
    let fixture = Fixture::read();
    for (name, bits, act_order, static_groups) in [
        ("gptq3_plain", 3, false, false),
        ("gptq3_act_order", 3, true, false),
        ("gptq4_static", 4, true, true),
    ] {
        let affine = affine(bits);
        let config = GptqAffineConfig { affine, act_order, static_groups, ..GptqAffineConfig::default() };
        let outcome =
            gptq_affine(fixture.matrix(), &config.hessian(&fixture.gram).unwrap(), &config).unwrap();
        same(&fixture, &outcome, name);
        let index = if act_order && !static_groups { 4 * 48 } else { 0 };
        assert_eq!(outcome.bytes, affine.bytes(SHAPE).unwrap() + index, "{name}");
    }
}

#[test]
fn coordinate_descent_never_loses() {
    let fixture = Fixture::read();
    let losses = [0, 1, 5].map(|refine_passes| {
        let config = GptqAffineConfig { affine: affine(3), refine_passes, ..GptqAffineConfig::default() };
        let hessian = config.hessian(&fixture.gram).unwrap();
        let outcome = gptq_affine(fixture.matrix(), &hessian, &config).unwrap();
        let error: Vec<f32> = fixture.weight.iter().zip(&outcome.dequantized).map(|(w, q)| w - q).collect();
        hessian.loss(&error)
    });
    assert!(losses[1] < losses[0] && losses[2] <= losses[1], "{losses:?}");
}

#[test]
fn awq_is_numpys() {
    let fixture = Fixture::read();
    let ratios = fixture.get("awq_ratio");
    for (at, (bits, clips)) in [(3, false), (4, true)].into_iter().enumerate() {
        let affine = affine(bits).with_zero_point(ZeroPoint::Clamped);
        let config = AwqConfig { affine, ..AwqConfig::default() };
        let found = awq(&[fixture.matrix()], &fixture.calibration(), &config, |_| clips).unwrap();
        assert!((found.ratio - f64::from(ratios[at])).abs() < 1e-6, "{} {}", found.ratio, ratios[at]);
        same(&fixture, &found.outcomes[0], &format!("awq{bits}"));
    }
}

#[test]
fn awq_without_a_layer_in_front_has_no_scale() {
    let fixture = Fixture::read();
    let affine = affine(4).with_zero_point(ZeroPoint::Clamped);
    let config = AwqConfig { affine, scale: false, clip: None, ..AwqConfig::default() };
    let found = awq(&[fixture.matrix()], &fixture.calibration(), &config, |_| true).unwrap();
    assert_eq!(found.scale, [1.0; 48]);
    assert_eq!(found.outcomes[0], rtn(fixture.matrix(), affine).unwrap());
    let duo = AwqConfig { affine, duo_scaling: true, clip: None, ..AwqConfig::default() };
    let duo = awq(&[fixture.matrix()], &fixture.calibration(), &duo, |_| true).unwrap();
    assert!(fixture.loss(&duo.outcomes[0].dequantized) < fixture.loss(&found.outcomes[0].dequantized));
}

#[test]
fn smoothquant_is_numpys() {
    let fixture = Fixture::read();
    let config = SmoothquantConfig { affine: affine(4), ..SmoothquantConfig::default() };
    let found = smoothquant(&[fixture.matrix()], &fixture.calibration(), &config).unwrap();
    same(&fixture, &found.outcomes[0], "smoothquant4");
}

#[test]
fn squeezellm_is_that_of_all_partitions() {
    let fixture = Fixture::read();
    let fisher: Vec<f32> = (0..48).map(|i| fixture.gram.mean(i, i) as f32).collect();
    let config = SqueezellmConfig { bits: 3, outliers: 0.01, sensitive: 0.005 };
    let outcome = squeezellm(fixture.matrix(), &fisher, &config).unwrap();
    same(&fixture, &outcome, "squeezellm3");
    // Rows: 48 codes of 3 bits, 8 values of f16. 12 + 6 kept weights with a column each, 25 starts of rows.
    assert_eq!(outcome.bytes, 24 * (18 + 16) + 18 * 4 + 25 * 4);
}

#[test]
fn quip_is_that_of_explicit_matrices() {
    let fixture = Fixture::read();
    let config = QuipConfig { affine: affine(3), seed: 11, ..QuipConfig::default() };
    let outcome = quip(fixture.matrix(), &fixture.calibration(), &config).unwrap();
    same(&fixture, &outcome, "quip3");
    assert_eq!(outcome.bytes, affine(3).bytes(SHAPE).unwrap() + 3 + 6);
}

#[test]
fn lrq_learns_as_automatic_differentiation_does() {
    let fixture = Fixture::read();
    let config = LrqConfig { affine: affine(3), rank: 8, steps: 60, learning_rate: 5e-3, seed: 7 };
    let outcome = lrq(fixture.matrix(), &fixture.calibration(), &config).unwrap();
    let (expected, losses) = (fixture.get("lrq3"), fixture.get("lrq3_losses"));
    let loss = fixture.loss(&outcome.dequantized);
    assert!((loss / f64::from(losses[1]) - 1.0).abs() < 1e-4, "{loss}, PyTorch {}", losses[1]);
    // Steps were learned in f32 and in f64; rounded to f16, some are neighbours.
    let off = expected.iter().zip(&outcome.dequantized).filter(|(a, b)| (*a - *b).abs() > 1e-3).count();
    assert_eq!(off, 0, "weights differ by more than the rounding of a step");

    let untrained = lrq(fixture.matrix(), &fixture.calibration(), &LrqConfig { steps: 0, ..config }).unwrap();
    assert_eq!(untrained.dequantized, rtn(fixture.matrix(), affine(3)).unwrap().dequantized);
}

#[test]
fn threads_change_nothing() {
    let fixture = Fixture::read();
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let (matrix, calibration) = (fixture.matrix(), fixture.calibration());
            let config = LrqConfig { affine: affine(3), steps: 5, ..LrqConfig::default() };
            let quip_config = QuipConfig { affine: affine(3), ..QuipConfig::default() };
            let awq_config = AwqConfig { affine: affine(3), ..AwqConfig::default() };
            let awq = awq(&[matrix], &calibration, &awq_config, |_| true).unwrap();
            (
                lrq(matrix, &calibration, &config).unwrap(),
                quip(matrix, &calibration, &quip_config).unwrap(),
                awq,
            )
        })
    };
    assert_eq!(run(1), run(3));
}
