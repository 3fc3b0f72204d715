//! Quantizing and dequantizing by one kernel on an NVIDIA GPU.

use burn::tensor::{FloatDType, Tensor};
use ramp_cuda::ops::{AffineGroups, ZeroPoint as Kind, affine};

use super::{AffineConfig, AffineMatrix, ZeroPoint};
use crate::error::{Error, Result};

/// Weights of a group, at most: a few threads work on one.
const MAX_GROUP: usize = 1 << 16;

/// The bits of [`super::fake_quantize_slice`], or `None` where another way is needed.
pub(super) fn fake_quantize(weight: &Tensor<2>, config: AffineConfig) -> Result<Option<Tensor<2>>> {
    let shape = weight.dims();
    let layout = config.layout(shape)?;
    if layout.group > MAX_GROUP || !ramp_cuda::is_available(&weight.device()) {
        return Ok(None);
    }
    let zero_point = match config.zero_point {
        ZeroPoint::InRange => Kind::InRange,
        ZeroPoint::Printed => Kind::Printed,
        ZeroPoint::Clamped => Kind::Clamped,
        ZeroPoint::Symmetric => Kind::Symmetric,
    };
    let groups = AffineGroups { group: layout.group, max_code: config.max_code(), zero_point };
    let rows = weight.clone().cast(FloatDType::F32).reshape([layout.rows, layout.len]);
    let (weights, bad) = affine(rows, groups);
    let bad = bad.try_into_vec_as::<f32>().map_err(Error::device)?;
    if bad.iter().any(|bad| *bad != 0.0) {
        // The slow path knows which weight it is.
        let weight = weight.clone().try_into_vec_as::<f32>().map_err(Error::device)?;
        AffineMatrix::quantize(&weight, shape, config)?;
        return Ok(None);
    }
    Ok(Some(weights.reshape(shape)))
}
