//! What a quantization would give and take, before any weight is read.

mod estimate;
mod rates;

use std::path::PathBuf;

use ramp_gguf::{GgmlType, Metadata, QUANTIZED};
use ramp_model::{ModelConfig, ModelFiles, gguf_metadata};
use ramp_quant::{Budget, Format, GptqConfig, Rounding};
use ramp_search::{ActionSet, Fixed, Mode, Problem, uniform};
use serde::Serialize;

pub use self::{
    estimate::{Memory, Seconds, Work},
    rates::Rates,
};
use super::{metadata::Making, options::AllocatorKind};
use crate::error::Result;

/// What a plan is asked for. The fields are those of [`QuantizeOptions`](super::QuantizeOptions).
#[derive(Clone, Debug)]
pub struct PlanOptions {
    /// Hugging Face folder (its safetensors files may be absent), or an unquantized GGUF file.
    pub model: PathBuf,
    /// What must fit; `None` asks for the sizes only.
    pub budget: Option<Budget>,
    /// Which search.
    pub allocator: AllocatorKind,
    /// Faithful to the paper or mended.
    pub mode: Mode,
    /// Episodes of the SAC search; `None` is the mode's own number.
    pub episodes: Option<usize>,
    /// Whether scales are folded.
    pub fold: bool,
    /// The pre-tokenizer to name in the file, where the model's own is not recognised.
    pub pre: Option<String>,
    /// How codes are chosen.
    pub rounding: Rounding,
    /// The formats to choose from.
    pub actions: ActionSet,
    /// Types of embedding and head where they are not searched.
    pub fixed: Fixed,
    /// Window length in tokens.
    pub ctx: usize,
    /// Tokens for activation statistics, at most.
    pub calibration_tokens: usize,
    /// Tokens for the search's score, at most.
    pub search_tokens: usize,
    /// Tokens for the report's score, at most.
    pub report_tokens: usize,
    /// How fast the machine is.
    pub rates: Rates,
}

/// What a run would give and take. Sizes are exact, memory and time are estimates.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// The model.
    pub model: PathBuf,
    /// Its shape.
    pub config: ModelConfig,
    /// Number of parameters, norms included.
    pub parameters: u64,
    /// Size of the file with the same format everywhere, from the smallest.
    pub formats: Vec<FormatSize>,
    /// The smallest file that the action set allows: no budget may be below.
    pub floor: PlannedSize,
    /// The largest file that the action set allows: no budget may be above.
    pub ceiling: PlannedSize,
    /// The budget given.
    pub budget: Option<Budget>,
    /// What the uniform allocation makes of the budget; a search ends at the same size or closer to the budget.
    pub uniform: Option<PlannedSize>,
    /// Estimated memory of the device.
    pub memory: Memory,
    /// Tokens that the run forwards, at most; a shorter text gives less.
    pub work: Work,
    /// How fast the machine is.
    pub rates: Rates,
    /// Estimated wall-clock time.
    pub seconds: Seconds,
}

/// Size of the file that one format gives.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct FormatSize {
    /// The format, before the fallback for rows that do not fit its blocks.
    pub format: Format,
    /// Whether the search may choose it.
    pub in_action_set: bool,
    /// The size.
    #[serde(flatten)]
    pub size: PlannedSize,
}

/// Size of a file in the three units of a budget, exact to the byte.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PlannedSize {
    /// Bytes of the file.
    pub file_bytes: u64,
    /// Bits per weight over all matrices.
    pub bits_per_weight: f64,
    /// Mean nominal bits over the block matrices, unweighted: the paper's unit.
    pub mean_bits: f64,
}

/// Plans a run: reads the configuration and the tokenizer (its vocabulary is part of the file), no weights.
///
/// # Errors
/// When the model's configuration or tokenizer cannot be used, or no file can have the budget.
pub fn plan(options: &PlanOptions) -> Result<Plan> {
    let files = ModelFiles::open(&options.model)?.with_pre(options.pre.clone());
    let config = files.config();
    let making = Making {
        mode: options.mode,
        allocator: options.allocator.name(),
        // A number of fixed width: any stands for all.
        seed: 0,
        folded: options.fold,
        rounding: options.rounding,
        learned: false,
        // Room for these is kept in every file.
        command: String::new(),
        policy_sha256: None,
        dataset: String::new(),
    };
    let metadata = making.metadata(gguf_metadata(&files)?, config, None)?;
    // Reading it is cheap, and a broken one is better found by a plan than by a run.
    files.tokenizer()?;

    let types = QUANTIZED.iter().copied().chain([GgmlType::F16]);
    let formats = types
        .map(|ty| {
            let problem = smallest_problem(config, &metadata, &ActionSet::new(vec![ty])?, Fixed::default())?;
            Ok(FormatSize {
                format: Format::Ggml(ty),
                in_action_set: options.actions.types().contains(&ty),
                size: size(&problem, &problem.floor()),
            })
        })
        .collect::<Result<Vec<_>>>()?;
    let problem = match options.budget {
        Some(budget) => Problem::with_fixed(config, &metadata, &options.actions, options.fixed, budget)?,
        None => smallest_problem(config, &metadata, &options.actions, options.fixed)?,
    };
    let work = Work::estimate(options, &problem, config);
    Ok(Plan {
        model: options.model.clone(),
        parameters: config.n_params() as u64,
        formats,
        floor: size(&problem, &problem.floor()),
        ceiling: size(&problem, &problem.ceiling()),
        budget: options.budget,
        uniform: options.budget.map(|_| size(&problem, &uniform(&problem))),
        memory: Memory::estimate(options, &problem, config),
        seconds: Seconds::estimate(options, &problem, config, &work),
        work,
        rates: options.rates,
        config: config.clone(),
    })
}

/// The problem whose budget is its own floor: one that is in range whatever the model.
fn smallest_problem(
    config: &ModelConfig,
    metadata: &Metadata,
    actions: &ActionSet,
    fixed: Fixed,
) -> Result<Problem> {
    let (bytes, _) = Problem::ends(config, metadata, actions, fixed)?.bytes;
    Ok(Problem::with_fixed(config, metadata, actions, fixed, Budget::Bytes(bytes))?)
}

fn size(problem: &Problem, choices: &[usize]) -> PlannedSize {
    PlannedSize {
        file_bytes: problem.file_bytes(choices),
        bits_per_weight: problem.bits_per_weight(choices),
        mean_bits: problem.allocation(choices).mean_bits(),
    }
}

impl PlanOptions {
    /// The defaults of [`QuantizeOptions`](super::QuantizeOptions), without a budget.
    #[must_use]
    pub fn new(model: PathBuf, rates: Rates) -> Self {
        Self {
            model,
            budget: None,
            allocator: AllocatorKind::default(),
            mode: Mode::default(),
            episodes: None,
            fold: true,
            pre: None,
            rounding: Rounding::Gptq(GptqConfig::default()),
            actions: ActionSet::default(),
            fixed: Fixed::default(),
            ctx: 512,
            calibration_tokens: 131_072,
            search_tokens: 4096,
            report_tokens: 8192,
            rates,
        }
    }
}

#[cfg(test)]
mod tests;
