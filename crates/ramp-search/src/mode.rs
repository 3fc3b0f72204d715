//! Faithful to the paper's text, or with its errors mended: every decision is one field.

use ramp_embed::{DepthIndex, FeatureConfig, FeatureMode};
use ramp_sac::{SacConfig, TargetKind};
use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    reward::RewardConfig,
};

/// A set of decisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The paper to the letter, flaws included.
    Paper,
    /// What can be learnt from and holds a budget.
    #[default]
    Sound,
}

impl Mode {
    /// The name in files and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Paper => "paper",
            Self::Sound => "sound",
        }
    }
}

/// How an action in (0, 1) becomes a choice (Sec. 3.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mapping {
    /// Nearest bit width: the first and the last bin are half as wide.
    Nearest,
    /// Bins of equal width.
    EqualBins,
}

/// What holds the budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BudgetHandling {
    /// The penalty of Eq. 20 on mean bits; episodes may exceed the budget, and the exported allocation is
    /// projected onto it.
    Penalty,
    /// Every episode is projected onto the budget, so none exceeds it.
    Projection,
}

/// What a layer's action is rewarded with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Credit {
    /// Nothing but the episode's reward at its end (Eq. 21), as printed.
    Terminal,
    /// What the action loses in the relaxed Lagrangian ([`crate::Relaxation`]: measured sensitivity plus the
    /// price of its bytes), and its share of what the whole episode lost beyond the sum of sensitivities. Each
    /// layer is a bandit with context: no reward has to travel through hundreds of bootstrapped steps.
    Lagrangian,
    /// The same measured cost at each step, and at the end of the episode what is missing to its whole reward
    /// ([`RewardConfig`]): the rewards of an episode add up to its reward, and with γ = 1 nothing but its order in time
    /// is changed.
    Shaped,
}

/// What the episodes at the start are drawn from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WarmUp {
    /// Uniformly random actions, whatever they cost (Table 9).
    Uniform,
    /// Random choices among those that leave room for the layers behind.
    Feasible,
}

/// Whose statistics standardise the features of a model that the policy was not trained on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Normalisation {
    /// The model's own (Appendix A).
    PerModel,
    /// Those of the training, saved with the policy.
    Source,
}

/// Which weights a search evaluates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SearchCodec {
    /// What the exporter writes: the file that is searched for is the file that one gets.
    #[default]
    Export,
    /// The paper's affine groups of 128 weights (Eq. 10, Table 10) in the nominal bits of each format: other weights than
    /// those of the file, with other errors.
    Affine128,
}

/// Which model features describe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FeatureSource {
    /// The folded one, which is quantized.
    #[default]
    Folded,
    /// The one that was read. Algorithms 2 and 3 do not say which comes first.
    Original,
}

/// What stands for previous and mean bits in front of the first layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FirstContext {
    /// 0 bits, which no layer can have (Table 24).
    Zero,
    /// The mean that the budget allows.
    Target,
}

/// Which contextual features a step updates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContextUpdate {
    /// Previous and mean bits.
    Both,
    /// Only the mean, as Algorithm 1 prints it: the previous bits stay what they were in front of the first layer.
    MeanOnly,
}

/// What the replay buffer remembers of a continuous action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StoredAction {
    /// The action itself.
    Continuous,
    /// The middle of the bin that it fell into.
    BinCentre,
}

/// Who acts while an episode is gathered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Behaviour {
    /// The policy, in every layer.
    Policy,
    /// The policy in a few layers drawn at random, the best allocation so far in the others. SAC is off-policy
    /// and learns from either; one allocation that differs in a few places tells more than one that differs
    /// everywhere.
    Incumbent {
        /// Layers that the policy decides in an episode.
        resampled: usize,
    },
}

/// Where the actor starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WarmStart {
    /// From random weights.
    Cold,
    /// From the minimum of the relaxed problem by behaviour cloning, with the sensitivity measurements as first
    /// transitions and the measured knapsack's allocation as the first incumbent.
    Knapsack,
}

