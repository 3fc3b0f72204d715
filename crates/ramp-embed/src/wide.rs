//! Features without the paper's limit of eleven: what an allocation problem says about a layer, in numbers that mean the
//! same in every model.

use ramp_model::{CalibrationStats, CausalLm, LayerId, Role};
use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    formulas::{depth, ln},
    table::activations,
    weight_stats::WeightStats,
};

/// Names of the features in front of those of the formats.
const MEASURED: [&str; 8] = [
    "ln_weight_std",
    "ln_weight_mean_abs",
    "ln_weight_kurtosis",
    "ln_act_mean",
    "ln_act_peak",
    "ln_in",
    "ln_out",
    "ln_size_share",
];

/// Features that depend on what was chosen so far.
const CONTEXT: usize = 4;

/// Classes of a layer: the roles, the embedding and the head.
const CLASSES: usize = Role::ALL.len() + 2;

/// Static features of some layers.
///
/// A state is, in this order: depth; class, one-hot (a scalar would put unrelated roles in an order); logarithms of
/// weight statistics, of activations and of sizes; one relative output error for each format, as a logarithm, which is
/// what sensitivity is made of; and the context of [`WideContext`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WideTable {
    layers: Vec<LayerId>,
    names: Vec<String>,
    /// By layer.
    raw: Vec<Vec<f32>>,
}

/// Where a walk over the layers is, and what the budget still allows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WideContext {
    /// Bits per weight of the layer before; `None` in front of the first.
    pub prev_bits: Option<f64>,
    /// Mean bits per weight of all weights before; `None` in front of the first layer.
    pub avg_bits: Option<f64>,
    /// Bits that the budget leaves for each weight of this layer and those behind it.
    pub remaining_bits: f64,
    /// Fewest and most bits per weight of the action set.
    pub range: [f64; 2],
    /// Mean bits per weight that the budget allows.
    pub target_bits: f64,
}

impl WideTable {
    /// Computes the static features of `layers`, in the order given. `errors` has for each layer the relative output
    /// error ‖(W - Ŵ) x‖² / ‖W x‖² of each of `formats`, however it was estimated.
    ///
    /// # Errors
    /// As [`FeatureTable::extract`](crate::FeatureTable::extract); [`Error::FormatErrors`] if `errors` has not one number
    /// for each layer and format, or one that is negative or no number.
    pub fn extract(
        model: &CausalLm,
        stats: &CalibrationStats,
        layers: &[LayerId],
        formats: &[String],
        errors: &[Vec<f64>],
    ) -> Result<Self> {
        check_errors(layers, formats, errors)?;
        let size =
            |id: LayerId| -> f64 { model.config().shape(id).iter().map(|&axis| axis as f64).product() };
        let total: f64 = layers.iter().map(|&id| size(id)).sum();
        let mut raw = Vec::with_capacity(layers.len());
        for (&id, errors) in layers.iter().zip(errors) {
            let values = model.weight_values(id)?;
            let weight = WeightStats::of(&values);
            let kurtosis = weight.kurtosis(&values);
            let [act_mean, act_peak] = activations(model, stats, id)?.map_or([0.0; 2], |act| {
                let mean =
                    act.mean_abs.iter().map(|&x| f64::from(x)).sum::<f64>() / act.mean_abs.len() as f64;
                let max = act.max_abs.iter().copied().fold(0.0, f32::max);
                [ln(mean), ln(f64::from(max)) - ln(mean)]
            });
            let [out, inp] = model.config().shape(id).map(|axis| axis as f64);
            let mut row = vec![depth(model.config(), id)];
            row.extend((0..CLASSES).map(|class| f64::from(u8::from(class == class_of(id)))));
            // A share of 1 / layers is 0: models with more layers have smaller shares.
            let share = (size(id) / total * layers.len() as f64).ln();
            row.extend([ln(weight.std), ln(weight.mean_abs), ln(kurtosis), act_mean, act_peak]);
            row.extend([inp.ln(), out.ln(), share]);
            row.extend(errors.iter().map(|&error| ln(error)));
            raw.push(row.into_iter().map(|x| x as f32).collect::<Vec<f32>>());
        }
        let table = Self { layers: layers.to_vec(), names: names(formats), raw };
        table.check_finite()?;
        Ok(table)
    }

    /// The layers, in the order they were given.
    #[must_use]
    pub fn layers(&self) -> &[LayerId] {
        &self.layers
    }

    /// Names of the static features.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Length of a state: static features and context.
    #[must_use]
    pub fn state_len(&self) -> usize {
        self.names.len() + CONTEXT
    }

    /// The static features of layer `i` as computed, in the order of [`names`](Self::names).
    ///
    /// # Panics
    /// When there is no layer `i`.
    #[must_use]
    pub fn raw(&self, i: usize) -> &[f32] {
        &self.raw[i]
    }

    /// The table with the features of layer `order[i]` in the place of layer `i`: a control that has the same numbers and
    /// no relation to the layers.
    ///
    /// # Panics
    /// When `order` is not one index for each layer.
    #[must_use]
    pub fn permuted(&self, order: &[usize]) -> Self {
        assert_eq!(order.len(), self.raw.len(), "one index for each layer");
        Self { raw: order.iter().map(|&at| self.raw[at].clone()).collect(), ..self.clone() }
    }

