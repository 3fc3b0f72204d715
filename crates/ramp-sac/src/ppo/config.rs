//! Every decision of PPO, one documented field each.

use serde::{Deserialize, Serialize};

use crate::{
    config::{SacConfig, check},
    error::Result,
};

/// Configuration of a [`Ppo`](crate::Ppo). The paper gives none for its PPO (Table 21); networks, learning rate, discount
/// and clipping of gradients are those of SAC, the rest the defaults of Stable-Baselines3.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PpoConfig {
    /// Elements of a state.
    pub state_dim: usize,
    /// Number of actions.
    pub actions: usize,
    /// Units of the three hidden layers of actor and value function. Default `[512, 512, 256]` (Table 27).
    pub hidden: [usize; 3],
    /// Adam's step size. Default 3e-4 (Table 25).
    pub lr: f64,
    /// Adam's ε. Default 1e-8.
    pub adam_epsilon: f64,
    /// Steps per gradient step. Default 64.
    pub batch_size: usize,
    /// Passes over the gathered steps in an update. Default 10.
    pub epochs: usize,
    /// Discount γ in [0, 1]. Default 0.99 (Table 25).
    pub gamma: f64,
    /// λ of the advantages in [0, 1]: 0 trusts the value function, 1 the rewards. Default 0.95.
    pub lambda: f64,
    /// How far the ratio of probabilities may leave 1 before it stops counting. Default 0.2.
    pub clip: f64,
    /// Weight of the policy's entropy in its objective. Default 0.01; 0 is usual for continuous actions.
    pub entropy_coefficient: f64,
    /// Whether advantages of a minibatch are brought to mean 0 and standard deviation 1. Default true.
    pub normalise_advantages: bool,
    /// Largest global L2 norm of one network's gradient; 0 turns clipping off. Default 1.0 (Table 25).
    pub grad_clip: f64,
    /// Seed of every random choice. Default 0.
    pub seed: u64,
}

impl PpoConfig {
    /// The defaults.
    #[must_use]
    pub fn new(state_dim: usize, actions: usize) -> Self {
        let paper = SacConfig::paper(state_dim, 1);
        Self {
            state_dim,
            actions,
            hidden: paper.hidden,
            lr: paper.lr,
            adam_epsilon: paper.adam_epsilon,
            batch_size: 64,
            epochs: 10,
            gamma: paper.gamma,
            lambda: 0.95,
            clip: 0.2,
            entropy_coefficient: 0.01,
            normalise_advantages: true,
            grad_clip: paper.grad_clip,
            seed: 0,
        }
    }

    /// Checks every field against the range in its documentation.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) names the first field that is out of range.
    pub fn validate(&self) -> Result<()> {
        let count = |value: usize| (1..=4096).contains(&value);
        check("actions", self.actions, count(self.actions), "between 1 and 4096")?;
        check("epochs", self.epochs, count(self.epochs), "between 1 and 4096")?;
        check("lambda", self.lambda, (0.0..=1.0).contains(&self.lambda), "in [0, 1]")?;
        check("clip", self.clip, self.clip > 0.0 && self.clip.is_finite(), "positive and finite")?;
        let entropy = self.entropy_coefficient;
        let bounded = entropy >= 0.0 && entropy.is_finite();
        check("entropy_coefficient", entropy, bounded, "finite and not negative")?;
        // The rules of the fields that both agents have.
        SacConfig {
            hidden: self.hidden,
            lr: self.lr,
            adam_epsilon: self.adam_epsilon,
            batch_size: self.batch_size,
            gamma: self.gamma,
            grad_clip: self.grad_clip,
            ..SacConfig::paper(self.state_dim, 1)
        }
        .validate()
    }
}