/// Every decision of a SAC search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SacSearchConfig {
    /// Where the other fields started from.
    pub mode: Mode,
    /// Episodes, warm-up included. Table 9: 200 to 250.
    pub episodes: usize,
    /// Episodes of uniformly random actions at the start. Table 9: 20.
    pub warmup_episodes: usize,
    /// Actions to choices.
    pub mapping: Mapping,
    /// What holds the budget.
    pub budget: BudgetHandling,
    /// What an action is rewarded with.
    pub credit: Credit,
    /// Who acts while an episode is gathered.
    pub behaviour: Behaviour,
    /// Where the actor starts.
    pub warm_start: WarmStart,
    /// Steps of behaviour cloning.
    pub cloning_steps: usize,
    /// Learning rate of behaviour cloning.
    pub cloning_lr: f64,
    /// Gradient updates before the first episode, on the transitions of the warm start.
    pub pretraining_updates: usize,
    /// Gradient updates after each episode; the paper leaves `N_updates` open, one for each layer when `None`.
    pub updates_per_episode: Option<usize>,
    /// Features of the state.
    pub features: FeatureMode,
    /// What the depth among them counts.
    pub depth: DepthIndex,
    /// Whether sizes among them are clipped to 1.
    pub clip_dims: bool,
    /// An episode's reward.
    pub reward: RewardConfig,
    /// What the episodes at the start are drawn from.
    pub warm_up: WarmUp,
    /// Whose statistics standardise the features of another model.
    pub norm: Normalisation,
    /// Contextual features in front of the first layer.
    pub first_context: FirstContext,
    /// Contextual features that a step updates.
    pub context_update: ContextUpdate,
    /// What the replay buffer remembers of an action.
    pub stored_action: StoredAction,
    /// The agent.
    pub agent: SacConfig,
}

impl SacSearchConfig {
    /// The decisions of a mode.
    #[must_use]
    pub fn new(mode: Mode, seed: u64) -> Self {
        match mode {
            Mode::Paper => Self::paper(seed),
            Mode::Sound => Self::sound(seed),
        }
    }

    /// Algorithm 1 with Tables 9 and 25 to 27.
    #[must_use]
    pub fn paper(seed: u64) -> Self {
        Self {
            mode: Mode::Paper,
            episodes: 250,
            warmup_episodes: 20,
            mapping: Mapping::Nearest,
            budget: BudgetHandling::Penalty,
            credit: Credit::Terminal,
            behaviour: Behaviour::Policy,
            warm_start: WarmStart::Cold,
            cloning_steps: 0,
            cloning_lr: 1e-3,
            pretraining_updates: 0,
            updates_per_episode: None,
            features: FeatureMode::Paper,
            depth: DepthIndex::Block,
            clip_dims: false,
            reward: RewardConfig::paper(),
            warm_up: WarmUp::Uniform,
            norm: Normalisation::PerModel,
            first_context: FirstContext::Zero,
            context_update: ContextUpdate::Both,
            stored_action: StoredAction::Continuous,
            agent: SacConfig { seed, ..SacConfig::paper(ramp_embed::N_FEATURES, 1) },
        }
    }

    /// What the measurements of this project recommend.
    #[must_use]
    pub fn sound(seed: u64) -> Self {
        let paper = Self::paper(seed);
        Self {
            mode: Mode::Sound,
            episodes: 64,
            warmup_episodes: 0,
            mapping: Mapping::EqualBins,
            budget: BudgetHandling::Projection,
            credit: Credit::Lagrangian,
            behaviour: Behaviour::Incumbent { resampled: 6 },
            warm_start: WarmStart::Knapsack,
            cloning_steps: 600,
            pretraining_updates: 100,
            updates_per_episode: Some(16),
            features: FeatureMode::Sound,
            reward: RewardConfig::sound(),
            warm_up: WarmUp::Feasible,
            first_context: FirstContext::Target,
            agent: SacConfig {
                // A bandit has no next state to look at.
                gamma: 0.0,
                target: TargetKind::MonteCarlo,
                // Rewards of single layers are of order one; 0.2 nats of entropy bonus would drown them.
                init_alpha: 0.02,
                // About a third of the resampled layers leave their bin: neighbours are tried a few at a time.
                target_entropy: -1.5,
                ..paper.agent
            },
            ..paper
        }
    }

    /// The decisions about features together.
    #[must_use]
    pub const fn feature_config(&self) -> FeatureConfig {
        FeatureConfig { mode: self.features, depth: self.depth, clip_dims: self.clip_dims }
    }

    /// Checks the fields against each other.
    ///
    /// # Errors
    /// When a value is impossible; the error names the field.
    pub fn validate(&self) -> Result<()> {
        if self.episodes == 0 {
            return Err(Error::Option { name: "episodes", value: "0".into(), expected: "at least 1" });
        }
        self.reward.validate()?;
        Ok(self.agent.validate()?)
    }
}
