//! The codes of the file, learned after the search.

use std::collections::BTreeMap;

use ramp_eval::Windows;
use ramp_gguf::GgmlType;
use ramp_model::{CausalLm, LayerId, TensorTypes};
use ramp_quant::{
    Format, LayerQuantizer, LearnConfig, LearnStart, LearnedBlock, LearnedLayer, learn_rounding,
};

use super::run::{Step, StepFn};
use crate::error::Result;

/// What was learned.
#[derive(Debug, Default)]
pub(super) struct Learned {
    /// Stored bytes of each matrix of the blocks.
    pub(super) bytes: BTreeMap<LayerId, Vec<u8>>,
    /// How far each block came.
    pub(super) blocks: Vec<LearnedBlock>,
}

impl Learned {
    /// Learns the codes of the blocks' matrices in these types, from those that `quantizer` gives on. `model` has the f32 weights,
    /// `computing` is the same model where it computes.
    pub(super) fn new(
        model: &CausalLm,
        computing: &CausalLm,
        types: &TensorTypes,
        quantizer: &mut LayerQuantizer<'_>,
        windows: &Windows,
        config: &LearnConfig,
        progress: &mut StepFn<'_>,
    ) -> Result<Self> {
        let mut learned = Self::default();
        let start = |id: LayerId| {
            let (weight, shape) = (model.weight_data(id)?, model.config().shape(id));
            // Nothing is learned of a matrix that is in no block's allocation: it stays as it is.
            let format = types.get(&id).map_or(Format::Ggml(GgmlType::F32), |&ty| ty.into());
            let quantized = quantizer.quantize(id, &weight, shape, format)?;
            Ok(LearnStart { weight, format, quantized })
        };
        let mut keep = |LearnedLayer { id, quantized, .. }: LearnedLayer| {
            learned.bytes.insert(id, quantized.bytes);
        };
        learned.blocks = learn_rounding(
            &mut computing.clone(),
            &windows.tokens(),
            config,
            start,
            &mut keep,
            |done, total| progress(Step { name: "learn", done, total, unit: "matrices", best_kld: None }),
        )?;
        Ok(learned)
    }
}
