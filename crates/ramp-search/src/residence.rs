//! Where the weights of a bank are kept: decoded or packed on the device, or packed in host memory.

use std::sync::Arc;

use burn::tensor::Tensor;
use ramp_model::{LayerId, PackedMatrix, Placement};
use ramp_quant::{Format, Quantized, dequantize};
use serde::Serialize;

use crate::{
    error::{Error, Result},
    problem::Problem,
};

/// The share of a device's memory that activations and the evaluator's streams are left, besides one allocation's decoded
/// matrices.
const WORKING_SHARE: u64 = 8;

/// Where a matrix in a format is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// On the device, as it is computed with.
    Decoded,
    /// On the device, as it is stored in a file, and decoded there.
    Packed,
    /// In host memory, as it is stored in a file, and moved to the device when it is needed.
    Staged,
}

/// Bytes of a bank by where they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Residence {
    /// On the device, decoded.
    pub decoded: u64,
    /// On the device, packed.
    pub packed: u64,
    /// In host memory, packed.
    pub staged: u64,
}

impl Residence {
    pub(crate) const fn add(&mut self, place: Place, decoded: u64, packed: u64) {
        match place {
            Place::Decoded => self.decoded += decoded,
            Place::Packed => self.packed += packed,
            Place::Staged => self.staged += packed,
        }
    }
}

/// Weights in their place.
#[derive(Debug)]
pub(crate) enum Kept {
    Decoded(Tensor<2>),
    Packed(PackedMatrix),
    /// The bytes are shared by the banks of all devices.
    Staged {
        bytes: Arc<Vec<u8>>,
        format: Format,
        id: LayerId,
        shape: [usize; 2],
        placement: Placement,
    },
}

impl Kept {
    pub(crate) fn new(
        place: Place,
        quantized: Quantized,
        format: Format,
        id: LayerId,
        shape: [usize; 2],
        placement: &Placement,
    ) -> Self {
        let Quantized { bytes, dequantized } = quantized;
        match (place, format) {
            (Place::Packed, Format::Ggml(ty)) => match placement.place_packed(id, ty, bytes, shape) {
                Some(packed) => Self::Packed(packed),
                None => Self::Decoded(placement.place(id, dequantized, shape)),
            },
            (Place::Staged, _) => {
                Self::Staged { bytes: Arc::new(bytes), format, id, shape, placement: placement.clone() }
            }
            (Place::Decoded | Place::Packed, _) => Self::Decoded(placement.place(id, dequantized, shape)),
        }
    }

    /// The same weights for another device, in the place that is meant for them there; decoded where their bytes are not
    /// kept. `format` is that of packed ones. With the place that they got.
    pub(crate) fn copy(
        &self,
        place: Place,
        format: Format,
        id: LayerId,
        shape: [usize; 2],
        placement: &Placement,
    ) -> Result<(Self, Place)> {
        let (bytes, format) = match self {
            Self::Decoded(weight) => {
                return Ok((Self::Decoded(placement.copy(id, weight)?), Place::Decoded));
            }
            Self::Packed(packed) => (Arc::new(packed.bytes()?), format),
            Self::Staged { bytes, format, .. } => (bytes.clone(), *format),
        };
        let packed = match (place, format) {
            (Place::Staged, _) => {
                return Ok((Self::Staged { bytes, format, id, shape, placement: placement.clone() }, place));
            }
            (Place::Packed, Format::Ggml(ty)) => placement.place_packed(id, ty, bytes.to_vec(), shape),
            (Place::Decoded | Place::Packed, _) => None,
        };
        Ok(match packed {
            Some(packed) => (Self::Packed(packed), Place::Packed),
            None => {
                let weight = placement.place(id, dequantize(&bytes, shape, format)?, shape);
                (Self::Decoded(weight), Place::Decoded)
            }
        })
    }

    /// The bytes of the file, where they are kept.
    pub(crate) fn bytes(&self) -> Result<Option<Vec<u8>>> {
        match self {
            Self::Decoded(_) => Ok(None),
            Self::Packed(packed) => Ok(Some(packed.bytes()?)),
            Self::Staged { bytes, .. } => Ok(Some(bytes.to_vec())),
        }
    }

    /// The weights on the device, `[out, in]`.
    pub(crate) fn weight(&self) -> Result<Tensor<2>> {
        Ok(match self {
            Self::Decoded(weight) => weight.clone(),
            Self::Packed(packed) => packed.decode(),
            Self::Staged { bytes, format, id, shape, placement } => {
                let packed = match format {
                    Format::Ggml(ty) if placement.decodes(*ty) => {
                        placement.place_packed(*id, *ty, bytes.to_vec(), *shape)
                    }
                    _ => None,
                };
                match packed {
                    Some(packed) => packed.decode(),
                    None => placement.place(*id, dequantize(bytes, *shape, *format)?, *shape),
                }
            }
        })
    }
}

