//! Proximal Policy Optimisation with a categorical actor (Schulman et al. 2017, arXiv 1707.06347): the on-policy rival of
//! Table 21.

mod checkpoint;
mod config;
mod update;

use burn::tensor::Device;
use rand_chacha::ChaCha8Rng;

pub use config::PpoConfig;
pub use update::PpoMetrics;

use crate::{
    agent::{ActMode, check_row},
    categorical::{CategoricalNet, check_action, check_mask, full_mask},
    error::{Error, Result},
    learner::stream,
    networks::{Networks, Optimizer},
    shape::MlpShape,
};

/// One step of an episode, as [`Ppo::act`] chose it.
#[derive(Clone, Debug, PartialEq)]
pub struct PpoStep {
    /// State before the action, `[state_dim]`.
    pub state: Vec<f32>,
    /// Which actions were allowed, `[actions]`; empty if all were.
    pub mask: Vec<bool>,
    /// What was done, and how likely it was.
    pub choice: Choice,
    /// Reward for the action.
    pub reward: f32,
}

/// An action with the probability that it was chosen with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choice {
    /// Index of the action.
    pub action: usize,
    /// ln π(a|s) in nats under the policy that chose it.
    pub log_prob: f64,
}

/// How an episode ended.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// It has no future.
    Terminated,
    /// It was cut off in front of this state, `[state_dim]`, whose value stands for what was not seen.
    Truncated(Vec<f32>),
}

/// A PPO agent: actor, one value function, and the episodes gathered since the last update.
#[derive(Clone, Debug)]
pub struct Ppo {
    config: PpoConfig,
    /// π_φ: logits of the actions.
    actor: Networks,
    /// V_θ
    critic: Networks,
    actor_adam: Optimizer,
    critic_adam: Optimizer,
    rollout: Rollout,
    learn_rng: ChaCha8Rng,
    explore_rng: ChaCha8Rng,
    updates: u64,
    policy: Option<CategoricalNet>,
}

/// Steps gathered, with their advantages.
#[derive(Clone, Debug, Default)]
struct Rollout {
    /// `[step, state]`
    states: Vec<f32>,
    /// `[step, action]`
    masks: Vec<f32>,
    actions: Vec<usize>,
    log_probs: Vec<f64>,
    advantages: Vec<f64>,
    /// Targets of the value function: advantage plus the value at the time.
    returns: Vec<f64>,
}

impl Ppo {
    /// A new agent with seeded random networks. `device` is a plain one.
    ///
    /// # Errors
    /// [`Error::Config`] if the configuration breaks a rule.
    pub fn new(config: PpoConfig, device: &Device) -> Result<Self> {
        config.validate()?;
        let mut init_rng = stream(config.seed, 0);
        let actor = config.shape(config.actions).init(&mut init_rng);
        let critic = config.shape(1).init(&mut init_rng);
        Ok(Self::assemble(config, actor, critic, device))
    }

    fn assemble(config: PpoConfig, actor: Vec<Vec<f32>>, critic: Vec<Vec<f32>>, device: &Device) -> Self {
        let actor = Networks::new(config.shape(config.actions), actor, device);
        let critic = Networks::new(config.shape(1), critic, device);
        Self {
            actor_adam: Optimizer::new(&actor, config.adam_epsilon, config.grad_clip),
            critic_adam: Optimizer::new(&critic, config.adam_epsilon, config.grad_clip),
            actor,
            critic,
            rollout: Rollout::default(),
            learn_rng: stream(config.seed, 1),
            explore_rng: stream(config.seed, 2),
            updates: 0,
            policy: None,
            config,
        }
    }

    /// Chooses an action that `mask` allows for `state` `[state_dim]`. An empty mask allows all.
    ///
    /// # Errors
    /// [`Error::Length`] or [`Error::Value`] if `state` or `mask` has the wrong length or is not finite;
    /// [`Error::Mask`] if no action is allowed; [`Error::Device`] if the actor cannot be read back.
    pub fn act(&mut self, state: &[f32], mask: &[bool], mode: ActMode) -> Result<Choice> {
        check_row("state", state, self.config.state_dim, f32::is_finite, "a finite number")?;
        let policy = CategoricalNet::cached(&mut self.policy, &self.actor)?;
        let (action, log_prob) = policy.choose(state, mask, mode, &mut self.explore_rng)?;
        Ok(Choice { action, log_prob })
    }

