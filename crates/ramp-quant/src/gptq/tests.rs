//! Rounding with feedback against plain definitions.

use ramp_gguf::GgmlType::{self, Q3_K, Q4_K, Q5_K, Q6_K};
use ramp_model::Gram;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::{Format, quantize};

const N: usize = 512;

/// Correlated inputs: a few directions, plus noise.
fn gram(seed: u64) -> Gram {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut normal = |scale: f32| (0..12).map(|_| rng.random::<f32>() - 0.5).sum::<f32>() * scale;
    let directions: Vec<Vec<f32>> = (0..24).map(|_| (0..N).map(|_| normal(1.0)).collect()).collect();
    let mut gram = Gram::zeros(N);
    for _ in 0..3 * N {
        let mut x: Vec<f32> = (0..N).map(|channel| normal(0.2 + (channel % 5) as f32 * 0.1)).collect();
        for direction in &directions {
            let weight = normal(0.5);
            x.iter_mut().zip(direction).for_each(|(x, d)| *x += weight * d);
        }
        let outer: Vec<f32> = x.iter().flat_map(|a| x.iter().map(move |b| a * b)).collect();
        gram.add(&outer, 1);
    }
    gram
}

fn weights(rows: usize, seed: u64) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..rows * N).map(|_| (0..4).map(|_| rng.random::<f32>() - 0.5).sum::<f32>() * 0.05).collect()
}

fn difference(a: &[f32], b: &[f32]) -> Vec<f32> {
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}

#[test]
fn factors_restore_the_matrix() {
    let gram = gram(1);
    let hessian = Hessian::new(&gram, 256, &GptqConfig::default()).unwrap();
    // H = U D Uᵀ in the order of rounding, so U⁻¹ H U⁻ᵀ is diagonal: solve for it by elimination.
    let u = |row: usize, column: usize| match row.cmp(&column) {
        std::cmp::Ordering::Less => f64::from(hessian.feedback[column * N + row]),
        std::cmp::Ordering::Equal => 1.0,
        std::cmp::Ordering::Greater => 0.0,
    };
    // D from the bottom right corner upwards.
    let h = |i: usize, j: usize| f64::from(hessian.h[hessian.order[i] * N + hessian.order[j]]);
    let mut d = vec![0.0; N];
    for i in (0..N).rev() {
        d[i] = h(i, i) - (i + 1..N).map(|k| u(i, k) * u(i, k) * d[k]).sum::<f64>();
        assert!(d[i] > 0.0, "D_{i} is {}", d[i]);
    }
    for (i, j) in [(0, 1), (3, 300), (17, 18), (255, 256), (400, 511), (0, 511)] {
        let product: f64 = (0..N).map(|k| u(i, k) * d[k] * u(j, k)).sum();
        assert!(
            (product - h(i, j)).abs() < 1e-4 * h(i, i).max(h(j, j)),
            "({i}, {j}): {product}, {}",
            h(i, j)
        );
    }
}

#[test]
fn the_loss_is_the_error_of_the_output() {
    let mut gram = Gram::zeros(2);
    let x = [[1.0_f32, 2.0], [3.0, -1.0]];
    for [a, b] in x {
        gram.add(&[a * a, a * b, a * b, b * b], 1);
    }
    let config = GptqConfig { damping: 1e-12, ..GptqConfig::default() };
    let hessian = Hessian::new(&gram, 1, &config).unwrap();
    let error = [0.5_f32, -0.25, 0.0, 1.0];
    let direct: f32 =
        error.chunks(2).flat_map(|row| x.map(|x| (row[0] * x[0] + row[1] * x[1]).powi(2))).sum::<f32>() / 2.0;
    assert!((hessian.loss(&error) - f64::from(direct)).abs() < 1e-6);
}

#[test]
fn feedback_lowers_the_output_error_of_every_type_and_refining_lowers_it_more() {
    let (gram, weight, shape) = (gram(2), weights(70, 3), [70, N]);
    let published = GptqConfig { refine_passes: 0, ..GptqConfig::default() };
    let hessian = Hessian::new(&gram, 256, &published).unwrap();
    let loss = |dequantized: &[f32]| hessian.loss(&difference(&weight, dequantized));
    for ty in [Q3_K, Q4_K, Q5_K, Q6_K] {
        let imatrix: Vec<f32> = (0..N).map(|i| gram.mean(i, i) as f32).collect();
        let nearest = quantize(&weight, shape, Format::Ggml(ty), Some(&imatrix)).unwrap();
        let fed_back = gptq(&weight, shape, ty, &hessian, &published).unwrap();
        let refined = gptq(&weight, shape, ty, &hessian, &GptqConfig::default()).unwrap();
        let losses = [&nearest, &fed_back, &refined].map(|q| loss(&q.dequantized));
        assert!(losses[1] < 0.7 * losses[0], "{ty}: {losses:?}");
        assert!(losses[2] < losses[1], "{ty}: {losses:?}");
        assert_eq!(fed_back.bytes.len(), nearest.bytes.len(), "{ty}");
        let mut decoded = vec![0.0; weight.len()];
        ramp_gguf::decode(ty, &refined.bytes, &mut decoded).unwrap();
        assert_eq!(decoded, refined.dequantized, "{ty}");
    }
}