/// The places of all wanted choices, `[slot][choice]`, in a device of which `room` bytes of `total` are free: as many on the
/// device as fit beside what an evaluation needs, packed where the device can decode. Without a limit all are decoded.
pub(crate) fn plan(
    problem: &Problem,
    wanted: impl Fn(usize, usize) -> bool,
    placement: &Placement,
    memory: Option<(u64, u64)>,
) -> Result<Vec<Vec<Place>>> {
    let Some((free, total)) = memory else {
        return Ok(problem.slots().iter().map(|slot| vec![Place::Decoded; slot.choices.len()]).collect());
    };
    let decoded = |slot: usize| {
        let slot = &problem.slots()[slot];
        slot.weights * placement.weight_bytes(slot.id) as u64
    };
    let one_allocation: u64 = (0..problem.slots().len()).map(decoded).sum();
    let working = one_allocation + total / WORKING_SHARE;
    let mut room = free.checked_sub(working).ok_or(Error::DeviceMemory {
        needed: working,
        free,
        missing: working.saturating_sub(free),
    })?;
    let places = problem.slots().iter().enumerate().map(|(index, slot)| {
        let choices = slot.choices.iter().enumerate().map(|(choice, option)| {
            let packs = matches!(option.format, Format::Ggml(ty) if placement.decodes(ty));
            let (place, bytes) =
                if packs { (Place::Packed, option.bytes) } else { (Place::Decoded, decoded(index)) };
            if !wanted(index, choice) {
                return place;
            }
            match room.checked_sub(bytes) {
                Some(left) => {
                    room = left;
                    place
                }
                None => Place::Staged,
            }
        });
        choices.collect()
    });
    Ok(places.collect())
}

#[cfg(test)]
mod tests {
    use ramp_quant::Rounding;

    use super::*;
    use crate::{WeightBank, bank::Encoding, mode::SearchCodec, test_bench::Bench};

    #[test]
    fn what_does_not_fit_is_staged_and_what_never_fits_is_refused() {
        let Bench { model, problem, .. } = Bench::nano();
        let placement = model.placement();
        let all: u64 = problem.slots().iter().map(|slot| 4 * slot.weights).sum();
        let count = |memory: Option<(u64, u64)>| -> usize {
            let places = plan(problem, |_, _| true, &placement, memory).unwrap();
            places.iter().flatten().filter(|place| **place == Place::Staged).count()
        };
        let choices = problem.slots()[0].choices.len() as u64;
        assert_eq!(count(None), 0);
        assert_eq!(count(Some((all * (choices + 1), 0))), 0);
        let some = count(Some((all * (choices + 1) - 1, 0)));
        assert_eq!(some, 1);
        // Nothing but the working set.
        assert_eq!(count(Some((all, 0))), problem.slots().len() * choices as usize);
        let error = plan(problem, |_, _| true, &placement, Some((all - 7, 0))).unwrap_err();
        assert!(matches!(error, Error::DeviceMemory { missing: 7, .. }), "{error}");
        assert!(error.to_string().contains("missing"), "{error}");
    }

    #[test]
    fn staged_weights_are_those_of_a_bank_without_limits() {
        let bench = Bench::nano();
        let Bench { model, stats, problem, .. } = bench;
        let all: u64 = problem.slots().iter().map(|slot| 4 * slot.weights).sum();
        let staged = WeightBank::build_where(
            model.into(),
            stats,
            problem,
            Encoding { rounding: Rounding::Nearest, codec: SearchCodec::Export },
            |_, _| true,
            Some((all + 4 * problem.slots()[0].weights, 0)),
            &mut |_| true,
        )
        .unwrap();
        let Residence { decoded, packed, staged: on_host } = staged.residence();
        assert_eq!((decoded, packed), (4 * problem.slots()[0].weights, 0));
        let of_files: u64 = problem.slots().iter().flat_map(|slot| &slot.choices).map(|c| c.bytes).sum();
        assert_eq!(on_host, of_files - problem.slots()[0].choices[0].bytes);
        let evaluator = bench.evaluator();
        for (slot, choice) in [(0, 0), (0, 1), (3, 2), (problem.slots().len() - 1, 0)] {
            let [a, b] = [&staged, evaluator.bank()]
                .map(|bank| bank.weight(slot, choice).unwrap().try_into_vec_as::<f32>().unwrap());
            assert_eq!(a, b, "{slot} {choice}");
            let shape = [a.len() / problem.slots()[slot].columns, problem.slots()[slot].columns];
            let format = problem.slots()[slot].choices[choice].format;
            let Some(bytes) = staged.bytes(slot, choice).unwrap() else {
                // The first is decoded on the device.
                assert_eq!((slot, choice), (0, 0));
                continue;
            };
            assert_eq!(dequantize(&bytes, shape, format).unwrap(), a);
        }
    }
}
