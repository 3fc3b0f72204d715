//! `--device`.

use std::str::FromStr;

use burn::tensor::Device;

use super::failure::{Failure, Result};

/// Where a model runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeviceArg {
    /// Burn's CPU backend.
    Cpu,
    /// The NVIDIA GPU of that index.
    Cuda(usize),
}

impl FromStr for DeviceArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unknown = || format!("unknown device `{text}`, expected cpu, cuda or cuda:N");
        match text.split_once(':') {
            None if text == "cpu" => Ok(Self::Cpu),
            None if text == "cuda" => Ok(Self::Cuda(0)),
            Some(("cuda", index)) if index.bytes().all(|byte| byte.is_ascii_digit()) => {
                index.parse().map(Self::Cuda).map_err(|_| unknown())
            }
            _ => Err(unknown()),
        }
    }
}

impl DeviceArg {
    /// Opens the device and sees that it computes.
    ///
    /// # Errors
    /// When this build has no such backend, or the driver or the device is missing.
    pub(crate) fn open(self) -> Result<Device> {
        match self {
            Self::Cpu => cpu(),
            Self::Cuda(index) => cuda(index),
        }
    }
}

#[cfg(feature = "flex")]
fn cpu() -> Result<Device> {
    Ok(Device::flex())
}

#[cfg(all(feature = "ndarray", not(feature = "flex")))]
#[allow(deprecated, reason = "a second CPU backend to check the first against, as long as it exists")]
fn cpu() -> Result<Device> {
    Ok(Device::ndarray())
}

#[cfg(not(any(feature = "flex", feature = "ndarray")))]
fn cpu() -> Result<Device> {
    Err(Failure::User(
        "--device cpu: this `ramp` was built without a CPU backend; rebuild with --features flex".into(),
    ))
}

#[cfg(not(feature = "cuda"))]
fn cuda(index: usize) -> Result<Device> {
    Err(Failure::User(format!(
        "--device cuda:{index}: this `ramp` was built without CUDA; rebuild with --features cuda"
    )))
}

#[cfg(feature = "cuda")]
fn cuda(index: usize) -> Result<Device> {
    use burn::tensor::Tensor;

    keep_kernels();
    // The backend loads the driver when the device is first used, and panics when it cannot.
    let probe = super::panics::quietly(|| {
        let device = Device::cuda(index);
        let sum = Tensor::<1>::from_data([1.0_f32, 2.0], &device).sum();
        sum.try_into_vec_as::<f32>().map(|sum| (device, sum)).map_err(|error| format!("{error:?}"))
    });
    match probe.and_then(|result| result) {
        Ok((device, sum)) if sum == [3.0] => Ok(device),
        Ok((_, sum)) => Err(Failure::Device(format!("--device cuda:{index}: 1 + 2 gave {sum:?}"))),
        Err(why) => Err(Failure::Device(format!("--device cuda:{index}: cannot use CUDA: {why}"))),
    }
}

/// Has compiled kernels and the results of tuning kept below the user's cache folder, so that only the first run on a
/// machine pays for them. A `cubecl.toml` or `burn.toml` at or above the current folder may name another place.
#[cfg(feature = "cuda")]
fn keep_kernels() {
    use cubecl::config::{CubeClRuntimeConfig, RuntimeConfig, cache::CacheConfig};

    let mut config = CubeClRuntimeConfig::from_current_dir().override_from_env();
    config.compilation.cache = true;
    if matches!(config.environment.path, CacheConfig::Target) {
        config.environment.path = CacheConfig::Global;
    }
    // Whoever set one before knows better.
    CubeClRuntimeConfig::try_set(config);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!("cpu".parse(), Ok(DeviceArg::Cpu));
        assert_eq!("cuda".parse(), Ok(DeviceArg::Cuda(0)));
        assert_eq!("cuda:12".parse(), Ok(DeviceArg::Cuda(12)));
        for bad in ["", "gpu", "cpu:0", "cuda:", "cuda:-1", "cuda:+1", "cuda:x", "cuda:99999999999999999999"]
        {
            let error = bad.parse::<DeviceArg>().unwrap_err();
            assert!(error.contains(&format!("`{bad}`")), "{error}");
        }
    }

    #[cfg(feature = "flex")]
    #[test]
    fn the_cpu_is_always_there() {
        assert!(DeviceArg::Cpu.open().is_ok());
    }
}
