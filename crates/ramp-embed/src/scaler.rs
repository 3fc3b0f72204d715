//! Standardisation of the static slots (Eq. 13).

use serde::{Deserialize, Serialize};

use crate::{
    N_STATIC,
    error::{Error, Result},
    mode::FeatureMode,
    slot,
    table::FeatureTable,
};

/// The epsilon of Eq. 13.
const EPSILON: f32 = 1e-8;

/// A spread below this share of the mean is rounding, not a difference between layers.
const ROUNDING: f64 = 1e-6;

/// `(x - mean) / (std + 1e-8)` for each static slot (Eq. 13).
///
/// A slot that is the same in every layer has standard deviation 1, so that it becomes 0. The contextual slots
/// are not touched. Saved with a policy, a scaler carries the source model's statistics; fitted on the target it
/// is the per-model normalisation of Appendix A.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Fields", into = "Fields")]
pub struct Scaler {
    mean: [f32; N_STATIC],
    std: [f32; N_STATIC],
    mode: Option<FeatureMode>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    mean: [f32; N_STATIC],
    std: [f32; N_STATIC],
    mode: Option<FeatureMode>,
}

impl Scaler {
    /// Population mean and standard deviation over the layers of a table.
    ///
    /// In sound mode depth, layer type and position have mean 0 and standard deviation 1: they are comparable
    /// between models as they are. A table without layers gives the identity.
    #[must_use]
    pub fn fit(table: &FeatureTable) -> Self {
        let mut scaler = Self { mode: Some(table.mode()), ..Self::identity() };
        let rows = || (0..table.len()).map(|layer| table.raw(layer));
        for at in 0..N_STATIC {
            let shared = table.mode() == FeatureMode::Sound
                && matches!(at, slot::DEPTH | slot::LAYER_TYPE | slot::POSITION);
            if shared || table.is_empty() {
                continue;
            }
            let n = table.len() as f64;
            let mean = rows().map(|row| f64::from(row[at])).sum::<f64>() / n;
            let std = (rows().map(|row| (f64::from(row[at]) - mean).powi(2)).sum::<f64>() / n).sqrt();
            scaler.mean[at] = mean as f32;
            if std > ROUNDING * mean.abs() && std as f32 > 0.0 {
                scaler.std[at] = std as f32;
            }
        }
        scaler
    }

    /// Leaves every slot as it is.
    #[must_use]
    pub const fn identity() -> Self {
        Self { mean: [0.0; N_STATIC], std: [1.0; N_STATIC], mode: None }
    }

    /// Mean of each static slot.
    #[must_use]
    pub const fn mean(&self) -> &[f32; N_STATIC] {
        &self.mean
    }

    /// Standard deviation of each static slot.
    #[must_use]
    pub const fn std(&self) -> &[f32; N_STATIC] {
        &self.std
    }

    /// The mode of the table that the scaler was fitted on; `None` for the identity, which suits both.
    #[must_use]
    pub const fn mode(&self) -> Option<FeatureMode> {
        self.mode
    }

    /// Standardises the static slots of a layer.
    #[must_use]
    pub fn apply(&self, raw: &[f32; N_STATIC]) -> [f32; N_STATIC] {
        std::array::from_fn(|at| (raw[at] - self.mean[at]) / (self.std[at] + EPSILON))
    }
}

impl TryFrom<Fields> for Scaler {
    type Error = Error;

    fn try_from(Fields { mean, std, mode }: Fields) -> Result<Self> {
        for (at, (&mean, &std)) in mean.iter().zip(&std).enumerate() {
            if !(mean.is_finite() && std.is_finite() && std > 0.0) {
                let feature = mode.unwrap_or_default().names()[at];
                return Err(Error::Scaler { feature, mean, std });
            }
        }
        Ok(Self { mean, std, mode })
    }
}

impl From<Scaler> for Fields {
    fn from(Scaler { mean, std, mode }: Scaler) -> Self {
        Self { mean, std, mode }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_identity_changes_nothing() {
        let raw = [0.0, 8.0, 9.5, -4.5, 1e-3, 0.25, 1.0, -2.0, 3.0];
        assert_eq!(Scaler::identity().apply(&raw), raw);
        assert_eq!(Scaler::identity().mode(), None);
    }

    #[test]
    fn json_round_trips_and_broken_scalers_are_refused() {
        let scaler = Scaler { mean: [0.25; N_STATIC], std: [3.5; N_STATIC], mode: Some(FeatureMode::Sound) };
        let json = serde_json::to_string(&scaler).unwrap();
        assert_eq!(serde_json::from_str::<Scaler>(&json).unwrap(), scaler);
        let broken = json.replacen("3.5", "0.0", 1);
        let error = serde_json::from_str::<Scaler>(&broken).unwrap_err().to_string();
        assert!(error.contains("`depth` has 0.25 and 0"), "{error}");
    }
}
