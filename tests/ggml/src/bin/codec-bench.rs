//! Speed of ramp-gguf's codecs against ggml's, on the same data, in one process: `cargo xtask bench codec`.
//!
//! Both sides run in turns, and the best of several turns counts: other programs only ever make a turn longer. The
//! weights are seeded, near-Gaussian, in rows of 4096.

// It is a command, and nothing else uses it.
#![allow(clippy::print_stdout)]

use std::{hint::black_box, time::Instant};

use clap::Parser;
use ramp_ggml::{ggml_decode, ggml_encode};
use ramp_gguf::{GgmlType, decode, encode_into};

/// Measure the codecs of ramp-gguf against those of ggml.
#[derive(Parser)]
struct Args {
    /// Types to measure; all by default.
    types: Vec<GgmlType>,
    /// Rows of 4096 weights.
    #[arg(long, default_value_t = 32)]
    rows: usize,
    /// Turns of each side, of some milliseconds each.
    #[arg(long, default_value_t = 20)]
    turns: u32,
}

const N_PER_ROW: usize = 4096;

const TYPES: [GgmlType; 15] = [
    GgmlType::Q2_K,
    GgmlType::Q3_K,
    GgmlType::Q4_K,
    GgmlType::Q5_K,
    GgmlType::Q6_K,
    GgmlType::IQ4_XS,
    GgmlType::IQ4_NL,
    GgmlType::Q4_0,
    GgmlType::Q4_1,
    GgmlType::Q5_0,
    GgmlType::Q5_1,
    GgmlType::Q8_0,
    GgmlType::F16,
    GgmlType::BF16,
    GgmlType::F32,
];

/// Best time of a turn, in nanoseconds per weight: of each of the contestants.
fn race<const N: usize>(turns: u32, weights: usize, mut sides: [&mut (dyn FnMut() + Send); N]) -> [f64; N] {
    let mut best = [f64::INFINITY; N];
    // A turn is long enough for the clock: as many runs of a side as its first one suggests.
    let runs = sides.each_mut().map(|side| {
        let start = Instant::now();
        side();
        (0.003 / start.elapsed().as_secs_f64()).clamp(1.0, 1000.0) as u32
    });
    for _ in 0..turns {
        for ((side, best), runs) in sides.iter_mut().zip(&mut best).zip(runs) {
            let start = Instant::now();
            for _ in 0..runs {
                side();
            }
            *best = best.min(start.elapsed().as_nanos() as f64 / f64::from(runs) / weights as f64);
        }
    }
    best
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let weights = gaussian(args.rows * N_PER_ROW);
    let importance: Vec<f32> = gaussian(N_PER_ROW).iter().map(|x| x * x * 1000.0 + 1e-3).collect();
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
    let two = rayon::ThreadPoolBuilder::new().num_threads(2).build()?;
    let types = if args.types.is_empty() { &TYPES[..] } else { &args.types };

    println!("million weights per second, best of {} turns, {} weights", args.turns, weights.len());
    println!(
        "{:<8}{:<16}{:>10}{:>10}{:>8}{:>12}{:>8}",
        "type", "", "ggml", "ramp", "times", "2 threads", "times"
    );
    for &ty in types {
        let mut theirs = vec![0; ty.tensor_bytes(args.rows, N_PER_ROW)? as usize];
        let mut ours = theirs.clone();
        let mut decoded = [vec![0.0; weights.len()], vec![0.0; weights.len()]];
        for (what, imatrix) in [("encode", None), ("encode imatrix", Some(&importance[..]))] {
            let mut ggml = || ggml_encode(ty, &weights, N_PER_ROW, imatrix, black_box(&mut theirs));
            let mut ramp = || encode(ty, &weights, imatrix, black_box(&mut ours));
            // Everything runs on a thread of the pool: one that hands work to the pool would wait for it to wake.
            let times = one.install(|| race(args.turns, weights.len(), [&mut ggml, &mut ramp]));
            let [on_two] = two.install(|| race(args.turns, weights.len(), [&mut ramp]));
            anyhow::ensure!(theirs == ours, "{ty}: the bytes differ");
            print_row(ty, what, times, on_two);
        }
        let [a, b] = &mut decoded;
        let mut ggml = || ggml_decode(ty, &theirs, black_box(a));
        let mut ramp = || decode(ty, &ours, black_box(b)).expect("the lengths fit");
        let times = one.install(|| race(args.turns, weights.len(), [&mut ggml, &mut ramp]));
        let [on_two] = two.install(|| race(args.turns, weights.len(), [&mut ramp]));
        anyhow::ensure!(decoded[0] == decoded[1], "{ty}: the weights differ");
        print_row(ty, "decode", times, on_two);
    }
    Ok(())
}

fn encode(ty: GgmlType, weights: &[f32], imatrix: Option<&[f32]>, bytes: &mut [u8]) {
    encode_into(ty, weights, N_PER_ROW, imatrix, bytes).expect("the weights are small and the lengths fit");
}

fn print_row(ty: GgmlType, what: &str, [ggml, one]: [f64; 2], two: f64) {
    let speed = |time: f64| 1e3 / time;
    println!(
        "{:<8}{what:<16}{:>10.1}{:>10.1}{:>8.2}{:>12.1}{:>8.2}",
        ty.name(),
        speed(ggml),
        speed(one),
        ggml / one,
        speed(two),
        one / two
    );
}

/// Sums of four uniform numbers from splitmix64, of a standard deviation of 0.036.
fn gaussian(len: usize) -> Vec<f32> {
    let mut state = 1_u64;
    let mut draw = || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        let sum: i64 = (0..4).map(|field| (z >> (16 * field) & 0xffff) as i64).sum();
        (sum - 131_070) as f32 * 2.0_f32.powi(-20)
    };
    (0..len).map(|_| draw()).collect()
}
