//! How fast a machine is.

use std::time::Instant;

use burn::tensor::{Device, Tensor, TensorData};
use ramp_gguf::{GgmlType, encode};
use serde::Serialize;

use crate::error::Result;

/// Seconds that a measurement repeats for.
const LEAST_SECONDS: f64 = 0.1;
/// Multiplications in a row before the result is read: a GPU is asked once for all.
const CHAIN: usize = 4;
/// Share of the rate of a single large multiplication that a whole forward pass reaches, softmax, norms and
/// attention included.
const MODEL_EFFICIENCY: f64 = 0.5;
/// The same for the agent's small networks, with gradients and Adam.
const AGENT_EFFICIENCY: f64 = 0.8;

/// Rates that turn work into time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Rates {
    /// Floating-point operations per second of a model's forward pass.
    pub model_flops: f64,
    /// Floating-point operations per second of the agent, which has a device of its own.
    pub agent_flops: f64,
    /// Weights encoded into K-quants per second.
    pub encode_weights: f64,
}

impl Rates {
    /// Measures for about half a second. The devices are those of
    /// [`QuantizeOptions`](crate::pipeline::QuantizeOptions). Rates differ from one measurement to the next.
    ///
    /// # Errors
    /// When a device fails.
    pub fn measure(device: &Device, agent_device: &Device) -> Result<Self> {
        Ok(Self {
            model_flops: MODEL_EFFICIENCY * multiply(device, 512, 1024)?,
            agent_flops: AGENT_EFFICIENCY * multiply(agent_device, 128, 512)?,
            encode_weights: encode_rate()?,
        })
    }
}

/// Operations per second of `[rows, width] x [width, width]`.
fn multiply(device: &Device, rows: usize, width: usize) -> Result<f64> {
    // Each product has the values of its factor: nothing grows, nothing becomes denormal.
    let constant = |rows: usize, value: f32| {
        Tensor::<2>::from_data(TensorData::new(vec![value; rows * width], [rows, width]), device)
    };
    let (input, weight) = (constant(rows, 1.0), constant(width, 1.0 / width as f32));
    let chain = || -> Result<()> {
        let product = (0..CHAIN).fold(input.clone(), |product, _| product.matmul(weight.clone()));
        let sum = product.sum().try_into_vec_as::<f32>();
        sum.map(drop).map_err(|error| ramp_model::Error::Device { why: format!("{error:?}") }.into())
    };
    // Kernels are compiled and threads started before the clock is.
    chain()?;
    let operations = 2.0 * (CHAIN * rows * width * width) as f64;
    per_second(operations, chain)
}

/// Weights per second over the K-quants, with importance.
fn encode_rate() -> Result<f64> {
    let (rows, columns) = (128, 1024);
    let weights: Vec<f32> = (0..rows * columns).map(|at| (at as f32 * 0.731).sin()).collect();
    let importance = vec![1.0; columns];
    let types = [GgmlType::Q3_K, GgmlType::Q4_K, GgmlType::Q5_K, GgmlType::Q6_K];
    per_second((types.len() * weights.len()) as f64, || {
        for ty in types {
            encode(ty, &weights, columns, Some(&importance))?;
        }
        Ok(())
    })
}

fn per_second(units: f64, mut work: impl FnMut() -> Result<()>) -> Result<f64> {
    let start = Instant::now();
    let mut times = 0.0;
    loop {
        work()?;
        times += 1.0;
        let seconds = start.elapsed().as_secs_f64();
        if seconds >= LEAST_SECONDS {
            return Ok(times * units / seconds);
        }
    }
}
