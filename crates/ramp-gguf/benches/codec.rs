//! Weights per second of every codec: `cargo bench -p ramp-gguf`. Threads by `RAYON_NUM_THREADS`.
//!
//! The bench `against_ggml` measures ggml's codecs beside them, in one process on the same data.

#![allow(missing_docs)] // of the functions that criterion's macros make

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ramp_gguf::{GgmlType, QUANTIZED, decode, encode, encode_into};

const N_PER_ROW: usize = 4096;
const ROWS: usize = 64;

fn codec(criterion: &mut Criterion) {
    // Sums of sines are far enough from any grid, and need no generator.
    let weights: Vec<f32> = (0..ROWS * N_PER_ROW)
        .map(|i| (i as f32).sin() + (i as f32 * 0.37).sin() + (i as f32 * 1.71).cos())
        .collect();
    let importance: Vec<f32> = (0..N_PER_ROW).map(|i| 1.0 + (i as f32 * 0.77).sin().abs() * 9.0).collect();

    let mut group = criterion.benchmark_group("codec");
    group.throughput(Throughput::Elements(weights.len() as u64)).sample_size(10);
    for &ty in [GgmlType::F16].iter().chain(QUANTIZED) {
        let mut bytes = encode(ty, &weights, N_PER_ROW, None).expect("the weights are small");
        let mut decoded = vec![0.0; weights.len()];
        for (name, imatrix) in [("encode", None), ("encode_imatrix", Some(&importance[..]))] {
            group.bench_function(BenchmarkId::new(name, ty), |bencher| {
                bencher.iter(|| encode_into(ty, &weights, N_PER_ROW, imatrix, &mut bytes));
            });
        }
        group.bench_function(BenchmarkId::new("decode", ty), |bencher| {
            bencher.iter(|| decode(ty, &bytes, &mut decoded));
        });
    }
    group.finish();
}

criterion_group!(benches, codec);
criterion_main!(benches);
