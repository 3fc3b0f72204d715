//! Moments of a weight matrix.

use burn::tensor::Tensor;

use crate::error::{Error, Result};

/// Moments over all weights of a matrix.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct WeightStats {
    pub(crate) mean: f64,
    /// Population standard deviation.
    pub(crate) std: f64,
    /// Mean of |w|.
    pub(crate) mean_abs: f64,
}

impl WeightStats {
    /// Reduces the rows of `weight`, `[out, in]`, on its device and the rest here, in f64: one transfer, and no
    /// sum of millions of f32.
    pub(crate) fn of(weight: Tensor<2>) -> Result<Self> {
        let [out, _] = weight.dims();
        let mean = weight.clone().mean_dim(1); // [out, 1]
        let mean_abs = weight.clone().abs().mean_dim(1);
        let variance = (weight - mean.clone()).square().mean_dim(1);
        let rows = Tensor::cat(vec![mean, mean_abs, variance], 1); // [out, 3]
        let rows = rows.try_into_vec_as::<f32>().map_err(|why| Error::Device { why: format!("{why:?}") })?;
        let column = |at: usize| rows.iter().skip(at).step_by(3).map(|&x| f64::from(x));
        let average = |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / out as f64;

        // Law of total variance over rows of one length.
        let mean = average(&mut column(0));
        let between = average(&mut column(0).map(|row| (row - mean).powi(2)));
        let within = average(&mut column(2));
        Ok(Self { mean, std: (within + between).sqrt(), mean_abs: average(&mut column(1)) })
    }

    /// E[(w - mean)^4] / std^4: 3 for a Gaussian, more with outliers. A matrix of one number has 3.
    pub(crate) fn kurtosis(self, weight: Tensor<2>) -> Result<f64> {
        if self.std == 0.0 {
            return Ok(3.0);
        }
        let [out, _] = weight.dims();
        // In units of the standard deviation: the fourth power of a small weight is no f32.
        let fourth = ((weight - self.mean) / self.std).square().square().mean_dim(1); // [out, 1]
        let rows =
            fourth.try_into_vec_as::<f32>().map_err(|why| Error::Device { why: format!("{why:?}") })?;
        Ok(rows.iter().map(|&x| f64::from(x)).sum::<f64>() / out as f64)
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;

    fn of(weight: &[f32], shape: [usize; 2]) -> WeightStats {
        WeightStats::of(Tensor::from_data(TensorData::new(weight.to_vec(), shape), &Device::flex())).unwrap()
    }

    #[test]
    fn moments_by_hand() {
        let stats = of(&[1.0, -1.0, 3.0, 5.0], [2, 2]); // mean 2, deviations -1, -3, 1, 3
        assert!((stats.std - 5f64.sqrt()).abs() < 1e-6);
        assert_eq!((stats.mean, stats.mean_abs), (2.0, 2.5));
    }

    #[test]
    fn kurtosis_by_hand() {
        let weight = || Tensor::from_data([[1.0, -1.0], [3.0, 5.0]], &Device::flex());
        let stats = WeightStats::of(weight()).unwrap();
        // Deviations -1, -3, 1, 3: fourth powers 1, 81, 1, 81 over 4, variance 5.
        assert!((stats.kurtosis(weight()).unwrap() - 41.0 / 25.0).abs() < 1e-5);
        let constant = || Tensor::<2>::full([2, 2], 0.5, &Device::flex());
        assert_eq!(WeightStats::of(constant()).unwrap().kurtosis(constant()).unwrap(), 3.0);
    }

    #[test]
    fn a_large_mean_does_not_swallow_the_deviation() {
        let weight: Vec<f32> = (0..1 << 16).map(|i| if i % 2 == 0 { 1000.0 } else { 1000.5 }).collect();
        let stats = of(&weight, [256, 256]);
        assert!((stats.std - 0.25).abs() < 1e-4, "{}", stats.std);
    }
}
