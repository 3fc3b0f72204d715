//! A stream of ours on each device, in order with Burn's.

use std::{
    cell::RefCell,
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use burn::{backend::DispatchDevice, tensor::Device};
use cudarc::driver::{
    CudaContext, CudaEvent, CudaFunction, CudaStream, LaunchConfig, PushKernelArg,
    sys::{CUevent_flags, cuCtxRecordEvent, cuCtxWaitEvent},
};

use crate::{
    blas::Blas,
    error::{Error, Result},
    kernels::Kernels,
    staging::Staging,
};

/// Everything that is needed to run work on a device.
#[derive(Debug)]
pub(crate) struct Engine {
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    pub(crate) blas: Blas,
    pub(crate) kernels: Kernels,
    /// What Burn queued before, and what we queued.
    before: CudaEvent,
    after: CudaEvent,
    order: Order,
    /// Made when something is uploaded first.
    staging: RefCell<Option<Staging>>,
}

/// How our stream and Burn's are kept in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// The device waits for events of the whole context.
    Events,
    /// The host waits, where the driver has no such events.
    Host,
}

/// By ordinal; `None` where it cannot be used, which is said once.
static ENGINES: LazyLock<Mutex<HashMap<usize, Option<Arc<Mutex<Engine>>>>>> = LazyLock::new(Mutex::default);

/// Whether the operations of [`crate::ops`] run on tensors of this device: a GPU of NVIDIA, without autodiff, with cuBLAS
/// and NVRTC. Opens it.
#[must_use]
pub fn is_available(device: &Device) -> bool {
    if device.is_autodiff() {
        return false;
    }
    match device.as_dispatch() {
        DispatchDevice::Cube(cubecl::Device::Cuda(device)) => engine(device.index).is_some(),
        _ => false,
    }
}

/// Bytes of the device's memory that are free, and all of them.
#[must_use]
pub fn memory(device: &Device) -> Option<(u64, u64)> {
    let DispatchDevice::Cube(cubecl::Device::Cuda(device)) = device.as_dispatch() else { return None };
    let engine = engine(device.index)?;
    let engine = engine.lock().unwrap_or_else(PoisonError::into_inner);
    let (free, total) = engine.context.mem_get_info().ok()?;
    Some((free as u64, total as u64))
}

/// Runs `work` on the device's stream, in order with what Burn queues on it.
pub(crate) fn run<T>(ordinal: usize, work: impl FnOnce(&Engine) -> Result<T>) -> Result<T> {
    let missing = || Error::Library { name: "a CUDA device", why: format!("no device {ordinal}") };
    let engine = engine(ordinal).ok_or_else(missing)?;
    let mut engine = engine.lock().unwrap_or_else(PoisonError::into_inner);
    engine.in_order(work)
}

fn engine(ordinal: usize) -> Option<Arc<Mutex<Engine>>> {
    let mut engines = ENGINES.lock().unwrap_or_else(PoisonError::into_inner);
    engines
        .entry(ordinal)
        .or_insert_with(|| match Engine::new(ordinal) {
            Ok(engine) => Some(Arc::new(Mutex::new(engine))),
            Err(why) => {
                tracing::warn!(%why, ordinal, "products on the GPU are Burn's, which tunes them for minutes");
                None
            }
        })
        .clone()
}

impl Engine {
    fn new(ordinal: usize) -> Result<Self> {
        // The primary context, which is Burn's, too.
        let context = CudaContext::new(ordinal)?;
        let (major, minor) = context.compute_capability()?;
        if major < 8 {
            return Err(Error::TooOld { major, minor });
        }
        context.bind_to_thread()?;
        let stream = context.new_stream()?;
        let blas = Blas::new(stream.cu_stream())?;
        let kernels = Kernels::new(&context, (major, minor))?;
        let event = || context.new_event(Some(CUevent_flags::CU_EVENT_DISABLE_TIMING));
        let (before, after) = (event()?, event()?);
        Ok(Self {
            context,
            stream,
            blas,
            kernels,
            before,
            after,
            order: Order::Events,
            staging: RefCell::default(),
        })
    }

