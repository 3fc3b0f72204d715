//! Every decision of the categorical agent, one documented field each.

use serde::{Deserialize, Serialize};

use crate::{
    config::{SacConfig, TargetKind, check},
    error::Result,
};

/// Most actions; a format list has a dozen.
const MAX_ACTIONS: usize = 1 << 12;

/// Configuration of a [`DiscreteAgent`](crate::DiscreteAgent). Defaults are those of [`DiscreteConfig::new`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiscreteConfig {
    /// Elements of a state.
    pub state_dim: usize,
    /// Number of actions.
    pub actions: usize,
    /// Units of the three hidden layers of actor and critics; LayerNorm follows the first two.
    /// Default `[512, 512, 256]` (Tables 9 and 27).
    pub hidden: [usize; 3],
    /// Adam's step size for actor, critics and temperature. Default 3e-4 (Table 25).
    pub lr: f64,
    /// Adam's ε. Default 1e-8.
    pub adam_epsilon: f64,
    /// Transitions per gradient step. Default 128 (Table 26).
    pub batch_size: usize,
    /// Discount γ in [0, 1]. Default 0.99 (Table 25).
    pub gamma: f64,
    /// Target update rate τ in (0, 1]. Default 0.005 (Table 25).
    pub tau: f64,
    /// Largest global L2 norm of one network's gradient; 0 turns clipping off. Default 1.0 (Table 25).
    pub grad_clip: f64,
    /// Entropy coefficient α at the start. Default 0.2 (Table 25). May be 0 if `auto_alpha` is off.
    pub init_alpha: f64,
    /// Whether α is learned so that the policy's entropy approaches its target. Default true.
    pub auto_alpha: bool,
    /// Target entropy as a fraction of ln |A|, the entropy of a uniform choice, where |A| counts the actions that a
    /// state allows; in [0, 1]. Default 0.4. The 0.98 of the first paper on discrete SAC keeps a policy nearly uniform.
    pub entropy_fraction: f64,
    /// Transitions that the replay buffer holds before it overwrites the oldest. Default 30 000 (Table 26).
    pub replay_capacity: usize,
    /// What the critics regress on. Default [`TargetKind::Td0`].
    pub target: TargetKind,
    /// Seed of every random choice. Default 0.
    pub seed: u64,
}

impl DiscreteConfig {
    /// The values of Tables 25 to 27, with an entropy target for a choice among few.
    #[must_use]
    pub fn new(state_dim: usize, actions: usize) -> Self {
        let paper = SacConfig::paper(state_dim, 1);
        Self {
            state_dim,
            actions,
            hidden: paper.hidden,
            lr: paper.lr,
            adam_epsilon: paper.adam_epsilon,
            batch_size: paper.batch_size,
            gamma: paper.gamma,
            tau: paper.tau,
            grad_clip: paper.grad_clip,
            init_alpha: paper.init_alpha,
            auto_alpha: paper.auto_alpha,
            entropy_fraction: 0.4,
            replay_capacity: paper.replay_capacity,
            target: TargetKind::Td0,
            seed: 0,
        }
    }

    /// Checks every field against the range in its documentation.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) names the first field that is out of range.
    pub fn validate(&self) -> Result<()> {
        let actions = (1..=MAX_ACTIONS).contains(&self.actions);
        check("actions", self.actions, actions, "between 1 and 4096")?;
        let fraction = self.entropy_fraction;
        check("entropy_fraction", fraction, (0.0..=1.0).contains(&fraction), "in [0, 1]")?;
        // The rules of the fields that both agents have.
        SacConfig {
            hidden: self.hidden,
            lr: self.lr,
            adam_epsilon: self.adam_epsilon,
            batch_size: self.batch_size,
            gamma: self.gamma,
            tau: self.tau,
            grad_clip: self.grad_clip,
            init_alpha: self.init_alpha,
            auto_alpha: self.auto_alpha,
            replay_capacity: self.replay_capacity,
            target: self.target,
            ..SacConfig::paper(self.state_dim, 1)
        }
        .validate()
    }
}
