//! What a quantization run is asked to do.

use std::path::PathBuf;

use burn::tensor::Device;
use ramp_model::Precision;
use ramp_quant::{Budget, FoldConfig, GptqConfig, LearnConfig, Rounding};
use ramp_search::{ActionSet, Fixed, Mode, reward::RewardText};
use serde::{Deserialize, Serialize};

use super::fleet::NamedDevice;

/// Which search finds the allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AllocatorKind {
    /// Soft Actor-Critic.
    #[default]
    Sac,
    /// Soft Actor-Critic with a categorical actor.
    Discrete,
    /// Proximal Policy Optimisation.
    Ppo,
    /// Measured sensitivities and an exact knapsack.
    Knapsack,
    /// The measured knapsack, then exchanges between two layers as long as they help.
    Polish,
    /// EvoPress, an evolutionary search.
    Evopress,
    /// Relative errors of the weights and an exact knapsack: no evaluation.
    Proxy,
    /// The same density of bits everywhere.
    Uniform,
}

impl AllocatorKind {
    /// Whether it trains a policy, episode by episode.
    #[must_use]
    pub const fn learns(self) -> bool {
        matches!(self, Self::Sac | Self::Discrete | Self::Ppo)
    }

    /// The name in files, reports and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sac => "sac",
            Self::Discrete => "discrete",
            Self::Ppo => "ppo",
            Self::Knapsack => "knapsack",
            Self::Polish => "polish",
            Self::Evopress => "evopress",
            Self::Proxy => "proxy",
            Self::Uniform => "uniform",
        }
    }
}

/// Options of a run. [`QuantizeOptions::new`] gives the defaults of the command.
#[derive(Clone, Debug)]
pub struct QuantizeOptions {
    /// Hugging Face folder, or an unquantized GGUF file.
    pub model: PathBuf,
    /// The GGUF file to write.
    pub output: PathBuf,
    /// Calibration text; `None` uses the small text that comes with RAMP.
    pub text: Option<PathBuf>,
    /// What must fit.
    pub budget: Budget,
    /// Which search.
    pub allocator: AllocatorKind,
    /// Faithful to the paper or mended.
    pub mode: Mode,
    /// Episodes of the SAC search; `None` is the mode's own number.
    pub episodes: Option<usize>,
    /// Seed of everything random.
    pub seed: u64,
    /// Scale folding; `None` turns it off.
    pub fold: Option<FoldConfig>,
    /// The pre-tokenizer to name in the file, where the model's own is not recognised.
    pub pre: Option<String>,
    /// How codes are chosen.
    pub rounding: Rounding,
    /// How the codes of the file are learned afterwards, for the output of the model's blocks; `None`: they are not.
    pub learn: Option<LearnConfig>,
    /// Where the model runs.
    pub device: Device,
    /// More devices that evaluate allocations beside the first one. All else runs on the first.
    pub others: Vec<NamedDevice>,
    /// What the model's blocks compute in. What is quantized are the f32 weights, whichever it is.
    pub precision: Precision,
    /// Where the agent's networks run. They are small: the CPU, where it is built in, else the model's device.
    pub agent_device: Device,
    /// A trained policy: no search is made.
    pub policy: Option<PathBuf>,
    /// Where to save the trained policy.
    pub save_policy: Option<PathBuf>,
    /// Where to write the history of the search ([`ramp_search::TrainingLog`]).
    pub log: Option<PathBuf>,
    /// A folder that keeps the sums of the calibration and every score of the search, from which the same run goes on after
    /// it was cut short.
    pub state: Option<PathBuf>,
    /// The formats to choose from.
    pub actions: ActionSet,
    /// Types of embedding and head where they are not searched.
    pub fixed: Fixed,
    /// Window length in tokens.
    pub ctx: usize,
    /// Tokens for activation statistics, at most.
    pub calibration_tokens: usize,
    /// What the search's scores are taken on.
    pub reward_text: RewardText,
    /// Tokens for the report's score, at most; held out from calibration and search.
    pub report_tokens: usize,
}

impl QuantizeOptions {
    /// The command's defaults.
    #[must_use]
    pub fn new(model: PathBuf, output: PathBuf, budget: Budget, device: Device) -> Self {
        Self {
            model,
            output,
            text: None,
            budget,
            allocator: AllocatorKind::default(),
            mode: Mode::default(),
            episodes: None,
            seed: 0,
            fold: fold_of_mode(Mode::default(), &ActionSet::default()),
            pre: None,
            rounding: Rounding::Gptq(GptqConfig::default()),
            learn: None,
            agent_device: agent_device(&device),
            device,
            others: Vec::new(),
            precision: Precision::F32,
            policy: None,
            save_policy: None,
            log: None,
            state: None,
            actions: ActionSet::default(),
            fixed: Fixed::default(),
            ctx: 512,
            calibration_tokens: 131_072,
            reward_text: RewardText::sound(),
            report_tokens: 8192,
        }
    }
}

/// How a mode folds: as the paper prints it, or what helps on K-quants, with exponents for the smallest type that the
/// search may choose, on which the error is largest.
#[must_use]
pub fn fold_of_mode(mode: Mode, actions: &ActionSet) -> Option<FoldConfig> {
    match mode {
        Mode::Paper => Some(FoldConfig::paper()),
        Mode::Sound => actions.types().first().map(|&ty| FoldConfig::sound(ty)),
    }
}

#[cfg(feature = "flex")]
pub(super) fn agent_device(_model: &Device) -> Device {
    Device::flex()
}

#[cfg(not(feature = "flex"))]
pub(super) fn agent_device(model: &Device) -> Device {
    model.clone()
}
