//! A model on another device, or in another type of float.

#[cfg(feature = "cuda")]
use burn::tensor::DType;
use burn::tensor::{Device, Tensor, TensorData};

use super::{Block, CausalLm, Linear};
#[cfg(feature = "cuda")]
use crate::values::HostValues;
use crate::{
    error::{Error, Result},
    norm::Norm,
    precision::Precision,
    rope::Rope,
    way::Way,
};

impl CausalLm {
    /// The same model on `device`, its blocks in `precision`. Weights travel through host memory.
    ///
    /// On a device with autodiff ([`Device::autodiff`]) every operation is one that gradients pass through; nothing is
    /// tracked until a weight that requires its gradient is put in.
    ///
    /// # Errors
    /// When a device fails.
    pub fn to(&self, device: &Device, precision: Precision) -> Result<Self> {
        let linear = |linear: &Linear| -> Result<Linear> {
            let bias = linear.bias.as_ref().map(|bias| moved(bias, device)).transpose()?;
            Ok(Linear {
                weight: precision.cast(moved(&linear.weight, device)?),
                bias: bias.map(|bias| precision.cast(bias)),
            })
        };
        let blocks = self.blocks.iter().map(|block| {
            let mut linears = block.linears.clone();
            for slot in linears.iter_mut().flatten() {
                *slot = linear(slot)?;
            }
            Ok(Block {
                attn_norm: block.attn_norm.moved(device)?,
                q_norm: block.q_norm.as_ref().map(|norm| norm.moved(device)).transpose()?,
                k_norm: block.k_norm.as_ref().map(|norm| norm.moved(device)).transpose()?,
                ffn_norm: block.ffn_norm.moved(device)?,
                linears,
            })
        });
        Ok(Self {
            config: self.config.clone(),
            device: device.clone(),
            precision,
            way: Way::of(device, precision),
            token_embd: moved(&self.token_embd, device)?,
            position_embd: self.position_embd.as_ref().map(|table| moved(table, device)).transpose()?,
            blocks: blocks.collect::<Result<_>>()?,
            output_norm: self.output_norm.moved(device)?,
            output: self.output.as_ref().map(|head| moved(head, device)).transpose()?,
            // Its tables are on the device.
            rope: self.rope.as_ref().map(|_| Rope::new(&self.config)),
        })
    }
}

impl Norm {
    fn moved(&self, device: &Device) -> Result<Self> {
        let bias = self.bias.as_ref().map(|bias| moved(bias, device)).transpose()?;
        Ok(Self { weight: moved(&self.weight, device)?, bias })
    }
}

/// A tensor on another device, through host memory.
pub(crate) fn moved<const D: usize>(tensor: &Tensor<D>, device: &Device) -> Result<Tensor<D>> {
    #[cfg(feature = "cuda")]
    if let (true, DType::F32, &[rows, columns]) =
        (ramp_cuda::is_available(device), tensor.dtype(), tensor.dims().as_slice())
    {
        return Ok(HostValues::of(tensor.clone())?.upload([rows, columns], device).reshape(tensor.shape()));
    }
    let data = tensor.clone().try_into_data().map_err(Error::device)?;
    Ok(Tensor::from_data(data, device))
}

/// A matrix of f32, row-major `[rows, columns]`, on a device.
pub(crate) fn placed(data: Vec<f32>, shape: [usize; 2], device: &Device) -> Tensor<2> {
    #[cfg(feature = "cuda")]
    if ramp_cuda::is_available(device) {
        return HostValues::from(data).upload(shape, device);
    }
    Tensor::from_data(TensorData::new(data, shape), device)
}
