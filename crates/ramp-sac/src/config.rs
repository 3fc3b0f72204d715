//! Every decision of the algorithm, one documented field each.

use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    squashed::Squash,
};

/// Widest layer, state or action that a configuration may ask for, so that a hostile file cannot
/// make the agent allocate without bound.
pub(crate) const MAX_WIDTH: usize = 1 << 14;

/// What the second half of the actor's output means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Head {
    /// log σ, as Table 27 prints ("mean and log-std"). The default.
    LogStd,
    /// log σ², as Section 3.3.1 prints ("mean and log-variance"): σ = exp(x / 2).
    LogVar,
}

/// What the critics regress on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetKind {
    /// Soft one-step bootstrap (Eq. 18): y = r + γ (1 - d) (min Q̄(s', a') - α log π(a'|s')).
    Td0,
    /// The return that was really collected from this transition on, discounted by γ and stored with
    /// it: y = Σ γ^k r_{t+k}. No bootstrap, no entropy bonus, no target networks. One regression
    /// step carries a terminal reward to every step of the episode, which Td0 needs hundreds of
    /// target-network delays for. A truncated episode counts as if nothing followed it.
    MonteCarlo,
    /// The rewards of this many steps, then the soft bootstrap of [`TargetKind::Td0`]; fewer steps where the episode
    /// ends. The rewards carry no entropy bonus of their own.
    NStep(usize),
}

impl TargetKind {
    /// Steps whose rewards are summed.
    pub(crate) const fn lookahead(self) -> usize {
        match self {
            Self::NStep(steps) => steps,
            Self::Td0 | Self::MonteCarlo => 1,
        }
    }

    /// Whether targets are built from the critics' averages, not from a stored return.
    pub(crate) fn bootstraps(self) -> bool {
        self != Self::MonteCarlo
    }
}

/// Configuration of an [`Agent`](crate::Agent). Defaults are those of [`SacConfig::paper`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SacConfig {
    /// Elements of a state. Paper: 11 (Section 3.2).
    pub state_dim: usize,
    /// Elements of an action, each in the interval of `squash`. Paper: 1 (Section 3.1.2).
    pub action_dim: usize,
    /// Units of the three hidden layers of actor and critics; LayerNorm follows the first two.
    /// Default `[512, 512, 256]` (Tables 9 and 27).
    pub hidden: [usize; 3],
    /// Adam's step size for actor, critics and temperature. Default 3e-4 (Table 25).
    pub lr: f64,
    /// Adam's ε. Default 1e-8 (the value of the Adam paper and of PyTorch; Burn's own is 1e-5,
    /// which would swamp the small gradients of a nearly converged critic).
    pub adam_epsilon: f64,
    /// Transitions per gradient step. Default 128 (Table 26).
    pub batch_size: usize,
    /// Discount γ in [0, 1]. Default 0.99 (Table 25). With a reward at the end of a finite episode
    /// only, 1.0 is the sound choice: 0.99 leaves a tenth of it after 224 steps.
    pub gamma: f64,
    /// Target update rate τ in (0, 1]: θ̄ ← (1 - τ) θ̄ + τ θ. Default 0.005 (Table 25).
    pub tau: f64,
    /// Largest global L2 norm of one network's gradient; 0 turns clipping off. Default 1.0
    /// (Table 25). The two critics are clipped apart from each other.
    pub grad_clip: f64,
    /// Entropy coefficient α at the start. Default 0.2 (Table 25). May be 0 if `auto_alpha` is off.
    pub init_alpha: f64,
    /// Whether α is learned so that the policy's entropy approaches `target_entropy`. Default true
    /// (Section 3.3.3).
    pub auto_alpha: bool,
    /// Target entropy H̄ in nats of the action in (0, 1)^A. Default -1 (Table 25). The largest that
    /// one sigmoid-squashed Gaussian can reach is -0.0095; -1 means σ = 0.37 before the sigmoid at
    /// µ = 0; the equivalent of the usual tanh policy's -1 is -1 - ln 2 = -1.69.
    pub target_entropy: f64,
    /// Transitions that the replay buffer holds before it overwrites the oldest. Default 30 000
    /// (Table 26).
    pub replay_capacity: usize,
    /// Meaning of the spread that the actor outputs. Default [`Head::LogStd`] (Table 27).
    pub head: Head,
    /// Smallest value of the head's quantity (log σ, or log σ² with [`Head::LogVar`]). The raw output
    /// x is squeezed smoothly: min + (max - min) (tanh x + 1) / 2. Default -5 (CleanRL; the paper
    /// states no bound).
    pub log_std_min: f64,
    /// Largest value of the head's quantity. Default 2 (CleanRL).
    pub log_std_max: f64,
    /// What squashes an action, and with it the interval of its elements. Default [`Squash::Sigmoid`]
    /// (Section 3.3.1).
    #[serde(default)]
    pub squash: Squash,
    /// What the critics regress on. Default [`TargetKind::Td0`] (Eq. 18).
    pub target: TargetKind,
    /// Seed of every random choice: initial weights, exploration, minibatches. Default 0.
    pub seed: u64,
}

impl SacConfig {
    /// The configuration of Tables 25 to 27.
    pub fn paper(state_dim: usize, action_dim: usize) -> Self {
        Self {
            state_dim,
            action_dim,
            hidden: [512, 512, 256],
            lr: 3e-4,
            adam_epsilon: 1e-8,
            batch_size: 128,
            gamma: 0.99,
            tau: 0.005,
            grad_clip: 1.0,
            init_alpha: 0.2,
            auto_alpha: true,
            target_entropy: -1.0,
            replay_capacity: 30_000,
            head: Head::LogStd,
            log_std_min: -5.0,
            log_std_max: 2.0,
            squash: Squash::Sigmoid,
            target: TargetKind::Td0,
            seed: 0,
        }
    }

