//! The small matrix whose results NumPy and PyTorch have computed.

use std::{fs, path::Path};

use ramp_model::Gram;
use ramp_quant::baseline::{Calibration, Matrix, OutputError};
use safetensors::SafeTensors;

/// `tests/data/baselines.safetensors`; the script beside it made it.
pub(crate) struct Fixture {
    bytes: Vec<u8>,
    pub(crate) weight: Vec<f32>,
    pub(crate) gram: Gram,
    pub(crate) mean_abs: Vec<f32>,
    pub(crate) max_abs: Vec<f32>,
}

pub(crate) const SHAPE: [usize; 2] = [24, 48];
pub(crate) const GROUP: usize = 16;

impl Fixture {
    pub(crate) fn read() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/baselines.safetensors");
        let mut fixture = Self {
            bytes: fs::read(path).unwrap(),
            weight: Vec::new(),
            gram: Gram::zeros(SHAPE[1]),
            mean_abs: vec![0.0; SHAPE[1]],
            max_abs: vec![0.0; SHAPE[1]],
        };
        fixture.weight = fixture.get("weight");
        let x = fixture.get("x");
        let tokens = x.len() / SHAPE[1];
        for token in x.chunks(SHAPE[1]) {
            let outer: Vec<f32> = token.iter().flat_map(|a| token.iter().map(move |b| a * b)).collect();
            fixture.gram.add(&outer, 1);
            for (channel, x) in token.iter().enumerate() {
                fixture.mean_abs[channel] += x.abs() / tokens as f32;
                fixture.max_abs[channel] = fixture.max_abs[channel].max(x.abs());
            }
        }
        fixture
    }

    pub(crate) fn get(&self, name: &str) -> Vec<f32> {
        let tensors = SafeTensors::deserialize(&self.bytes).unwrap();
        let (bytes, _) = tensors.tensor(name).unwrap().data().as_chunks::<4>();
        bytes.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    }

    pub(crate) fn matrix(&self) -> Matrix<'_> {
        Matrix::new(&self.weight, SHAPE).unwrap()
    }

    pub(crate) fn calibration(&self) -> Calibration<'_> {
        Calibration::new(&self.gram, &self.mean_abs, &self.max_abs).unwrap()
    }

    /// Squared error of the output.
    pub(crate) fn loss(&self, dequantized: &[f32]) -> f64 {
        OutputError::new(&self.gram).unwrap().between(&self.weight, dequantized)
    }
}
