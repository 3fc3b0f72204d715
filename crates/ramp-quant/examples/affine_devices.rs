//! Whether the affine quantizer gives the same on the CPU and on an NVIDIA GPU. From the workspace, so that the CUDA build
//! is the command's:
//! `CUDARC_CUDA_VERSION=13000 cargo run -p ramp-llm -p ramp-quant --features cuda --example affine_devices`.
//!
//! Without the feature it compares two CPU paths.
#![allow(clippy::print_stdout, reason = "an example shows what it found")]

use burn::tensor::Device;
use ramp_quant::affine::{AffineConfig, Granularity, ZeroPoint, agreement};

/// A number of columns that is no multiple of a group.
const SHAPE: [usize; 2] = [1024, 3000];

fn main() -> ramp_quant::Result<()> {
    #[cfg(feature = "cuda")]
    let device = Device::cuda(0);
    #[cfg(not(feature = "cuda"))]
    let device = Device::default();
    println!("{device:?}, {} x {}", SHAPE[0], SHAPE[1]);
    println!(
        "{:10} {:>4} {:12} {:>8} {:>8} {:>8} {:>10}",
        "zero point", "bits", "scales of", "codes", "scales", "zeros", "steps"
    );
    let weight: Vec<f32> =
        (0..SHAPE[0] * SHAPE[1]).map(|i| ((i as f32 * 0.37).sin() + (i as f32 * 1.7).cos()) * 0.02).collect();
    for zero_point in [ZeroPoint::InRange, ZeroPoint::Printed, ZeroPoint::Clamped, ZeroPoint::Symmetric] {
        for granularity in [Granularity::Group(128), Granularity::Channel, Granularity::Tensor] {
            for bits in [2, 4, 8] {
                let config = AffineConfig { bits, granularity, zero_point };
                let found = agreement(&weight, SHAPE, config, &device)?;
                let (zero_point, granularity) = (format!("{zero_point:?}"), format!("{granularity:?}"));
                println!(
                    "{zero_point:10} {bits:4} {granularity:12} {:8} {:8} {:8} {:10.6}",
                    found.codes, found.scales, found.zeros, found.steps
                );
            }
        }
    }
    Ok(())
}
