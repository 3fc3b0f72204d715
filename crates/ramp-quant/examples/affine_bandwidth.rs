//! Speed of affine fake quantization beside that of copying the same memory, in turns:
//! `cargo run -p ramp-quant --example affine_bandwidth`. Threads by `RAYON_NUM_THREADS`.
#![allow(clippy::print_stdout, reason = "an example shows what it found")]

use std::time::Instant;

use ramp_quant::affine::{AffineConfig, Granularity, ZeroPoint, fake_quantize_slice};
use rayon::prelude::*;

/// `ffn_down` of Llama-2-7B.
const SHAPE: [usize; 2] = [4096, 11008];
const TURNS: usize = 15;

fn main() -> ramp_quant::Result<()> {
    let n = SHAPE[0] * SHAPE[1];
    let weight: Vec<f32> = (0..n).map(|i| (i as f32 * 0.37).sin() * 0.02).collect();
    let mut out = vec![0.0f32; n];
    let seconds = |run: &mut dyn FnMut()| {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64()
    };
    // Read and written.
    let gigabytes = 8.0 * n as f64 / 1e9;
    println!("{} x {}, {} threads, best of {TURNS} turns", SHAPE[0], SHAPE[1], rayon::current_num_threads());
    println!("{:24} {:>10} {:>10} {:>7}", "", "GB/s", "copy GB/s", "ratio");
    let group = AffineConfig::per_group(4, 128);
    for (name, config) in [
        ("4 bits, groups of 128", group),
        ("3 bits, groups of 64", AffineConfig::per_group(3, 64)),
        ("4 bits, symmetric", group.with_zero_point(ZeroPoint::Symmetric)),
        ("8 bits, channels", AffineConfig { bits: 8, granularity: Granularity::Channel, ..group }),
        ("8 bits, whole matrix", AffineConfig { bits: 8, granularity: Granularity::Tensor, ..group }),
    ] {
        let (mut copy, mut quantize) = (f64::INFINITY, f64::INFINITY);
        for _ in 0..TURNS {
            let part = n.div_ceil(4 * rayon::current_num_threads());
            copy = copy.min(seconds(&mut || {
                out.par_chunks_mut(part).zip(weight.par_chunks(part)).for_each(|(out, weight)| {
                    out.copy_from_slice(weight);
                });
            }));
            let mut result = Ok(());
            quantize =
                quantize.min(seconds(&mut || result = fake_quantize_slice(&weight, SHAPE, config, &mut out)));
            result?;
        }
        let ratio = copy / quantize;
        println!("{name:24} {:10.2} {:10.2} {ratio:7.2}", gigabytes / quantize, gigabytes / copy);
    }
    Ok(())
}
