//! Host memory to a tensor, without a copy in between that stays.

use std::{fmt, sync::Arc};

use burn::tensor::{DType, Shape};
use burn_cubecl::tensor::CubeTensor;

use super::require;
use crate::{
    engine,
    error::Result,
    tensor::{Buffer, empty, ordinal},
};

/// Values in host memory that several may read. They are kept until they were copied.
#[derive(Clone)]
pub struct HostSource(pub Arc<dyn AsRef<[f32]> + Send + Sync>);

impl fmt::Debug for HostSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostSource({} values)", (*self.0).as_ref().len())
    }
}

/// On the device of `beside`.
pub(super) fn upload(beside: &CubeTensor, source: &HostSource, shape: [usize; 2]) -> Result<CubeTensor> {
    let values = (*source.0).as_ref();
    require(values.len() == shape[0] * shape[1], "values and the shape of their matrix")?;
    let out = empty(beside, Shape::new(shape), DType::F32);
    let to = Buffer::of(&out)?;
    // SAFETY: any bytes of f32 are bytes.
    let bytes = unsafe { std::slice::from_raw_parts(values.as_ptr().cast::<u8>(), size_of_val(values)) };
    engine::run(ordinal(beside)?, |engine| {
        // SAFETY: `to` has four bytes for each value.
        unsafe { engine.upload(bytes, to.at) }
    })?;
    Ok(out)
}