    /// Checks every field against the range in its documentation.
    ///
    /// # Errors
    /// [`Error::Config`] names the first field that is out of range.
    pub fn validate(&self) -> Result<()> {
        let width = "between 1 and 16384";
        check("state_dim", self.state_dim, (1..=MAX_WIDTH).contains(&self.state_dim), width)?;
        check("action_dim", self.action_dim, (1..=MAX_WIDTH).contains(&self.action_dim), width)?;
        for units in self.hidden {
            check("hidden", units, (1..=MAX_WIDTH).contains(&units), width)?;
        }
        let positive = "positive and finite";
        check("lr", self.lr, self.lr > 0.0 && self.lr.is_finite(), positive)?;
        // Adam keeps ε in f32: a smaller one would be zero there.
        let epsilon = self.adam_epsilon;
        let fits = (f64::from(f32::MIN_POSITIVE)..=1.0).contains(&epsilon);
        check("adam_epsilon", epsilon, fits, "between 1.2e-38 and 1")?;
        let batch = (1..=MAX_WIDTH).contains(&self.batch_size) && self.batch_size <= self.replay_capacity;
        check("batch_size", self.batch_size, batch, "between 1 and 16384 and at most replay_capacity")?;
        check("gamma", self.gamma, (0.0..=1.0).contains(&self.gamma), "in [0, 1]")?;
        check("tau", self.tau, self.tau > 0.0 && self.tau <= 1.0, "in (0, 1]")?;
        let clip = self.grad_clip >= 0.0 && self.grad_clip.is_finite();
        check("grad_clip", self.grad_clip, clip, "finite and not negative")?;
        let alpha = self.init_alpha.is_finite()
            && if self.auto_alpha { self.init_alpha > 0.0 } else { self.init_alpha >= 0.0 };
        check("init_alpha", self.init_alpha, alpha, "positive and finite, or 0 with auto_alpha off")?;
        check("target_entropy", self.target_entropy, self.target_entropy.is_finite(), "finite")?;
        let bounds = self.log_std_min >= -20.0 && self.log_std_min <= self.log_std_max;
        check("log_std_min", self.log_std_min, bounds, "at least -20 and at most log_std_max")?;
        check("log_std_max", self.log_std_max, self.log_std_max <= 10.0, "at most 10")?;
        let steps = self.target.lookahead();
        check("target", steps, (1..=MAX_WIDTH).contains(&steps), "at least one step and at most 16384")
    }

    /// Bounds of log σ, whichever quantity the head outputs.
    pub(crate) fn log_std_range(&self) -> [f64; 2] {
        match self.head {
            Head::LogStd => [self.log_std_min, self.log_std_max],
            // Squeezing log σ² into [lo, hi] and halving it is squeezing log σ into [lo/2, hi/2].
            Head::LogVar => [self.log_std_min / 2.0, self.log_std_max / 2.0],
        }
    }
}

pub(crate) fn check(
    field: &'static str,
    value: impl std::fmt::Display,
    holds: bool,
    rule: &'static str,
) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::Config { field, value: value.to_string(), rule }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paper_values_are_tables_25_to_27() {
        let config = SacConfig::paper(11, 1);
        config.validate().unwrap();
        assert_eq!(config.hidden, [512, 512, 256]);
        assert_eq!((config.lr, config.gamma, config.tau, config.grad_clip), (3e-4, 0.99, 0.005, 1.0));
        assert_eq!((config.batch_size, config.replay_capacity), (128, 30_000));
        assert_eq!((config.init_alpha, config.auto_alpha, config.target_entropy), (0.2, true, -1.0));
    }

    #[test]
    fn each_bad_field_is_named() {
        type Break = fn(&mut SacConfig);
        let cases: [(&str, Break); 15] = [
            ("state_dim", |c| c.state_dim = 0),
            ("action_dim", |c| c.action_dim = usize::MAX),
            ("hidden", |c| c.hidden[1] = 0),
            ("lr", |c| c.lr = f64::NAN),
            ("adam_epsilon", |c| c.adam_epsilon = 1e-60),
            ("batch_size", |c| c.batch_size = 40_000),
            ("batch_size", |c| c.replay_capacity = 3),
            ("gamma", |c| c.gamma = 1.01),
            ("tau", |c| c.tau = 0.0),
            ("grad_clip", |c| c.grad_clip = -1.0),
            ("init_alpha", |c| c.init_alpha = 0.0),
            ("target_entropy", |c| c.target_entropy = f64::INFINITY),
            ("log_std_min", |c| c.log_std_min = 3.0),
            ("log_std_max", |c| c.log_std_max = 11.0),
            ("target", |c| c.target = TargetKind::NStep(0)),
        ];
        for (expected, spoil) in cases {
            let mut config = SacConfig::paper(11, 1);
            spoil(&mut config);
            match config.validate() {
                Err(Error::Config { field, .. }) => assert_eq!(field, expected),
                other => panic!("{expected}: {other:?}"),
            }
        }
    }

    #[test]
    fn log_variance_bounds_are_halved() {
        let config = SacConfig { head: Head::LogVar, ..SacConfig::paper(1, 1) };
        assert_eq!(config.log_std_range(), [-2.5, 1.0]);
    }
}