/// One row at a time, in f64, straight from the definition.
#[test]
fn codes_are_those_of_the_definition() {
    let (gram, weight) = (gram(4), weights(3, 5));
    let config = GptqConfig { refine_passes: 0, ..GptqConfig::default() };
    let hessian = Hessian::new(&gram, 256, &config).unwrap();
    let rounded = gptq(&weight, [3, N], Q4_K, &hessian, &config).unwrap();
    let mut differing = 0;
    for (row, weight) in weight.chunks(N).enumerate() {
        let blocks: Vec<_> = (0..2)
            .map(|b| {
                let start = row * 2 * 144 + b * 144;
                ramp_gguf::block_grid(Q4_K, &rounded.bytes[start..start + 144]).unwrap()
            })
            .collect();
        let mut error = vec![0.0_f64; N];
        for (i, &column) in hessian.order.iter().enumerate() {
            let feedback: f64 =
                (0..i).map(|j| f64::from(hessian.feedback[i * N + j]) * error[hessian.order[j]]).sum();
            let (grid, e) = (&blocks[column / 256], column % 256);
            let code = grid.nearest(e, (f64::from(weight[column]) + feedback) as f32);
            let q = grid.weight(e, code);
            let found = rounded.dequantized[row * N + column];
            // Sums in another order may tip a tie; both then follow what was found.
            differing += usize::from(q != found);
            error[column] = f64::from(weight[column]) - f64::from(found);
        }
    }
    assert!(differing <= 3, "{differing} of {} codes differ", 3 * N);
}

#[test]
fn threads_do_not_change_the_bytes() {
    let (gram, weight) = (gram(6), weights(130, 7));
    let config = GptqConfig::default();
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let hessian = Hessian::new(&gram, 256, &config).unwrap();
            gptq(&weight, [130, N], Q3_K, &hessian, &config).unwrap().bytes
        })
    };
    assert_eq!(run(1), run(3));
}

#[test]
fn an_input_that_never_fires_and_a_singular_matrix_are_damped() {
    let config = GptqConfig { damping: 1e-15, ..GptqConfig::default() };
    let silent = Hessian::new(&Gram::zeros(256), 256, &GptqConfig::default()).unwrap();
    let weight = vec![0.25; 256];
    assert!(gptq(&weight, [1, 256], Q4_K, &silent, &config).is_ok());

    // One token: rank one.
    let mut gram = Gram::zeros(256);
    gram.add(&vec![1.0; 256 * 256], 1);
    let hessian = Hessian::new(&gram, 256, &config).unwrap();
    assert!(hessian.damping() > config.damping, "{}", hessian.damping());
}

#[test]
fn what_cannot_be_rounded_is_refused() {
    let config = GptqConfig::default();
    let gram = gram(8);
    let hessian = Hessian::new(&gram, 256, &config).unwrap();
    let refused =
        |weight: &[f32], shape, ty: GgmlType| gptq(weight, shape, ty, &hessian, &config).unwrap_err();
    assert!(matches!(refused(&[0.0; 256], [1, 256], Q4_K), Error::HessianWidth { .. }));
    assert!(matches!(
        refused(&[0.0; N], [1, N], GgmlType::F16),
        Error::Gguf(ramp_gguf::Error::NoGrid { .. })
    ));
    assert!(matches!(refused(&[0.0; 3], [1, N], Q4_K), Error::WeightLength { .. }));
    let mut weight = weights(40, 9);
    weight[39 * N + 300] = f32::INFINITY;
    let error = refused(&weight, [40, N], Q4_K);
    let place = |error: &Error| match error {
        Error::Gguf(
            ramp_gguf::Error::NonFiniteWeight { row, column, .. }
            | ramp_gguf::Error::WeightRange { row, column, .. },
        ) => Some((*row, *column)),
        _ => None,
    };
    assert_eq!(place(&error), Some((39, 300)), "{error}");
    weight[39 * N + 300] = 1e30;
    let error = refused(&weight, [40, N], Q4_K);
    assert_eq!(place(&error), Some((39, 256)), "{error}");

    for damping in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let config = GptqConfig { damping, ..config };
        assert!(matches!(Hessian::new(&gram, 256, &config), Err(Error::Damping { .. })), "{damping}");
    }
    assert!(matches!(Hessian::new(&gram, 300, &config), Err(Error::HessianWidth { .. })));
    let mut broken = Gram::zeros(256);
    broken.add(&vec![f32::NAN; 256 * 256], 1);
    assert!(matches!(Hessian::new(&broken, 256, &config), Err(Error::Hessian { .. })));
}
