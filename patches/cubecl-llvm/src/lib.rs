#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

use std::{ffi::c_char, fmt};

use cubecl_core::ir::{amd::GfxArch, nvidia::SmArch};
use cubecl_environment::backtrace::BackTrace;
use cubecl_runtime::{
    compiler::{CompilationError, Compiler},
    kernel::{BufferIOAttr, KernelDefinition},
};

/// What the PTX backend tells about itself.
pub mod nvptx {
    /// Versions of PTX, the assembly language of NVIDIA GPUs.
    pub mod ptx_version {
        use std::fmt;

        /// A version of PTX that LLVM can emit. Without LLVM there is none, so this type has no value.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum PtxVersion {}

        impl PtxVersion {
            /// The newest version that a driver loads: none, whatever the driver.
            #[must_use]
            pub const fn for_driver(_driver: i32) -> Option<Self> {
                None
            }
        }

        impl fmt::Display for PtxVersion {
            fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
                match *self {}
            }
        }
    }
}

/// What the backends of LLVM have in common.
pub mod shared {
    /// Which features of a device the code generator can use.
    pub mod lowered_features {
        use cubecl_core::ir::DeviceProperties;

        /// A family of GPUs.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum GpuTarget {
            /// NVIDIA.
            Nvptx,
        }

        /// Takes from a device's properties what LLVM cannot lower. Nothing is lowered here, so nothing is taken;
        /// `cubecl-cuda` calls it for its LLVM backend only.
        pub fn restrict_features(_properties: &mut DeviceProperties, _target: GpuTarget) {}
    }
}

/// What code is generated for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LlvmTarget {
    /// The host's processor.
    #[default]
    Cpu,
    /// NVIDIA GPUs.
    Nvptx,
}

/// The compiler, which refuses every kernel.
#[derive(Clone, Debug, Default)]
pub struct PlironCompiler {
    /// What it would generate code for.
    pub target: LlvmTarget,
}

/// Options of a compilation; nothing reads them.
#[derive(Clone, Debug, Default)]
pub struct PlironOptions {
    /// The AMD GPU.
    pub arch: Option<GfxArch>,
    /// The NVIDIA GPU.
    pub sm_arch: Option<SmArch>,
    /// The PTX version to emit.
    pub ptx_version: Option<nvptx::ptx_version::PtxVersion>,
    /// Whether launch parameters are grid constants.
    pub grid_constants: bool,
    /// Stands for the fields that only other backends set: `cubecl-cuda` fills them from `Default`.
    pub unused: (),
}

/// A compiled PTX module.
#[derive(Clone, Debug)]
pub struct NvptxModule {
    /// PTX text, with its terminating zero.
    pub ptx: Vec<c_char>,
    /// Name of the kernel.
    pub entrypoint: String,
    /// LLVM's intermediate representation, for logs.
    pub ir: String,
    /// Bytes of dynamic shared memory that a launch reserves.
    pub shared_memory_size: usize,
    /// What the kernel does with each buffer.
    pub io: Vec<BufferIOAttr>,
}

/// The result of a compilation. None is ever made.
#[derive(Clone, Debug)]
pub enum PlironArtifact {
    /// For NVIDIA GPUs.
    NvptxCode(NvptxModule),
    /// For anything else: `cubecl-cuda` has an arm for it.
    Other,
}

impl fmt::Display for PlironArtifact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no code: built without LLVM")
    }
}

impl Compiler for PlironCompiler {
    type Representation = PlironArtifact;
    type CompilationOptions = PlironOptions;

    /// Refuses the kernel. Reached only when `cubecl` is built without its feature `cuda-cpp`.
    fn compile(
        &mut self,
        _kernel: KernelDefinition,
        _options: &PlironOptions,
    ) -> Result<PlironArtifact, CompilationError> {
        Err(CompilationError::Generic {
            reason: "built without LLVM; turn on the feature `cuda-cpp` of cubecl to compile with NVRTC"
                .into(),
            backtrace: BackTrace::capture(),
        })
    }

    fn extension(&self) -> &'static str {
        "ll"
    }

    fn lang_tag(&self) -> &'static str {
        "llvm"
    }
}
