//! The affine quantizer on an NVIDIA GPU beside the CPU's.
#![allow(clippy::print_stderr, reason = "a test that is skipped says so")]

use std::panic::catch_unwind;

use burn::tensor::{Device, Tensor};
use ramp_quant::affine::{AffineConfig, Granularity, ZeroPoint, agreement};

/// The first GPU; `None` where there is no driver or no device, which the backend reports by a panic.
fn gpu() -> Option<Device> {
    let probe = catch_unwind(|| {
        let device = Device::cuda(0);
        let sum = Tensor::<1>::from_data([1.0_f32, 2.0], &device).sum();
        (sum.try_into_vec_as::<f32>().ok() == Some(vec![3.0])).then_some(device)
    });
    probe.ok().flatten()
}

#[test]
fn a_gpu_gives_the_codes_of_the_cpu() {
    let Some(device) = gpu() else {
        eprintln!("skipped: no CUDA device can be used here");
        return;
    };
    let shape = [64, 300];
    let n = shape[0] * shape[1];
    let weight: Vec<f32> = (0..n).map(|i| ((i as f32) * 0.37).sin() * 0.1).collect();
    for zero_point in [ZeroPoint::InRange, ZeroPoint::Printed, ZeroPoint::Clamped, ZeroPoint::Symmetric] {
        for granularity in [Granularity::Tensor, Granularity::Channel, Granularity::Group(128)] {
            for bits in [2, 3, 4, 8] {
                let config = AffineConfig { bits, granularity, zero_point };
                let found = agreement(&weight, shape, config, &device).unwrap();
                // Ties may fall the other way: a step, or an f16 number for a scale, and few.
                assert!(found.steps <= 1.2 && found.codes <= n / 1000, "{config:?}: {found:?}");
            }
        }
    }
}