    /// Adds a finished episode of the present policy, with its advantages (GAE) under the present value function.
    ///
    /// # Errors
    /// [`Error::Episode`] if it is empty; [`Error::Length`], [`Error::Value`] or [`Error::Mask`] if a step is malformed;
    /// [`Error::Device`] if values cannot be read. Nothing is added then.
    pub fn push_episode(&mut self, episode: &[PpoStep], end: &End) -> Result<()> {
        if episode.is_empty() {
            return Err(Error::Episode { len: 0, problem: "holds nothing" });
        }
        let finite = f32::is_finite;
        for (index, step) in episode.iter().enumerate() {
            check_row("state", &step.state, self.config.state_dim, finite, "a finite number")?;
            check_row("reward", &[step.reward], 1, finite, "a finite number")?;
            check_mask(&step.mask, self.config.actions, index)?;
            let Choice { action, log_prob } = step.choice;
            check_action(|| format!("action of step {index}"), action, &step.mask, self.config.actions)?;
            // Not `>`: a NaN must fail.
            let is_log_prob = log_prob <= 0.0 && log_prob.is_finite();
            if !is_log_prob {
                let what = format!("log_prob of step {index}");
                return Err(Error::Value { what, value: log_prob, rule: "finite and not above 0" });
            }
        }
        let mut states: Vec<f32> = episode.iter().flat_map(|step| &step.state).copied().collect();
        if let End::Truncated(after) = end {
            check_row("state after the episode", after, self.config.state_dim, finite, "a finite number")?;
            states.extend_from_slice(after);
        }
        let mut values: Vec<f64> = self.critic.forward(&states)?.into_iter().map(f64::from).collect();
        values.resize(episode.len() + 1, 0.0);
        let rewards: Vec<f64> = episode.iter().map(|step| f64::from(step.reward)).collect();
        let advantages = advantages(&rewards, &values, self.config.gamma, self.config.lambda);

        let rollout = &mut self.rollout;
        rollout.states.extend_from_slice(&states[..episode.len() * self.config.state_dim]);
        for (step, (advantage, value)) in episode.iter().zip(advantages.into_iter().zip(values)) {
            rollout.masks.extend(full_mask(&step.mask, self.config.actions));
            rollout.actions.push(step.choice.action);
            rollout.log_probs.push(step.choice.log_prob);
            rollout.returns.push(advantage + value);
            rollout.advantages.push(advantage);
        }
        Ok(())
    }

    /// The policy, to save it or to act without the agent.
    ///
    /// # Errors
    /// [`Error::Device`] if the actor cannot be read back.
    pub fn policy(&self) -> Result<CategoricalNet> {
        Ok(CategoricalNet::new(self.actor.host_copy()?))
    }

    /// The configuration.
    pub fn config(&self) -> &PpoConfig {
        &self.config
    }

    /// Gradient steps taken.
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// Steps gathered since the last update.
    pub fn rollout_len(&self) -> usize {
        self.rollout.actions.len()
    }
}

impl PpoConfig {
    fn shape(&self, outputs: usize) -> MlpShape {
        MlpShape { networks: 1, inputs: self.state_dim, hidden: self.hidden, outputs }
    }
}

/// Generalised advantage estimation (Schulman et al. 2015, Eq. 16): Σ (γ λ)^k δ_{t+k} with
/// δ_t = r_t + γ V(s_{t+1}) - V(s_t). `values` has one element more than `rewards`, the last being what follows.
fn advantages(rewards: &[f64], values: &[f64], gamma: f64, lambda: f64) -> Vec<f64> {
    let mut advantages = vec![0.0; rewards.len()];
    let mut following = 0.0;
    for t in (0..rewards.len()).rev() {
        let delta = rewards[t] + gamma * values[t + 1] - values[t];
        following = delta + gamma * lambda * following;
        advantages[t] = following;
    }
    advantages
}

#[cfg(test)]
#[path = "ppo/tests.rs"]
mod tests;
