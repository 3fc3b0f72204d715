//! A model as it is quantized, and as the device computes with it.

use burn::tensor::Device;
use ramp_model::{CausalLm, ModelFiles, Precision};

use super::options::QuantizeOptions;
use crate::error::Result;

/// Where models are, and in which type their blocks compute.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub(super) device: &'a Device,
    pub(super) precision: Precision,
    /// Where weights are that are folded and encoded, if they are not those that are computed with.
    pub(super) host: &'a Device,
}

impl<'a> Place<'a> {
    /// Where a run's options say.
    pub(super) const fn of(options: &'a QuantizeOptions) -> Self {
        Self { device: &options.device, precision: options.precision, host: &options.agent_device }
    }

    /// Reads a model: its f32 weights, and the model that computes. One and the same in f32.
    pub(super) fn load(&self, files: &ModelFiles) -> Result<(CausalLm, CausalLm)> {
        if self.precision == Precision::F32 {
            let model = files.load(self.device)?;
            return Ok((model.clone(), model));
        }
        let weights = files.load(self.host)?;
        let computes = weights.to(self.device, self.precision)?;
        Ok((weights, computes))
    }

    /// The model that computes, of f32 weights that [`Place::load`] gave and that were changed since.
    pub(super) fn computing(&self, weights: &CausalLm) -> Result<CausalLm> {
        Ok(match self.precision {
            Precision::F32 => weights.clone(),
            precision => weights.to(self.device, precision)?,
        })
    }
}
