//! What a comparison of searches is asked to do.

use std::path::PathBuf;

use burn::tensor::Device;
use ramp_model::{ModelConfig, Precision};
use ramp_quant::{Budget, FoldConfig, GptqConfig, Rounding};
use ramp_search::{
    ActionSet, AdditiveSurrogate, Allocator, Categorical, Cem, EvoPress, FeatureSource, Fixed, HawqTrace,
    LlamaCppMix, MeasuredKnapsack, Mode, Polish, ProxyError, ProxyKnapsack, RandomSearch, RoleDepth, Sac,
    SacSearchConfig, SearchCodec, TraceRule, Uniform, WalkSearchConfig, reward::RewardText,
};
use serde::{Deserialize, Serialize};

use super::super::{
    fleet::NamedDevice,
    options::{agent_device, fold_of_mode},
};

/// A search that can be compared with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SearchAllocator {
    /// The same density of bits everywhere.
    Uniform,
    /// llama.cpp's mixes.
    Mix,
    /// A rule of thumb.
    RoleDepth,
    /// Eq. 5 of the paper.
    HawqBits,
    /// HAWQ-V2's perturbations and a knapsack.
    Hawq,
    /// Errors of the weights, and a knapsack.
    Proxy,
    /// Errors of the outputs, and a knapsack.
    ProxyImatrix,
    /// Measured sensitivities and a knapsack.
    Knapsack,
    /// The measured knapsack, then exchanges.
    Polish,
    /// Ridge regression.
    Surrogate,
    /// EvoPress.
    Evopress,
    /// The cross-entropy method.
    Cem,
    /// Random allocations.
    Random,
    /// Soft Actor-Critic, mended.
    Sac,
    /// The same over the wide features.
    SacWide,
    /// Soft Actor-Critic to the paper's letter.
    SacPaper,
    /// Categorical Soft Actor-Critic on measured sensitivities.
    Discrete,
    /// Proximal policy optimisation on the same walk.
    Ppo,
}

impl SearchAllocator {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::Uniform,
        Self::Mix,
        Self::RoleDepth,
        Self::HawqBits,
        Self::Hawq,
        Self::Proxy,
        Self::ProxyImatrix,
        Self::Knapsack,
        Self::Polish,
        Self::Surrogate,
        Self::Evopress,
        Self::Cem,
        Self::Random,
        Self::Sac,
        Self::SacWide,
        Self::SacPaper,
        Self::Discrete,
        Self::Ppo,
    ];

    /// The name on the command line and in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Mix => "mix",
            Self::RoleDepth => "role-depth",
            Self::HawqBits => "hawq-bits",
            Self::Hawq => "hawq",
            Self::Proxy => "proxy",
            Self::ProxyImatrix => "proxy-imatrix",
            Self::Knapsack => "knapsack",
            Self::Polish => "polish",
            Self::Surrogate => "surrogate",
            Self::Evopress => "evopress",
            Self::Cem => "cem",
            Self::Random => "random",
            Self::Sac => "sac",
            Self::SacWide => "sac-wide",
            Self::SacPaper => "sac-paper",
            Self::Discrete => "discrete",
            Self::Ppo => "ppo",
        }
    }

    /// Whether the seed decides anything.
    #[must_use]
    pub const fn is_random(self) -> bool {
        matches!(
            self,
            Self::Surrogate
                | Self::Evopress
                | Self::Cem
                | Self::Random
                | Self::Sac
                | Self::SacWide
                | Self::SacPaper
                | Self::Discrete
                | Self::Ppo
        )
    }

    pub(super) fn make(
        self,
        seed: u64,
        episodes: Option<usize>,
        config: &ModelConfig,
        model_name: &str,
        device: &Device,
    ) -> Box<dyn Allocator> {
        let sac = |mode| -> Box<dyn Allocator> {
            let (device, model_name) = (device.clone(), model_name.to_owned());
            let mut config = SacSearchConfig::new(mode, seed);
            config.episodes = episodes.unwrap_or(config.episodes);
            config.warmup_episodes = config.warmup_episodes.min(config.episodes / 2);
            Box::new(Sac::new(config, device, model_name))
        };
        let categorical = |mut config: WalkSearchConfig| -> Box<dyn Allocator> {
            config.episodes = episodes.unwrap_or(config.episodes);
            Box::new(Categorical::new(config, device.clone(), model_name.to_owned()))
        };
        match self {
            Self::Uniform => Box::new(Uniform),
            Self::Mix => Box::new(LlamaCppMix { config: config.clone() }),
            Self::RoleDepth => Box::new(RoleDepth::default()),
            Self::HawqBits => Box::new(HawqTrace { rule: TraceRule::Bits { alpha: 1.0 } }),
            Self::Hawq => Box::new(HawqTrace::default()),
            Self::Proxy => Box::new(ProxyKnapsack { error: ProxyError::Weights }),
            Self::ProxyImatrix => Box::new(ProxyKnapsack { error: ProxyError::Outputs }),
            Self::Knapsack => Box::new(MeasuredKnapsack),
            Self::Polish => Box::new(Polish::default()),
            Self::Surrogate => Box::new(AdditiveSurrogate::new(seed)),
            Self::Evopress => Box::new(EvoPress::new(seed)),
            Self::Cem => Box::new(Cem::new(seed)),
            Self::Random => Box::new(RandomSearch::new(seed)),
            Self::Sac => sac(Mode::Sound),
            Self::SacWide => categorical(WalkSearchConfig::continuous(seed)),
            Self::SacPaper => sac(Mode::Paper),
            Self::Discrete => categorical(WalkSearchConfig::discrete(seed)),
            Self::Ppo => categorical(WalkSearchConfig::ppo(seed)),
        }
    }
}

