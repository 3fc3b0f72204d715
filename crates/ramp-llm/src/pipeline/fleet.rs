//! More devices than one for a search.

use burn::tensor::Device;
use ramp_model::CausalLm;
use ramp_search::{Evaluator, Problem, Replica, WeightBank};

use crate::error::Result;

/// A device and what a user calls it.
#[derive(Clone, Debug)]
pub struct NamedDevice {
    /// Such as `cuda:1`.
    pub name: String,
    /// The device.
    pub device: Device,
}

/// Copies of what computes on the other devices. One that fails already is left out, with a warning.
pub(super) fn replicas(
    others: &[NamedDevice],
    model: &CausalLm,
    bank: &WeightBank,
    problem: &Problem,
    warnings: &mut Vec<String>,
) -> Result<Vec<Replica>> {
    let mut replicas = Vec::new();
    for NamedDevice { name, device } in others {
        match Replica::new(name, device, model, bank, problem) {
            Ok(replica) => replicas.push(replica),
            Err(error) if error.is_device() => {
                tracing::warn!(device = name, %error, "a device is not used");
                warnings.push(format!("device {name} was not used: {error}"));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(replicas)
}

/// What a user must know of the devices that failed in a search.
pub(super) fn lost(evaluator: &Evaluator<'_>) -> Vec<String> {
    evaluator.lost().iter().map(|lost| format!("{lost}; its parts were evaluated on the others")).collect()
}
