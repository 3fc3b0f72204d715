//! RMSNorm and LayerNorm.

use burn::tensor::Tensor;

use crate::{host, way::Way};

/// The learned part of a norm. With a bias it is a LayerNorm, without one an RMSNorm.
#[derive(Clone, Debug)]
pub(crate) struct Norm {
    /// `[channels]`.
    pub(crate) weight: Tensor<1>,
    /// `[channels]`.
    pub(crate) bias: Option<Tensor<1>>,
}

impl Norm {
    /// Norms each row of `x`, `[rows, channels]`.
    pub(crate) fn apply(&self, x: Tensor<2>, eps: f64, way: Way) -> Tensor<2> {
        let weight = self.weight.clone();
        match self.bias.clone() {
            #[cfg(feature = "cuda")]
            bias if way == Way::Cuda => {
                ramp_cuda::ops::norm(x, weight, bias, eps as f32, burn::tensor::DType::F32)
            }
            None if way == Way::Host => host::rms_norm(x, weight, eps as f32),
            None => {
                let mean_square = x.clone().square().mean_dim(1); // [rows, 1]
                let scale = mean_square.add_scalar(eps).sqrt().recip();
                x * scale * weight.unsqueeze()
            }
            Some(bias) if way == Way::Host => host::layer_norm(x, weight, bias, eps as f32),
            Some(bias) => {
                let x = x.clone() - x.mean_dim(1);
                let variance = x.clone().square().mean_dim(1);
                let scale = variance.add_scalar(eps).sqrt().recip();
                x * scale * weight.unsqueeze() + bias.unsqueeze()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;

    #[test]
    fn both_ways_follow_the_definition() {
        let device = Device::flex();
        let (rows, width, eps) = (5, 24, 1e-5);
        let noise = |n: usize, seed: f32| -> Vec<f32> {
            (0..n).map(|i| (i as f32 * 0.37 + seed).sin() * 3.0 + 1.0).collect()
        };
        let (x, w, b) = (noise(rows * width, 0.1), noise(width, 2.0), noise(width, 5.0));
        let vector = |v: &[f32]| Tensor::<1>::from_data(TensorData::new(v.to_vec(), [width]), &device);
        for bias in [false, true] {
            let norm = Norm { weight: vector(&w), bias: bias.then(|| vector(&b)) };
            let expected: Vec<f64> = x
                .chunks(width)
                .flat_map(|row| {
                    let row: Vec<f64> = row.iter().map(|x| f64::from(*x)).collect();
                    let mean = if bias { row.iter().sum::<f64>() / width as f64 } else { 0.0 };
                    let square = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / width as f64;
                    let affine = |(i, x): (usize, &f64)| {
                        let b = if bias { f64::from(b[i]) } else { 0.0 };
                        (x - mean) / (square + eps).sqrt() * f64::from(w[i]) + b
                    };
                    row.iter().enumerate().map(affine).collect::<Vec<_>>()
                })
                .collect();
            for way in [Way::Burn, Way::Host] {
                let input = Tensor::from_data(TensorData::new(x.clone(), [rows, width]), &device);
                let got = norm.apply(input, eps, way).try_into_vec_as::<f32>().unwrap();
                let worst =
                    got.iter().zip(&expected).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
                assert!(worst < 1e-5, "bias {bias}, {way:?}: {worst}");
            }
        }
    }
}