/// Options of [`search`](super::search).
#[derive(Clone, Debug)]
pub struct SearchOptions {
    /// Hugging Face folder, or an unquantized GGUF file.
    pub model: PathBuf,
    /// The searches.
    pub allocators: Vec<SearchAllocator>,
    /// What must fit, one comparison for each; no mean bits.
    pub budgets: Vec<Budget>,
    /// Runs of every search that has a seed: seeds 0, 1, ...
    pub seeds: u64,
    /// Tokens that each run may forward; `None` lets each search end by itself.
    pub tokens: Option<usize>,
    /// Episodes of the agents; `None` is each one's own number.
    pub episodes: Option<usize>,
    /// The texts.
    pub texts: SearchTexts,
    /// A log to go on with, or to begin.
    pub log: Option<PathBuf>,
    /// The formats to choose from.
    pub actions: ActionSet,
    /// Types of embedding and head where they are not searched.
    pub fixed: Fixed,
    /// Scale folding; `None` turns it off.
    pub fold: Option<FoldConfig>,
    /// Which weights are evaluated while searching. What is found is always measured as the file has it.
    pub search_codec: SearchCodec,
    /// Which model the features of agents describe.
    pub features: FeatureSource,
    /// How codes are chosen.
    pub rounding: Rounding,
    /// Where the model runs.
    pub device: Device,
    /// More devices that evaluate allocations beside the first one. All else runs on the first.
    pub others: Vec<NamedDevice>,
    /// What the model's blocks compute in.
    pub precision: Precision,
    /// Where agents' networks run.
    pub agent_device: Device,
}

/// The texts of a comparison. Parts of one text are different windows of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchTexts {
    /// For calibration, and for the others where they have none of their own; `None` uses the small text that comes
    /// with RAMP.
    pub text: Option<PathBuf>,
    /// What allocations are scored on while searching.
    pub search: Option<PathBuf>,
    /// What chooses among the allocations that were found.
    pub selection: Option<PathBuf>,
    /// The test text, which nothing is chosen by.
    pub report: Option<PathBuf>,
    /// What allocations are scored on while searching; the test windows, too, to see what that does. The report says so.
    pub reward_text: RewardText,
    /// Length of a window in tokens.
    pub ctx: usize,
    /// Tokens for activation statistics, at most.
    pub calibration_tokens: usize,
    /// Tokens that choose among what was found, at most.
    pub selection_tokens: usize,
    /// Tokens of the report, at most.
    pub report_tokens: usize,
}

impl Default for SearchTexts {
    fn default() -> Self {
        Self {
            text: None,
            search: None,
            selection: None,
            report: None,
            reward_text: RewardText::sound(),
            ctx: 512,
            calibration_tokens: 131_072,
            selection_tokens: 8192,
            report_tokens: 32_768,
        }
    }
}

impl SearchOptions {
    /// The command's defaults.
    #[must_use]
    pub fn new(
        model: PathBuf,
        allocators: Vec<SearchAllocator>,
        budgets: Vec<Budget>,
        device: Device,
    ) -> Self {
        Self {
            model,
            allocators,
            budgets,
            seeds: 1,
            tokens: None,
            episodes: None,
            texts: SearchTexts::default(),
            log: None,
            actions: ActionSet::default(),
            fixed: Fixed::default(),
            fold: fold_of_mode(Mode::Sound, &ActionSet::default()),
            search_codec: SearchCodec::default(),
            features: FeatureSource::default(),
            rounding: Rounding::Gptq(GptqConfig::default()),
            agent_device: agent_device(&device),
            device,
            others: Vec::new(),
            precision: Precision::F32,
        }
    }
}
