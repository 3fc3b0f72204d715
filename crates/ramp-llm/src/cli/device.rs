//! `--device`.

use std::{fmt, path::Path, str::FromStr};

use burn::tensor::Device;
use ramp::pipeline::NamedDevice;

use super::failure::{Failure, Result};

/// Where a model runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DeviceArg {
    /// Burn's CPU backend.
    Cpu,
    /// The NVIDIA GPU of that index.
    Cuda(usize),
    /// Every NVIDIA GPU.
    EveryCuda,
    /// What `ramp serve` serves at that address, such as `ws://10.0.0.2:3000`.
    Remote(String),
}

impl FromStr for DeviceArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unknown =
            || format!("unknown device `{text}`, expected cpu, cuda, cuda:N, cuda:all or ws://HOST:PORT");
        if text.contains(',') {
            // Commands that take several split them before.
            return Err(format!("`{text}`: this command takes one device"));
        }
        match text.split_once(':') {
            None if text == "cpu" => Ok(Self::Cpu),
            None if text == "cuda" => Ok(Self::Cuda(0)),
            Some(("cuda", "all")) => Ok(Self::EveryCuda),
            Some(("cuda", index)) if index.bytes().all(|byte| byte.is_ascii_digit()) => {
                index.parse().map(Self::Cuda).map_err(|_| unknown())
            }
            Some(("ws", address)) => {
                let (host, port) =
                    address.strip_prefix("//").and_then(|at| at.rsplit_once(':')).ok_or_else(unknown)?;
                let good = !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok();
                if good { Ok(Self::Remote(text.to_owned())) } else { Err(unknown()) }
            }
            _ => Err(unknown()),
        }
    }
}

impl fmt::Display for DeviceArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
            Self::EveryCuda => f.write_str("cuda:all"),
            Self::Remote(address) => f.write_str(address),
        }
    }
}

impl DeviceArg {
    /// Opens the device and sees that it computes.
    ///
    /// # Errors
    /// When this build has no such backend, or the driver or the device is missing; when it is several devices.
    pub(crate) fn open(&self, token_file: Option<&Path>) -> Result<Device> {
        match self {
            Self::Remote(address) => remote(address, token_file),
            Self::Cpu => cpu(),
            Self::Cuda(index) => cuda(*index),
            Self::EveryCuda => Err(Failure::User(format!("--device {self}: this command takes one device"))),
        }
    }

    /// The single devices that it names.
    fn each(&self) -> Result<Vec<Self>> {
        match self {
            Self::EveryCuda => Ok((0..cuda_count()?).map(Self::Cuda).collect()),
            one => Ok(vec![one.clone()]),
        }
    }
}

/// The devices of a command that takes several: the first one, and the others.
///
/// # Errors
/// As [`DeviceArg::open`] for any of them; when one is named twice.
pub(crate) fn open_all(args: &[DeviceArg], token_file: Option<&Path>) -> Result<(Device, Vec<NamedDevice>)> {
    let mut named: Vec<DeviceArg> = Vec::new();
    for arg in args {
        for device in arg.each()? {
            if named.contains(&device) {
                return Err(Failure::User(format!("--device {device}: is named twice")));
            }
            named.push(device);
        }
    }
    let Some((first, others)) = named.split_first() else {
        return Err(Failure::User("--device: names no device".into()));
    };
    let first = first.open(token_file)?;
    let others =
        others.iter().map(|arg| Ok(NamedDevice { name: arg.to_string(), device: arg.open(token_file)? }));
    Ok((first, others.collect::<Result<_>>()?))
}

#[cfg(not(feature = "remote"))]
fn remote(address: &str, _token_file: Option<&Path>) -> Result<Device> {
    Err(Failure::User(format!(
        "--device {address}: this `ramp` was built without remote devices; rebuild with --features remote"
    )))
}

#[cfg(feature = "remote")]
fn remote(address: &str, token_file: Option<&Path>) -> Result<Device> {
    use burn::{remote::RemoteHost, tensor::Tensor};

    let token = super::token::Token::required(token_file)?;
    let fail = |why: String| Failure::Device(format!("--device {address}: {why}"));
    let host = RemoteHost::websocket(address).with_credential(token.text());
    let probe = super::panics::quietly(|| {
        let device = Device::remote_options(&host).init().map_err(|why| why.to_string())?;
        let sum = Tensor::<1>::from_data([1.0_f32, 2.0], &device).sum();
        let sum = sum.try_into_vec_as::<f32>().map_err(|error| format!("{error:?}"))?;
        Ok((device, sum))
    });
    match probe.and_then(|result| result) {
        Ok((device, sum)) if sum == [3.0] => Ok(device),
        Ok((_, sum)) => Err(fail(format!("1 + 2 gave {sum:?}"))),
        Err(why) => Err(fail(why)),
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
fn cuda_count() -> Result<usize> {
    Err(Failure::User(
        "--device cuda:all: this `ramp` was built without CUDA; rebuild with --features cuda".into(),
    ))
}

/// GPUs that the driver shows.
#[cfg(feature = "cuda")]
fn cuda_count() -> Result<usize> {
    let fail = |why: String| Failure::Device(format!("--device cuda:all: cannot use CUDA: {why}"));
    let count = super::panics::quietly(cudarc::driver::CudaContext::device_count).map_err(fail)?;
    match count {
        Ok(0) => Err(fail("there is no GPU".into())),
        Ok(count) => Ok(count as usize),
        Err(error) => Err(fail(error.to_string())),
    }
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
        assert_eq!("cuda:all".parse(), Ok(DeviceArg::EveryCuda));
        assert_eq!("ws://[::1]:80".parse(), Ok(DeviceArg::Remote("ws://[::1]:80".into())));
        for bad in [
            "",
            "gpu",
            "cpu,cuda",
            "ws://",
            "ws://h",
            "ws:h:1",
            "ws://h:1/x",
            "wss://h:1",
            "cpu:0",
            "cuda:",
            "cuda:-1",
            "cuda:+1",
            "cuda:x",
            "cuda:99999999999999999999",
        ] {
            let error = bad.parse::<DeviceArg>().unwrap_err();
            assert!(error.contains(&format!("`{bad}`")), "{error}");
        }
    }

    #[test]
    fn several_devices_are_different_ones() {
        let twice = open_all(&[DeviceArg::Cpu, DeviceArg::Cpu], None).unwrap_err();
        assert_eq!(twice, Failure::User("--device cpu: is named twice".into()));
        assert!(matches!(open_all(&[], None), Err(Failure::User(_))));
        let one = DeviceArg::EveryCuda.open(None).unwrap_err();
        assert_eq!(one, Failure::User("--device cuda:all: this command takes one device".into()));
    }

    #[cfg(feature = "flex")]
    #[test]
    fn the_cpu_is_always_there() {
        assert!(DeviceArg::Cpu.open(None).is_ok());
        let (_, others) = open_all(&[DeviceArg::Cpu], None).unwrap();
        assert!(others.is_empty());
    }
}
