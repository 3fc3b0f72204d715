//! Every decision of a search with a categorical agent, one documented field each.

use ramp_sac::{DiscreteConfig, PpoConfig, SacConfig, TargetKind};
use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    mode::{Behaviour, BudgetHandling, Credit, Normalisation, WarmStart, WarmUp},
    reward::RewardConfig,
};

/// Which agent learns. The sizes of states and of the action set are filled in from the problem.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentConfig {
    /// Soft Actor-Critic with an action in (0, 1), which stands for the format whose bin it falls into.
    Continuous(SacConfig),
    /// Soft Actor-Critic with a categorical actor.
    Discrete(DiscreteConfig),
    /// Proximal Policy Optimisation, the rival of Table 21.
    Ppo(PpoConfig),
}

impl AgentConfig {
    /// The seed of everything random.
    #[must_use]
    pub const fn seed(&self) -> u64 {
        match self {
            Self::Continuous(config) => config.seed,
            Self::Discrete(config) => config.seed,
            Self::Ppo(config) => config.seed,
        }
    }

    /// The name in logs and tables.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Continuous(_) => "sac",
            Self::Discrete(_) => "discrete",
            Self::Ppo(_) => "ppo",
        }
    }
}

/// Every decision of a search with a categorical agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WalkSearchConfig {
    /// Episodes, warm-up included.
    pub episodes: usize,
    /// Random episodes at the start.
    pub warmup_episodes: usize,
    /// What they are drawn from.
    pub warm_up: WarmUp,
    /// [`BudgetHandling::Projection`] forbids actions that leave no room for the layers behind, and spends what is left
    /// at the end; [`BudgetHandling::Penalty`] allows everything.
    pub budget: BudgetHandling,
    /// What a layer's action is rewarded with.
    pub credit: Credit,
    /// An episode's reward.
    pub reward: RewardConfig,
    /// Who acts while an episode is gathered.
    pub behaviour: Behaviour,
    /// Walks that are tried for an allocation that was not evaluated before. The last one counts.
    pub tries: usize,
    /// Where the agent starts: from random weights, or from measured sensitivities and the knapsack's allocations. PPO,
    /// which learns from its own episodes only, takes from them no more than the first incumbent.
    pub warm_start: WarmStart,
    /// Budgets between the floor and the ceiling, besides the problem's own, for which the knapsack demonstrates an
    /// allocation.
    pub demonstrations: usize,
    /// Temperature of the demonstrations, in units of a layer's reward: a categorical agent clones each format with a
    /// probability that falls with what it loses, so that its probabilities mean something where the best format does
    /// not fit. 0 clones the knapsack's choice alone.
    pub cloning_temperature: f64,
    /// Steps of behaviour cloning.
    pub cloning_steps: usize,
    /// Learning rate of behaviour cloning.
    pub cloning_lr: f64,
    /// Gradient updates before the first episode, on the transitions of the warm start.
    pub pretraining_updates: usize,
    /// Gradient updates after each episode, one for each layer when `None`. PPO updates as its own configuration says.
    pub updates_per_episode: Option<usize>,
    /// Episodes that PPO gathers for one update.
    pub episodes_per_update: usize,
    /// Whose statistics standardise the features of another model.
    pub norm: Normalisation,
    /// The agent.
    pub agent: AgentConfig,
}

impl WalkSearchConfig {
    /// Soft Actor-Critic over the formats: masks, dense rewards from measured sensitivities, cloned from knapsacks, and
    /// each layer a bandit: what a layer does to those behind it is in the price of its bytes already, so that γ = 1
    /// ([`returns`](Self::returns)) only adds the noise of all others to its reward.
    #[must_use]
    pub fn discrete(seed: u64) -> Self {
        let agent = DiscreteConfig {
            hidden: [128, 128, 64],
            gamma: 0.0,
            target: TargetKind::MonteCarlo,
            // Rewards of single layers are of order one.
            init_alpha: 0.1,
            auto_alpha: false,
            seed,
            // The sizes come from the problem.
            ..DiscreteConfig::new(1, 1)
        };
        Self {
            episodes: 200,
            warmup_episodes: 0,
            warm_up: WarmUp::Feasible,
            budget: BudgetHandling::Projection,
            credit: Credit::Lagrangian,
            reward: RewardConfig::logarithmic(),
            behaviour: Behaviour::Incumbent { resampled: 6 },
            tries: 16,
            warm_start: WarmStart::Knapsack,
            demonstrations: 6,
            cloning_temperature: 0.1,
            cloning_steps: 600,
            cloning_lr: 1e-3,
            pretraining_updates: 600,
            updates_per_episode: Some(8),
            episodes_per_update: 1,
            norm: Normalisation::PerModel,
            agent: AgentConfig::Discrete(agent),
        }
    }

    /// The same with γ = 1, the returns that were really collected as targets, and rewards that add up to the episode's.
    #[must_use]
    pub fn returns(seed: u64) -> Self {
        let mut config = Self::discrete(seed);
        config.credit = Credit::Shaped;
        if let AgentConfig::Discrete(agent) = &mut config.agent {
            agent.gamma = 1.0;
        }
        config
    }

    /// Continuous Soft Actor-Critic on the same walk: each layer a bandit, as in
    /// [`SacSearchConfig::sound`](crate::SacSearchConfig::sound), but over the wide features.
    #[must_use]
    pub fn continuous(seed: u64) -> Self {
        let agent = SacConfig { hidden: [128, 128, 64], ..crate::mode::SacSearchConfig::sound(seed).agent };
        Self { credit: Credit::Lagrangian, agent: AgentConfig::Continuous(agent), ..Self::discrete(seed) }
    }

    /// PPO on the same walk, with the same rewards.
    #[must_use]
    pub fn ppo(seed: u64) -> Self {
        let agent =
            PpoConfig { hidden: [128, 128, 64], gamma: 1.0, lambda: 1.0, seed, ..PpoConfig::new(1, 1) };
        Self {
            behaviour: Behaviour::Policy,
            credit: Credit::Shaped,
            tries: 1,
            cloning_steps: 0,
            pretraining_updates: 0,
            episodes_per_update: 4,
            agent: AgentConfig::Ppo(agent),
            ..Self::discrete(seed)
        }
    }

    /// Checks the fields.
    ///
    /// # Errors
    /// When a value is impossible; the error names the field.
    pub fn validate(&self) -> Result<()> {
        let least = [
            ("episodes", self.episodes),
            ("tries", self.tries),
            ("episodes_per_update", self.episodes_per_update),
        ];
        for (name, value) in least {
            if value == 0 {
                return Err(Error::Option { name, value: "0".into(), expected: "at least 1" });
            }
        }
        let (name, value) = ("cloning_temperature", self.cloning_temperature);
        if !(value >= 0.0 && value.is_finite()) {
            return Err(Error::Option { name, value: value.to_string(), expected: "a number, not negative" });
        }
        self.reward.validate()
    }
}
