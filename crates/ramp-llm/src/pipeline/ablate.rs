//! What folding is worth: every way of folding under several types.

use std::path::PathBuf;

use burn::tensor::{Device, Tensor, TensorData};
use ramp_eval::{Comparison, PairedTest, WindowLosses, Windows, compare_by_window};
use ramp_gguf::{GgmlType, mix::LlamaFtype};
use ramp_model::{CalibrationStats, CausalLm, ModelFiles, TensorTypes};
use ramp_quant::{ActStatistic, Allocation, FoldConfig, Format, LayerQuantizer, Rounding, fold};
use ramp_search::LlamaCppMix;
use serde::Serialize;

use super::{
    compare::TextOptions,
    run::{Step, StepFn, calibrate, needs_gram},
};
use crate::error::Result;

/// What is tried.
#[derive(Clone, Debug)]
pub struct AblateOptions {
    /// Hugging Face folder or GGUF file.
    pub model: PathBuf,
    /// What calibrates and what measures.
    pub texts: TextOptions,
    /// How codes are chosen.
    pub rounding: Rounding,
    /// Where the model runs.
    pub device: Device,
}

/// Types of the blocks' matrices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum BlockTypes {
    /// Q3_K everywhere.
    #[serde(rename = "Q3_K")]
    Q3K,
    /// Q4_K everywhere.
    #[serde(rename = "Q4_K")]
    Q4K,
    /// Those of llama-quantize's Q3_K_M, with an imatrix.
    #[serde(rename = "Q3_K_M mix")]
    Mixed,
}

impl BlockTypes {
    /// All.
    pub const ALL: [Self; 3] = [Self::Q3K, Self::Q4K, Self::Mixed];

    /// The name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Q3K => "Q3_K",
            Self::Q4K => "Q4_K",
            Self::Mixed => "Q3_K_M mix",
        }
    }

    /// The type that exponents are chosen for.
    const fn base(self) -> GgmlType {
        match self {
            Self::Q3K | Self::Mixed => GgmlType::Q3_K,
            Self::Q4K => GgmlType::Q4_K,
        }
    }

    fn types(self, model: &CausalLm) -> Result<TensorTypes> {
        let config = model.config();
        let mut types = Allocation::uniform(config, Format::Ggml(self.base())).tensor_types()?;
        if self == Self::Mixed {
            types = LlamaCppMix { config: config.clone() }.types(LlamaFtype::Q3_K_M)?;
        }
        // The embedding and the head have no site; leaving them out shows more of what folding does.
        types.retain(|id, _| id.block().is_some());
        Ok(types)
    }
}

/// The ways of folding, with their names. The first is none.
fn ways(ty: GgmlType) -> Vec<(&'static str, Option<FoldConfig>)> {
    let paper = FoldConfig::paper();
    let mean = FoldConfig { statistic: ActStatistic::MeanAbs, ..paper };
    let chosen = FoldConfig::chosen(ty);
    vec![
        ("off", None),
        ("as printed (max, 1/2)", Some(paper)),
        ("mean, 1/2", Some(mean)),
        ("mean, 1/4", Some(FoldConfig { exponent: 0.25, ..mean })),
        ("rms, 1/2", Some(FoldConfig { statistic: ActStatistic::Rms, ..paper })),
        ("mean, 1/2, o and down, too", Some(FoldConfig { o: true, down: true, ..mean })),
        ("chosen, norms only", Some(FoldConfig { o: false, down: false, ..chosen })),
        ("chosen, o and down only", Some(FoldConfig::sound(ty))),
        ("chosen, all four", Some(chosen)),
    ]
}

/// One way of folding under some types.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Ablated {
    /// The types.
    pub types: BlockTypes,
    /// The way's name.
    pub folding: &'static str,
    /// The way; `None` is no folding.
    pub config: Option<FoldConfig>,
    /// Mean exponent over all sites.
    pub mean_exponent: Option<f64>,
    /// Against the unquantized model.
    pub against_base: Comparison,
    /// `ln PPL - ln PPL(off)`, and whether that is more than chance; `None` for off itself, and with one window.
    pub against_off: Option<(f64, PairedTest)>,
}

/// Folds, quantizes the blocks' matrices and measures, for every way and types.
///
/// # Errors
/// When the model or a text cannot be used, a step fails, or `progress` stops the run.
pub fn ablate_folding(options: &AblateOptions, progress: &mut StepFn<'_>) -> Result<Vec<Ablated>> {
    let files = ModelFiles::open(&options.model)?;
    let ctx = options.texts.ctx.min(files.config().max_position_embeddings);
    let (calibration, windows) = options.texts.windows(&files.tokenizer()?, ctx)?;
    let base = files.load(&options.device)?;
    let stats = calibrate(&base, &calibration, needs_gram(options.rounding), None, progress)?;
    let mut rows = Vec::new();
    for types in BlockTypes::ALL {
        let chosen = types.types(&base)?;
        let mut off: Option<WindowLosses> = None;
        for (folding, config) in ways(types.base()) {
            let (mut model, mut stats) = (base.clone(), stats.clone());
            let mean_exponent = match &config {
                Some(config) => {
                    let report = fold(&mut model, &mut stats, config)?;
                    let exponents: Vec<f64> = report
                        .blocks
                        .iter()
                        .flat_map(|block| block.exponents.into_iter().flatten())
                        .collect();
                    Some(exponents.iter().sum::<f64>() / exponents.len().max(1) as f64)
                }
                None => None,
            };
            quantize_all(&mut model, &stats, &chosen, options.rounding)?;
            let (against_base, losses) = measure(&model, &base, &windows, progress)?;
            let against_off = off.as_ref().and_then(|off| losses.against(off));
            off.get_or_insert(losses);
            rows.push(Ablated { types, folding, config, mean_exponent, against_base, against_off });
        }
    }
    Ok(rows)
}

fn measure(
    model: &CausalLm,
    base: &CausalLm,
    windows: &Windows,
    progress: &mut StepFn<'_>,
) -> Result<(Comparison, WindowLosses)> {
    let total = windows.len();
    let mut tick = |done| progress(Step { name: "evaluate", done, total, unit: "windows", best_kld: None });
    Ok(compare_by_window(model, base, windows, &mut tick)?)
}

fn quantize_all(
    model: &mut CausalLm,
    stats: &CalibrationStats,
    types: &TensorTypes,
    rounding: Rounding,
) -> Result<()> {
    let mut quantizer = LayerQuantizer::new(stats, rounding);
    for (&id, &ty) in types {
        let shape = model.config().shape(id);
        let weight = model.weight_data(id)?;
        let quantized = quantizer.quantize(id, &weight, shape, Format::Ggml(ty))?;
        let data = TensorData::new(quantized.dequantized, shape);
        model.set_weight(id, Tensor::from_data(data, model.device()))?;
    }
    Ok(())
}
