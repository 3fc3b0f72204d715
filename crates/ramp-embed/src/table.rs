//! The static slots of every layer of a model.

use ramp_model::{CalibrationStats, CausalLm, ChannelStats, LayerId};
use serde::Serialize;

use crate::{
    N_FEATURES, N_STATIC,
    context::Context,
    error::{Error, Result},
    formulas::{self, ActScales, static_slots},
    mode::{DepthIndex, FeatureConfig, FeatureMode},
    scaler::Scaler,
    section32, slot,
    weight_stats::WeightStats,
};

/// The static slots of some layers, not yet normalised.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FeatureTable {
    mode: FeatureMode,
    layers: Vec<LayerId>,
    /// Static slots, by layer.
    raw: Vec<[f32; N_STATIC]>,
    saturated: Saturation,
}

/// How many layers have a slot at the clip of Table 24, where the slot says nothing but "large".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Saturation {
    /// Layers with a standard deviation of the weights of 0.1 or more.
    pub weight_std: usize,
    /// Layers with a mean weight magnitude of 0.1 or more.
    pub weight_mean_abs: usize,
    /// Layers with a mean activation scale of 0.01 or more.
    pub act_mean: usize,
    /// Layers with a largest activation of 0.001 or more.
    pub act_max: usize,
}

impl Saturation {
    /// Whether no slot of any layer is at its clip.
    #[must_use]
    pub fn is_none(self) -> bool {
        self == Self::default()
    }
}

impl FeatureTable {
    /// Computes the static slots of `layers`, in the order given. Weights are reduced in host memory, so that the
    /// numbers do not depend on the model's device. A [`FeatureMode`] alone stands for its usual [`FeatureConfig`].
    ///
    /// In [`FeatureMode::Paper`], layers whose slots are clipped are logged as a warning.
    ///
    /// # Errors
    /// When the model lacks a layer, a layer other than the embedding has no statistics or some of another width
    /// or of impossible values, a weight is NaN or infinite, or the device fails.
    pub fn extract(
        model: &CausalLm,
        stats: &CalibrationStats,
        layers: &[LayerId],
        config: impl Into<FeatureConfig>,
    ) -> Result<Self> {
        let FeatureConfig { mode, depth, clip_dims } = config.into();
        let last = layers.len().saturating_sub(1).max(1) as f64;
        let mut raw = Vec::with_capacity(layers.len());
        let mut saturated = Saturation::default();
        for (at, &id) in layers.iter().enumerate() {
            let depth = match depth {
                DepthIndex::Block => formulas::depth(model.config(), id),
                DepthIndex::Layer => at as f64 / last,
            };
            let weight = WeightStats::of(&model.weight_values(id)?);
            let act = activations(model, stats, id)?;
            let mut slots = match mode {
                FeatureMode::Section32 => section32::slots(model.config(), id, weight, act, depth),
                FeatureMode::Paper | FeatureMode::Sound => {
                    let scales = act.map(|act| ActScales::of(act, mode));
                    static_slots(model.config(), id, weight, scales, depth, mode)
                }
            };
            if clip_dims {
                mode.size_slots().into_iter().for_each(|at| slots[at] = slots[at].min(1.0));
            }
            if let Some(at) = slots.iter().position(|x| !x.is_finite()) {
                let (layer, feature) = (id.to_string(), mode.names()[at]);
                return Err(Error::NonFinite { layer, feature, value: slots[at] });
            }
            if mode == FeatureMode::Paper {
                saturated.count(&slots);
            }
            raw.push(slots);
        }
        fill_inputless(layers, &mut raw, mode);
        if !saturated.is_none() {
            tracing::warn!(
                layers = layers.len(),
                weight_std = saturated.weight_std,
                weight_mean_abs = saturated.weight_mean_abs,
                act_mean = saturated.act_mean,
                act_max = saturated.act_max,
                "features of these many layers are clipped to 1 by Table 24 and carry no information"
            );
        }
        Ok(Self { mode, layers: layers.to_vec(), raw, saturated })
    }

    /// How the slots were computed.
    #[must_use]
    pub const fn mode(&self) -> FeatureMode {
        self.mode
    }