    /// What a policy sees in front of layer `i`.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if the scaler is of other features.
    ///
    /// # Panics
    /// When there is no layer `i`.
    pub fn state(&self, i: usize, context: WideContext, scaler: &WideScaler) -> Result<Vec<f32>> {
        if scaler.names != self.names {
            let (left, right) = (scaler.names.join(", "), self.names.join(", "));
            return Err(Error::Mismatch { left, right });
        }
        let scaled = self.raw[i].iter().zip(scaler.mean.iter().zip(&scaler.std));
        let mut state: Vec<f32> = scaled.map(|(x, (mean, std))| (x - mean) / std).collect();
        state.extend(context.slots());
        Ok(state)
    }

    fn check_finite(&self) -> Result<()> {
        for (layer, row) in self.layers.iter().zip(&self.raw) {
            if let Some(at) = row.iter().position(|x| !x.is_finite()) {
                let feature =
                    MEASURED.get((at).saturating_sub(1 + CLASSES)).copied().unwrap_or("format error");
                return Err(Error::NonFinite { layer: layer.to_string(), feature, value: row[at] });
            }
        }
        Ok(())
    }
}

impl WideContext {
    /// Previous, mean and remaining bits on the range of the action set, and whether there is a layer before. The
    /// target stands in for what is not known.
    fn slots(self) -> [f32; CONTEXT] {
        let [min, max] = self.range;
        let place = |bits: f64| if max > min { (bits - min) / (max - min) } else { 0.0 };
        let known = |bits: Option<f64>| place(bits.unwrap_or(self.target_bits));
        let first = f64::from(u8::from(self.prev_bits.is_none()));
        [known(self.prev_bits), known(self.avg_bits), place(self.remaining_bits), first].map(|x| x as f32)
    }
}

/// Means and standard deviations of the static features. Depth and class stay as they are: they are comparable between
/// models. Fitted on the target it makes scales relative to the model's own; taken from the source, with the policy, it
/// keeps what the policy saw.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WideScaler {
    names: Vec<String>,
    mean: Vec<f32>,
    std: Vec<f32>,
}

impl WideScaler {
    /// Population mean and standard deviation over the layers of a table; 0 and 1 where all layers are the same.
    #[must_use]
    pub fn fit(table: &WideTable) -> Self {
        let width = table.names.len();
        let mut scaler = Self { names: table.names.clone(), mean: vec![0.0; width], std: vec![1.0; width] };
        let n = table.raw.len() as f64;
        for at in 1 + CLASSES..width {
            let column = || table.raw.iter().map(|row| f64::from(row[at]));
            let mean = column().sum::<f64>() / n.max(1.0);
            let std = (column().map(|x| (x - mean).powi(2)).sum::<f64>() / n.max(1.0)).sqrt();
            scaler.mean[at] = mean as f32;
            // A spread below this is rounding.
            if std > 1e-6 * mean.abs().max(1e-3) {
                scaler.std[at] = std as f32;
            }
        }
        scaler
    }

    /// Checks a scaler that was read from a file.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if its columns differ in length; [`Error::Scaler`] if a number cannot scale.
    pub fn validate(&self) -> Result<()> {
        let [names, mean, std] = [self.names.len(), self.mean.len(), self.std.len()];
        if names != mean || names != std {
            return Err(Error::Mismatch {
                left: format!("{names} names"),
                right: format!("{mean} means and {std} deviations"),
            });
        }
        for (&mean, &std) in self.mean.iter().zip(&self.std) {
            if !(mean.is_finite() && std.is_finite() && std > 0.0) {
                return Err(Error::Scaler { feature: "of a wide state", mean, std });
            }
        }
        Ok(())
    }

    /// Names of the features.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }
}

fn names(formats: &[String]) -> Vec<String> {
    let roles = Role::ALL.iter().map(|role| format!("is_{role:?}").to_lowercase());
    let classes = roles.chain(["is_token_embd".to_owned(), "is_output".to_owned()]);
    let measured = MEASURED.iter().map(|&name| name.to_owned());
    let errors = formats.iter().map(|format| format!("ln_error_{format}"));
    std::iter::once("depth".to_owned()).chain(classes).chain(measured).chain(errors).collect()
}

fn class_of(id: LayerId) -> usize {
    let outside = if id == LayerId::TokenEmbd { 0 } else { 1 };
    id.role().and_then(|role| Role::ALL.iter().position(|&r| r == role)).unwrap_or(Role::ALL.len() + outside)
}

fn check_errors(layers: &[LayerId], formats: &[String], errors: &[Vec<f64>]) -> Result<()> {
    let wrong =
        |what: String, found: f64, expected: String| Err(Error::FormatErrors { what, found, expected });
    if errors.len() != layers.len() {
        return wrong("layers".into(), errors.len() as f64, layers.len().to_string());
    }
    for (layer, row) in layers.iter().zip(errors) {
        if row.len() != formats.len() {
            return wrong(format!("formats of `{layer}`"), row.len() as f64, formats.len().to_string());
        }
        for (format, &error) in formats.iter().zip(row) {
            // Not `<`: a NaN must fail.
            let fits = error >= 0.0 && error.is_finite();
            if !fits {
                return wrong(format!("`{layer}` in {format}"), error, "finite and not negative".into());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "wide_tests.rs"]
mod tests;
