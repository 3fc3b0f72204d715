//! What can go wrong between us and a GPU.

use cudarc::{driver::DriverError, nvrtc::CompileError};

/// Why a GPU, or a library for it, cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A library is not installed, or is not where the system looks.
    #[error("{name} cannot be loaded: {why}")]
    Library {
        /// Its name.
        name: &'static str,
        /// What the loader said.
        why: String,
    },
    /// The driver refused.
    #[error("the CUDA driver: {0:?}")]
    Driver(#[from] DriverError),
    /// NVRTC refused our own source.
    #[error("NVRTC: {0:?}")]
    Compile(#[from] CompileError),
    /// cuBLAS refused.
    #[error("cuBLAS: {call} gave status {status}")]
    Blas {
        /// The function.
        call: &'static str,
        /// `cublasStatus_t`.
        status: i32,
    },
    /// The device is older than the kernels need.
    #[error("compute capability {major}.{minor}, where 8.0 is needed")]
    TooOld {
        /// Of the device.
        major: i32,
        /// Of the device.
        minor: i32,
    },
    /// Burn has no such buffer: memory has run out, or what should have filled it failed.
    #[error("{0}")]
    Buffer(String),
}

pub(crate) type Result<T> = std::result::Result<T, Error>;