    /// The layers, in the order they were given.
    #[must_use]
    pub fn layers(&self) -> &[LayerId] {
        &self.layers
    }

    /// Number of layers.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.layers.len()
    }

    /// Whether there are no layers.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.layers.is_empty()
    }

    /// The table with the features of layer `order[i]` in the place of layer `i`: a control that has the same numbers and
    /// no relation to the layers.
    ///
    /// # Panics
    /// When `order` is not one index for each layer.
    #[must_use]
    pub fn permuted(&self, order: &[usize]) -> Self {
        assert_eq!(order.len(), self.raw.len(), "one index for each layer");
        Self { raw: order.iter().map(|&at| self.raw[at]).collect(), ..self.clone() }
    }

    /// The static slots of layer `i` as computed, in the order of [`FeatureMode::names`].
    ///
    /// # Panics
    /// When there is no layer `i`.
    #[must_use]
    pub fn raw(&self, i: usize) -> &[f32; N_STATIC] {
        &self.raw[i]
    }

    /// The static slots of every layer after normalisation.
    #[must_use]
    pub fn normalised(&self, scaler: &Scaler) -> Vec<[f32; N_STATIC]> {
        self.raw.iter().map(|raw| scaler.apply(raw)).collect()
    }

    /// How many layers have clipped slots; none outside of [`FeatureMode::Paper`], which alone clips.
    #[must_use]
    pub const fn saturated(&self) -> Saturation {
        self.saturated
    }

    /// What the policy sees in front of layer `i`: normalised static slots, then the contextual ones.
    ///
    /// # Panics
    /// When there is no layer `i`.
    #[must_use]
    pub fn state(&self, i: usize, context: Context, scaler: &Scaler) -> [f32; N_FEATURES] {
        let mut state = [0.0; N_FEATURES];
        state[..N_STATIC].copy_from_slice(&scaler.apply(&self.raw[i]));
        state[N_STATIC..].copy_from_slice(&context.slots(self.mode));
        state
    }
}

impl Saturation {
    fn count(&mut self, slots: &[f32; N_STATIC]) {
        let clipped = |at: usize| usize::from(slots[at] >= 1.0);
        self.weight_std += clipped(slot::WEIGHT_STD);
        self.weight_mean_abs += clipped(slot::WEIGHT_MEAN_ABS);
        self.act_mean += clipped(slot::ACT_MEAN);
        self.act_max += clipped(slot::ACT_MAX);
    }
}

/// The statistics of a layer's input, checked; `None` for the embedding, which looks rows up.
pub(crate) fn activations<'s>(
    model: &CausalLm,
    stats: &'s CalibrationStats,
    id: LayerId,
) -> Result<Option<&'s ChannelStats>> {
    if id == LayerId::TokenEmbd {
        return Ok(None);
    }
    let layer = || id.to_string();
    let channels = stats.get(id).ok_or_else(|| Error::MissingStats { layer: layer() })?;
    let [_, expected] = model.config().shape(id);
    for values in [&channels.mean_abs, &channels.max_abs] {
        if values.len() != expected {
            return Err(Error::StatsWidth { layer: layer(), expected, found: values.len() });
        }
        if let Some(channel) = values.iter().position(|x| !(x.is_finite() && *x >= 0.0)) {
            return Err(Error::StatsValue { layer: layer(), channel, value: values[channel] });
        }
    }
    Ok(Some(channels))
}

/// Gives the embedding the mean activation slots of the other layers: the value that says nothing, 0 after
/// normalisation. Without other layers it keeps 0.
fn fill_inputless(layers: &[LayerId], raw: &mut [[f32; N_STATIC]], mode: FeatureMode) {
    for at in mode.activation_slots() {
        let known = || layers.iter().zip(raw.iter()).filter(|(id, _)| **id != LayerId::TokenEmbd);
        let sum: f64 = known().map(|(_, slots)| f64::from(slots[at])).sum();
        let neutral = (sum / known().count().max(1) as f64) as f32;
        for (id, slots) in layers.iter().zip(raw.iter_mut()) {
            if *id == LayerId::TokenEmbd {
                slots[at] = neutral;
            }
        }
    }
}

#[cfg(test)]
mod tests;
