//! Our kernels: CUDA C in `kernels/`, compiled for the device that is there.

use std::sync::{Arc, OnceLock};

use cudarc::{
    driver::{CudaContext, CudaFunction, CudaModule},
    nvrtc::{CompileOptions, compile_ptx_with_opts},
};

use crate::{blas::Float, error::Result};

const TYPES: &str = include_str!("kernels/types.cu");

/// Behind the types, one translation unit.
const SOURCES: [&str; 6] = [
    TYPES,
    include_str!("kernels/rows.cu"),
    include_str!("kernels/blocks.cu"),
    include_str!("kernels/affine.cu"),
    include_str!("kernels/errors.cu"),
    include_str!("kernels/sums.cu"),
];

/// Another one, which takes some seconds to compile and is seldom needed.
const ENCODERS: [&str; 2] = [TYPES, include_str!("kernels/encode.cu")];

/// Compiled kernels on one device.
#[derive(Debug)]
pub(crate) struct Kernels {
    context: Arc<CudaContext>,
    capability: (i32, i32),
    module: Arc<CudaModule>,
    encoders: OnceLock<Arc<CudaModule>>,
}

impl Kernels {
    pub(crate) fn new(context: &Arc<CudaContext>, capability: (i32, i32)) -> Result<Self> {
        let module = compile(context, capability, SOURCES.concat())?;
        Ok(Self { context: context.clone(), capability, module, encoders: OnceLock::new() })
    }

    pub(crate) fn get(&self, name: &str) -> Result<CudaFunction> {
        Ok(self.module.load_function(name)?)
    }

    /// A kernel that encodes.
    pub(crate) fn encoder(&self, name: &str) -> Result<CudaFunction> {
        let module = match self.encoders.get() {
            Some(module) => module,
            None => {
                let module = compile(&self.context, self.capability, ENCODERS.concat())?;
                self.encoders.get_or_init(|| module)
            }
        };
        Ok(module.load_function(name)?)
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

fn compile(
    context: &Arc<CudaContext>,
    (major, minor): (i32, i32),
    source: String,
) -> Result<Arc<CudaModule>> {
    let options = CompileOptions {
        // A product and a sum round twice, as on the CPU.
        fmad: Some(false),
        options: vec![format!("--gpu-architecture=compute_{major}{minor}")],
        ..CompileOptions::default()
    };
    Ok(context.load_module(compile_ptx_with_opts(source, options)?)?)
}
