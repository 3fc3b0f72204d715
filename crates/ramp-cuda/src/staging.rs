//! Host memory to the device, through memory that the device reads by itself.

use std::sync::Arc;

use cudarc::driver::{
    CudaContext, CudaEvent, CudaStream,
    result::{free_host, malloc_host, memcpy_htod_async},
    sys::CUevent_flags,
};
use rayon::prelude::*;

use crate::error::Result;

/// Bytes of a buffer. Two of them keep the host's copy and the device's busy side by side.
const BYTES: usize = 32 << 20;
/// Bytes that one thread copies at once.
const PART: usize = 1 << 20;

/// Two buffers that are filled in turns.
#[derive(Debug)]
pub(crate) struct Staging {
    buffers: [Buffer; 2],
    next: usize,
}

impl Staging {
    /// The context is current.
    pub(crate) fn new(context: &Arc<CudaContext>) -> Result<Self> {
        Ok(Self { buffers: [Buffer::new(context)?, Buffer::new(context)?], next: 0 })
    }

    /// Queues the copy of `from` to the address `to`. `from` is done with when this returns.
    ///
    /// # Safety
    /// As many bytes are there in the memory of the stream's device.
    pub(crate) unsafe fn copy(&mut self, from: &[u8], to: u64, stream: &CudaStream) -> Result<()> {
        for (chunk, from) in from.chunks(BYTES).enumerate() {
            let buffer = &mut self.buffers[self.next];
            self.next = 1 - self.next;
            buffer.free.synchronize()?;
            let staged = buffer.fill(from);
            // SAFETY: as the caller promises; nobody writes the buffer before `free` says so.
            unsafe { memcpy_htod_async(to + (chunk * BYTES) as u64, staged, stream.cu_stream()) }?;
            buffer.free.record(stream)?;
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Buffer {
    at: *mut u8,
    /// The device has read it.
    free: CudaEvent,
}

// SAFETY: page-locked memory belongs to the process; only the owner reads or writes it.
unsafe impl Send for Buffer {}

impl Buffer {
    fn new(context: &Arc<CudaContext>) -> Result<Self> {
        let free = context.new_event(Some(CUevent_flags::CU_EVENT_DISABLE_TIMING))?;
        // SAFETY: a size above zero, and no flags.
        let at = unsafe { malloc_host(BYTES, 0) }?.cast();
        Ok(Self { at, free })
    }

    /// Copies at most [`BYTES`] bytes, and gives the copy.
    fn fill(&mut self, from: &[u8]) -> &[u8] {
        // SAFETY: the allocation has BYTES bytes, which `from` has at most; it is this buffer's alone.
        let to = unsafe { std::slice::from_raw_parts_mut(self.at, from.len().min(BYTES)) };
        to.par_chunks_mut(PART).zip(from.par_chunks(PART)).for_each(|(to, from)| to.copy_from_slice(from));
        to
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // The device may still read it; a device that failed reads nothing.
        let _ = self.free.synchronize();
        // SAFETY: the pointer is that of `malloc_host`, and not used again. There is nothing to do about an error.
        let _ = unsafe { free_host(self.at.cast()) };
    }
}
