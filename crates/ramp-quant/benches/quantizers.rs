//! Weights per second of the affine quantizer and of GPTQ. Threads by `RAYON_NUM_THREADS`.
//!
//! `cargo bench -p ramp-quant --profile dev` takes the profile of the tests, which is optimised; without it Burn is built once
//! more.
//!
//! `cargo xtask bench affine` measures the affine quantizer beside a copy of the same memory.

#![allow(missing_docs)] // of the functions that criterion's macros make

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ramp_gguf::GgmlType;
use ramp_model::Gram;
use ramp_quant::{
    GptqConfig, Hessian,
    affine::{AffineConfig, AffineMatrix, ZeroPoint, fake_quantize_slice},
    baseline::{GptqAffineConfig, Matrix, gptq_affine},
    gptq,
};

/// `[out, in]`.
const SHAPE: [usize; 2] = [1024, 1024];

/// Sums of sines are far enough from any grid, and need no generator.
fn weights() -> Vec<f32> {
    (0..SHAPE[0] * SHAPE[1])
        .map(|i| (i as f32).sin() + (i as f32 * 0.37).sin() + (i as f32 * 1.71).cos())
        .collect()
}

/// That of inputs whose channels correlate with their neighbours: `0.9^|i - j|`, with some strong ones.
fn gram() -> Gram {
    let n = SHAPE[1];
    let strength = |i: usize| if i.is_multiple_of(37) { 5.0 } else { 1.0 };
    let values = (0..n * n).map(|k| {
        let (i, j) = (k / n, k % n);
        0.9_f32.powi(i.abs_diff(j) as i32) * strength(i) * strength(j)
    });
    let mut gram = Gram::zeros(n);
    gram.add(&values.collect::<Vec<_>>(), 1);
    gram
}

fn affine(criterion: &mut Criterion) {
    let weight = weights();
    let mut out = vec![0.0; weight.len()];
    let mut group = criterion.benchmark_group("affine");
    group.throughput(Throughput::Elements(weight.len() as u64));
    let in_range = AffineConfig::per_group(4, 128);
    let configs = [
        ("4 bits, groups of 128", in_range),
        ("4 bits, groups of 128, symmetric", in_range.with_zero_point(ZeroPoint::Symmetric)),
    ];
    for (name, config) in configs {
        group.bench_function(BenchmarkId::new("fake", name), |bencher| {
            bencher.iter(|| fake_quantize_slice(&weight, SHAPE, config, &mut out));
        });
        group.bench_function(BenchmarkId::new("codes", name), |bencher| {
            bencher.iter(|| AffineMatrix::quantize(&weight, SHAPE, config));
        });
        let matrix = AffineMatrix::quantize(&weight, SHAPE, config).expect("the weights are small");
        group.bench_function(BenchmarkId::new("pack", name), |bencher| bencher.iter(|| matrix.pack()));
        group.bench_function(BenchmarkId::new("dequantize", name), |bencher| {
            bencher.iter(|| matrix.dequantize());
        });
    }
    group.finish();
}

fn error_feedback(criterion: &mut Criterion) {
    let (weight, gram) = (weights(), gram());
    let mut group = criterion.benchmark_group("gptq");
    group.throughput(Throughput::Elements(weight.len() as u64)).sample_size(10);

    let affine = GptqAffineConfig::default();
    group.bench_function("hessian", |bencher| bencher.iter(|| affine.hessian(&gram)));
    let hessian = affine.hessian(&gram).expect("the matrix is positive definite");
    let matrix = Matrix::new(&weight, SHAPE).expect("the weights are finite");
    group.bench_function("4 bits, groups of 128", |bencher| {
        bencher.iter(|| gptq_affine(matrix, &hessian, &affine));
    });

    let config = GptqConfig::default();
    let ty = GgmlType::Q4_K;
    let hessian = Hessian::new(&gram, ty.block_size(), &config).expect("the matrix is positive definite");
    group.bench_function(BenchmarkId::from_parameter(ty), |bencher| {
        bencher.iter(|| gptq(&weight, SHAPE, ty, &hessian, &config));
    });
    group.finish();
}

criterion_group!(benches, affine, error_feedback);
criterion_main!(benches);
