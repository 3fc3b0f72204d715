//! One matrix, three methods: `cargo run -p ramp-quant --example three_methods`.
//!
//! In a project of your own, `cargo add ramp-quant ramp-model`; no backend is needed for slices.
#![allow(clippy::print_stdout, reason = "an example shows what it found")]

use ramp_model::Gram;
use ramp_quant::{
    affine::AffineConfig,
    baseline::{Calibration, GptqAffineConfig, Matrix, OutputError, QuipConfig, gptq_affine, quip, rtn},
};

const SHAPE: [usize; 2] = [64, 256]; // [out, in]

fn main() -> ramp_quant::Result<()> {
    let weight: Vec<f32> = (0..SHAPE[0] * SHAPE[1]).map(|i| (i as f32 * 0.71).sin() * 0.1).collect();

    // The layer's input on some text: channels that go together, some of them large.
    let mut gram = Gram::zeros(SHAPE[1]);
    let (mut mean_abs, mut max_abs) = (vec![0.0f32; SHAPE[1]], vec![0.0f32; SHAPE[1]]);
    let tokens = 1000;
    for token in 0..tokens {
        let channel = |j: usize| {
            let size = if j % 50 == 7 { 10.0 } else { 1.0 };
            size * ((token as f32 * 0.3 + j as f32 * 0.05).sin() + 0.3 * ((token * 31 + j * 17) as f32).cos())
        };
        let x: Vec<f32> = (0..SHAPE[1]).map(channel).collect();
        let outer: Vec<f32> = x.iter().flat_map(|a| x.iter().map(move |b| a * b)).collect();
        gram.add(&outer, 1);
        for (j, x) in x.iter().enumerate() {
            mean_abs[j] += x.abs() / tokens as f32;
            max_abs[j] = max_abs[j].max(x.abs());
        }
    }

    let matrix = Matrix::new(&weight, SHAPE)?;
    let calibration = Calibration::new(&gram, &mean_abs, &max_abs)?;
    let output_error = OutputError::new(&gram)?;
    let signal = output_error.of(&weight);

    let affine = AffineConfig::per_group(3, 128);
    let gptq = GptqAffineConfig { affine, ..GptqAffineConfig::default() };
    let hessian = gptq.hessian(&gram)?;
    let outcomes = [
        ("RTN", rtn(matrix, affine)?),
        ("GPTQ", gptq_affine(matrix, &hessian, &gptq)?),
        ("QuIP#", quip(matrix, &calibration, &QuipConfig { affine, ..QuipConfig::default() })?),
    ];
    for (name, outcome) in outcomes {
        let error = output_error.between(&weight, &outcome.dequantized) / signal;
        println!(
            "{name:6} {:.4} bits per weight, relative error of the output {error:.2e}",
            outcome.bits_per_weight()
        );
    }
    Ok(())
}
