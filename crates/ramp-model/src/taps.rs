//! Activation statistics at the input of every linear layer, gathered in one calibration pass.

use std::{collections::BTreeMap, sync::Arc};

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::{
    calibration::{Calibration, Gather},
    error::Result,
    gram::Gram,
    layer::LayerId,
    model::CausalLm,
};

/// Sees the input of linear layers during a forward pass.
pub trait Tap {
    /// `input`, `[rows, in]`, is about to be multiplied by each of `layers`.
    ///
    /// # Errors
    /// Whatever stops the forward pass.
    fn observe(&mut self, layers: &[LayerId], input: &Tensor<2>) -> Result<()>;
}

/// Sees nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoTap;

impl Tap for NoTap {
    fn observe(&mut self, _layers: &[LayerId], _input: &Tensor<2>) -> Result<()> {
        Ok(())
    }
}

/// Statistics of one layer's input, per input channel.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ChannelStats {
    /// Mean of |x|, `[in]`.
    pub mean_abs: Vec<f32>,
    /// Largest |x|, `[in]`.
    pub max_abs: Vec<f32>,
    /// Sum of x² over all tokens, `[in]`.
    pub sum_sq: Vec<f64>,
    /// Tokens seen.
    pub count: u64,
}

impl ChannelStats {
    /// Mean of x², `[in]`: what an imatrix gives the codec for each column.
    #[must_use]
    pub fn mean_sq(&self) -> Vec<f32> {
        self.sum_sq.iter().map(|sum| (sum / self.count.max(1) as f64) as f32).collect()
    }

    /// The statistics of `x * scale`, where the layer's input is multiplied channel by channel.
    #[must_use]
    pub fn scaled(&self, scale: &[f32]) -> Self {
        let times = |xs: &[f32]| xs.iter().zip(scale).map(|(x, s)| x * s.abs()).collect();
        let square = |s: &f32| f64::from(*s) * f64::from(*s);
        Self {
            mean_abs: times(&self.mean_abs),
            max_abs: times(&self.max_abs),
            sum_sq: self.sum_sq.iter().zip(scale).map(|(x, s)| x * square(s)).collect(),
            count: self.count,
        }
    }
}

/// Statistics of every linear layer's input. One pass feeds the features, the folding and the imatrix.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CalibrationStats {
    layers: BTreeMap<LayerId, ChannelStats>,
    /// Layers with the same input share one matrix. Not serialized: it is large, and gathered in one pass.
    #[serde(skip)]
    grams: BTreeMap<LayerId, Arc<Gram>>,
}

impl CalibrationStats {
    /// Runs the model over `windows` and gathers the statistics. The head's input is gathered, too; the
    /// embedding has no input. `progress` is told the tokens done and may stop the pass by returning `false`.
    ///
    /// # Errors
    /// When a window is empty or holds a token that the model does not have, when the device fails, or
    /// [`Error::Interrupted`](crate::Error::Interrupted) when `progress` says so.
    pub fn collect(
        model: &CausalLm,
        windows: &[&[u32]],
        progress: impl FnMut(usize) -> bool,
    ) -> Result<Self> {
        Self::gather(model, windows, Gather::default(), progress)
    }

    /// As [`CalibrationStats::collect`], with a choice of what is gathered. [`Calibration`] is the pass that can stop
    /// and go on.
    ///
    /// # Errors
    /// As [`CalibrationStats::collect`].
    pub fn gather(
        model: &CausalLm,
        windows: &[&[u32]],
        what: Gather,
        progress: impl FnMut(usize) -> bool,
    ) -> Result<Self> {
        let mut pass = Calibration::new(model, windows, what);
        pass.run(None, progress)?;
        Ok(pass.finish())
    }

    pub(crate) const fn from_parts(
        layers: BTreeMap<LayerId, ChannelStats>,
        grams: BTreeMap<LayerId, Arc<Gram>>,
    ) -> Self {
        Self { layers, grams }
    }

    /// The statistics of a layer's input; `None` for the embedding, which has none.
    #[must_use]
    pub fn get(&self, id: LayerId) -> Option<&ChannelStats> {
        self.layers.get(&id)
    }

    /// The Gram matrix of a layer's input, where it was gathered.
    #[must_use]
    pub fn gram(&self, id: LayerId) -> Option<&Arc<Gram>> {
        self.grams.get(&id)
    }

    /// Transforms the statistics of layers that share one input, after that input was multiplied channel by
    /// channel with `scale`. Layers without statistics are left alone.
    pub fn scale_input(&mut self, layers: &[LayerId], scale: &[f32]) {
        let mut gram: Option<Arc<Gram>> = None;
        for id in layers {
            if let Some(stats) = self.layers.get_mut(id) {
                *stats = stats.scaled(scale);
            }
            if let Some(old) = self.grams.get_mut(id) {
                *old = gram.get_or_insert_with(|| Arc::new(old.scaled(scale))).clone();
            }
        }
    }

    /// Replaces the statistics of a layer, after a transform that is known exactly (folding).
    pub fn insert(&mut self, id: LayerId, stats: ChannelStats) {
        self.layers.insert(id, stats);
    }

    /// All layers with statistics, in execution order.
    pub fn iter(&self) -> impl Iterator<Item = (LayerId, &ChannelStats)> {
        self.layers.iter().map(|(id, stats)| (*id, stats))
    }

    /// Mean of x² per input channel of a layer: the imatrix of that layer.
    #[must_use]
    pub fn imatrix(&self, id: LayerId) -> Option<Vec<f32>> {
        self.get(id).map(ChannelStats::mean_sq)
    }
}
