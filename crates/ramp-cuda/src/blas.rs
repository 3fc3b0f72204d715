//! The few functions of cuBLAS that are needed, found when the program runs.

use std::{ffi::c_void, path::PathBuf, ptr};

use cudarc::driver::sys::CUstream;
use libloading::Library;

use crate::error::{Error, Result};

const NAME: &str = "cuBLAS";

/// Files of cuBLAS and of what it needs, newest first.
const VERSIONS: [&str; 3] = ["13", "12", "11"];

/// `CUBLAS_COMPUTE_32F`: sums in f32; f32 factors are not shortened.
const COMPUTE_F32: i32 = 68;
/// `CUBLAS_GEMM_DEFAULT`.
const ALGORITHM: i32 = -1;

type Handle = *mut c_void;
type Gemm = unsafe extern "C" fn(
    Handle,
    i32,
    i32,
    i32,
    i32,
    i32,
    *const f32,
    *const c_void,
    i32,
    i32,
    i64,
    *const c_void,
    i32,
    i32,
    i64,
    *const f32,
    *mut c_void,
    i32,
    i32,
    i64,
    i32,
    i32,
    i32,
) -> i32;

/// A type of float, by its `cudaDataType_t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub(crate) enum Float {
    F32 = 0,
    F16 = 2,
    Bf16 = 14,
}

/// A batch of matrices in device memory. Rows are `ld` elements apart, matrices `stride` elements.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matrices {
    pub(crate) at: u64,
    pub(crate) float: Float,
    pub(crate) ld: usize,
    pub(crate) stride: usize,
}

/// How the second factor lies in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Second {
    /// `[k, n]`.
    Plain,
    /// `[n, k]`.
    Transposed,
}

/// Rows of the result, columns of the result, and length of the sums.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) m: usize,
    pub(crate) n: usize,
    pub(crate) k: usize,
    pub(crate) batch: usize,
}

/// cuBLAS on one stream.
#[derive(Debug)]
pub(crate) struct Blas {
    handle: Handle,
    gemm: Gemm,
    /// The code behind `gemm`, and what it was linked against.
    _library: [Option<Library>; 2],
}

// SAFETY: cuBLAS lets a handle be used by any thread, one at a time.
unsafe impl Send for Blas {}

impl Blas {
    /// The device's context is current, and stays so in every call.
    pub(crate) fn new(stream: CUstream) -> Result<Self> {
        let (library, below) = open()?;
        // SAFETY: the types are those of the functions in cublas_api.h.
        let (create, set_stream, gemm) = unsafe {
            (
                symbol::<unsafe extern "C" fn(*mut Handle) -> i32>(&library, b"cublasCreate_v2")?,
                symbol::<unsafe extern "C" fn(Handle, CUstream) -> i32>(&library, b"cublasSetStream_v2")?,
                symbol::<Gemm>(&library, b"cublasGemmStridedBatchedEx")?,
            )
        };
        let mut handle = ptr::null_mut();
        // SAFETY: the pointer is to a handle that the call writes.
        check("cublasCreate", unsafe { create(&raw mut handle) })?;
        // SAFETY: the handle was created above, the stream is the caller's.
        check("cublasSetStream", unsafe { set_stream(handle, stream) })?;
        Ok(Self { handle, gemm, _library: [Some(library), below] })
    }

    /// `c = scale * a b` for every matrix of the batch, row-major: `a` is `[m, k]`, `c` is `[m, n]`.
    ///
    /// # Safety
    /// The pointers are to device memory of the context that is current, and the matrices lie within their buffers.
    pub(crate) unsafe fn product(
        &self,
        a: Matrices,
        b: Matrices,
        second: Second,
        c: Matrices,
        Shape { m, n, k, batch }: Shape,
        scale: f32,
    ) -> Result<()> {
        let int =
            |n: usize| i32::try_from(n).map_err(|_| Error::Blas { call: "a size above 2^31", status: 7 });
        let zero = 0.0_f32;
        // cuBLAS is column-major, where what lies in memory here is the transpose: c^T = b^T a^T.
        let transposed = i32::from(second == Second::Transposed);
        // SAFETY: as the caller promises; the scalars live until the call returns, which reads them on the host.
        let status = unsafe {
            (self.gemm)(
                self.handle,
                transposed,
                0,
                int(n)?,
                int(m)?,
                int(k)?,
                &raw const scale,
                b.at as *const c_void,
                b.float as i32,
                int(b.ld)?,
                b.stride as i64,
                a.at as *const c_void,
                a.float as i32,
                int(a.ld)?,
                a.stride as i64,
                &raw const zero,
                c.at as *mut c_void,
                c.float as i32,
                int(c.ld)?,
                c.stride as i64,
                int(batch)?,
                COMPUTE_F32,
                ALGORITHM,
            )
        };
        check("cublasGemmStridedBatchedEx", status)
    }
}

/// cuBLAS, and cublasLt that it needs, by the system's search path or from the toolkit.
fn open() -> Result<(Library, Option<Library>)> {
    let mut why = String::new();
    let folders = [None, cubecl::cuda::install::cuda_path().map(|path| path.join("lib64"))];
    for folder in folders {
        for version in VERSIONS {
            let path = |name: &str| -> PathBuf {
                let file = format!("lib{name}.so.{version}");
                folder.as_ref().map_or_else(|| PathBuf::from(&file), |folder| folder.join(&file))
            };
            // SAFETY: loading runs the initialisers of NVIDIA's libraries, which have no preconditions.
            let (below, library) = unsafe { (Library::new(path("cublasLt")), Library::new(path("cublas"))) };
            match library {
                Ok(library) => return Ok((library, below.ok())),
                Err(error) if why.is_empty() => why = error.to_string(),
                Err(_) => {}
            }
        }
    }
    Err(Error::Library { name: NAME, why })
}

/// # Safety
/// `F` is the type of the function of that name.
unsafe fn symbol<F: Copy>(library: &Library, name: &[u8]) -> Result<F> {
    // SAFETY: as the caller promises.
    let symbol = unsafe { library.get::<F>(name) };
    symbol.map(|symbol| *symbol).map_err(|why| Error::Library { name: NAME, why: why.to_string() })
}

fn check(call: &'static str, status: i32) -> Result<()> {
    if status == 0 { Ok(()) } else { Err(Error::Blas { call, status }) }
}
