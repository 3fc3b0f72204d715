//! A model and its bank on one more device.

use std::sync::Arc;

use burn::tensor::Device;
use ramp_model::CausalLm;

use super::guard::guarded;
use crate::{
    bank::WeightBank,
    error::{Error, Result},
    problem::Problem,
    residence::Residence,
};

/// One more device that allocations are evaluated on, with copies of the model and of the bank.
#[derive(Clone, Debug)]
pub struct Replica {
    pub(crate) name: String,
    pub(crate) model: CausalLm,
    pub(crate) bank: Arc<WeightBank>,
}

impl Replica {
    /// Copies the model that computes, and its bank, to a device. Nothing is encoded again; weights travel through host
    /// memory. What the device's memory does not hold of the bank stays in host memory, as in [`WeightBank::build`].
    ///
    /// # Errors
    /// When the device fails or has not the memory for a single allocation: [`Error::is_device`] tells.
    pub fn new(
        name: &str,
        device: &Device,
        model: &CausalLm,
        bank: &WeightBank,
        problem: &Problem,
    ) -> Result<Self> {
        let copy = || -> Result<Self> {
            let model = model.to(device, model.precision())?;
            let bank = Arc::new(bank.copy(problem, &model.placement())?);
            Ok(Self { name: name.to_owned(), model, bank })
        };
        // A remote device panics where it cannot be reached any more.
        guarded(copy).unwrap_or_else(|why| Err(Error::DevicesLost { name: name.to_owned(), why }))
    }

    /// The device's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where the weights of the copied bank are.
    #[must_use]
    pub fn residence(&self) -> Residence {
        self.bank.residence()
    }
}
