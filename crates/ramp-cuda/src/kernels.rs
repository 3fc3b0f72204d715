//! Our kernels: CUDA C in `kernels/`, compiled for the device that is there.

use std::sync::Arc;

use cudarc::{
    driver::{CudaContext, CudaFunction, CudaModule},
    nvrtc::{CompileOptions, compile_ptx_with_opts},
};

use crate::{blas::Float, error::Result};

/// One translation unit, in this order.
const SOURCES: [&str; 4] = [
    include_str!("kernels/types.cu"),
    include_str!("kernels/rows.cu"),
    include_str!("kernels/blocks.cu"),
    include_str!("kernels/affine.cu"),
];

/// Compiled kernels on one device.
#[derive(Debug)]
pub(crate) struct Kernels(Arc<CudaModule>);

impl Kernels {
    pub(crate) fn new(context: &Arc<CudaContext>, (major, minor): (i32, i32)) -> Result<Self> {
        let options = CompileOptions {
            // A product and a sum round twice, as on the CPU.
            fmad: Some(false),
            options: vec![format!("--gpu-architecture=compute_{major}{minor}")],
            ..CompileOptions::default()
        };
        let ptx = compile_ptx_with_opts(SOURCES.concat(), options)?;
        Ok(Self(context.load_module(ptx)?))
    }

    pub(crate) fn get(&self, name: &str) -> Result<CudaFunction> {
        Ok(self.0.load_function(name)?)
    }

    /// The kernel of a family for one type of float.
    pub(crate) fn of(&self, family: &str, float: Float) -> Result<CudaFunction> {
        let suffix = match float {
            Float::F32 => "float",
            Float::F16 => "f16",
            Float::Bf16 => "bf16",
        };
        self.get(&format!("{family}_{suffix}"))
    }
}