    fn in_order<T>(&mut self, work: impl FnOnce(&Self) -> Result<T>) -> Result<T> {
        self.context.bind_to_thread()?;
        if self.order == Order::Events {
            // SAFETY: context and event are alive, and of each other.
            let recorded = unsafe { cuCtxRecordEvent(self.context.cu_ctx(), self.before.cu_event()) };
            if recorded.result().is_err() {
                tracing::debug!("no events of a whole context in this driver; the host waits");
                self.order = Order::Host;
            }
        }
        match self.order {
            Order::Events => self.stream.wait(&self.before)?,
            Order::Host => self.context.synchronize()?,
        }
        let result = work(self)?;
        match self.order {
            Order::Events => {
                self.after.record(&self.stream)?;
                // SAFETY: as above.
                unsafe { cuCtxWaitEvent(self.context.cu_ctx(), self.after.cu_event()) }.result()?;
            }
            Order::Host => self.stream.synchronize()?,
        }
        Ok(result)
    }

    /// Queues the copy of host memory to an address of the device. `from` is done with when this returns.
    ///
    /// # Safety
    /// As many bytes are there.
    pub(crate) unsafe fn upload(&self, from: &[u8], to: u64) -> Result<()> {
        let mut staging = self.staging.borrow_mut();
        let staging = match &mut *staging {
            Some(staging) => staging,
            none => none.insert(Staging::new(&self.context)?),
        };
        // SAFETY: as the caller promises.
        unsafe { staging.copy(from, to, &self.stream) }
    }

    /// Queues a kernel with one block of threads for each row.
    ///
    /// # Safety
    /// `args` are of the kernel's types, and its pointers are to as much device memory as it touches.
    pub(crate) unsafe fn rows(
        &self,
        kernel: &CudaFunction,
        rows: usize,
        width: usize,
        args: &[Arg],
    ) -> Result<()> {
        let threads = width.next_multiple_of(32).clamp(32, 512) as u32;
        // SAFETY: as the caller promises.
        unsafe { self.launch(kernel, rows, threads, args) }
    }

    /// Queues a kernel with one thread for each element.
    ///
    /// # Safety
    /// As [`Engine::rows`].
    pub(crate) unsafe fn elements(&self, kernel: &CudaFunction, elements: usize, args: &[Arg]) -> Result<()> {
        const THREADS: u32 = 256;
        // SAFETY: as the caller promises.
        unsafe { self.launch(kernel, elements.div_ceil(THREADS as usize), THREADS, args) }
    }

    /// Queues a kernel with so many blocks of so many threads.
    ///
    /// # Safety
    /// As [`Engine::rows`].
    pub(crate) unsafe fn launch(
        &self,
        kernel: &CudaFunction,
        blocks: usize,
        threads: u32,
        args: &[Arg],
    ) -> Result<()> {
        if blocks == 0 {
            return Ok(());
        }
        let blocks = u32::try_from(blocks)
            .map_err(|_| Error::Buffer(format!("{blocks} blocks of threads are too many")))?;
        let mut builder = self.stream.launch_builder(kernel);
        for arg in args {
            match arg {
                Arg::At(address) => builder.arg(address),
                Arg::Long(value) => builder.arg(value),
                Arg::Int(value) => builder.arg(value),
                Arg::Float(value) => builder.arg(value),
            };
        }
        let config =
            LaunchConfig { grid_dim: (blocks, 1, 1), block_dim: (threads, 1, 1), shared_mem_bytes: 0 };
        // SAFETY: as the caller promises.
        unsafe { builder.launch(config) }?;
        Ok(())
    }
}

/// An argument of a kernel, by its type in CUDA C.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Arg {
    /// A pointer to device memory.
    At(u64),
    /// `long long`.
    Long(i64),
    /// `int`.
    Int(i32),
    /// `float`.
    Float(f32),
}

impl Arg {
    /// A size as `long long`.
    pub(crate) const fn long(value: usize) -> Self {
        Self::Long(value as i64)
    }

    /// A size as `int`; one beyond its range, which no tensor here has, is cut off at the range's end.
    pub(crate) fn int(value: usize) -> Self {
        Self::Int(i32::try_from(value).unwrap_or(i32::MAX))
    }
}
