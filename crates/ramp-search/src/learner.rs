//! The agents that walk over wide states, behind one face.

use std::path::Path;

use burn::tensor::Device;
use ramp_sac::{ActMode, CategoricalNet, Choice, DiscreteAgent, DiscreteTransition, End, Ppo, PpoStep};

use crate::{error::Result, history::MeanLearning, walk_config::AgentConfig, wide_walk::WideStep};

/// A decision with the probability that it was taken with.
#[derive(Clone, Debug)]
pub(crate) struct Decided {
    pub(crate) step: WideStep,
    /// ln π in nats; of no use to an agent that learns off-policy.
    pub(crate) log_prob: f64,
}

/// An agent of either kind.
// One lives at a time: the difference in size does not matter.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug)]
pub(crate) enum Learner {
    Discrete(DiscreteAgent),
    Ppo(Ppo),
}

impl Learner {
    pub(crate) fn new(
        config: &AgentConfig,
        state_dim: usize,
        actions: usize,
        device: &Device,
    ) -> Result<Self> {
        Ok(match config {
            AgentConfig::Discrete(config) => {
                let config = ramp_sac::DiscreteConfig { state_dim, actions, ..config.clone() };
                Self::Discrete(DiscreteAgent::new(config, device)?)
            }
            AgentConfig::Ppo(config) => {
                let config = ramp_sac::PpoConfig { state_dim, actions, ..config.clone() };
                Self::Ppo(Ppo::new(config, device)?)
            }
        })
    }

    /// An action that the mask allows, drawn from the policy, and its ln π. The discrete agent does not tell the latter.
    pub(crate) fn sample(&mut self, state: &[f32], mask: &[bool]) -> Result<(usize, f64)> {
        Ok(match self {
            Self::Discrete(agent) => (agent.act(state, mask, ActMode::Sample)?, 0.0),
            Self::Ppo(agent) => {
                let Choice { action, log_prob } = agent.act(state, mask, ActMode::Sample)?;
                (action, log_prob)
            }
        })
    }

    /// Stores an episode; `rewards` has one number for each step.
    pub(crate) fn remember(&mut self, steps: &[Decided], rewards: &[f64]) -> Result<()> {
        if steps.is_empty() {
            return Ok(());
        }
        match self {
            Self::Discrete(agent) => {
                let last = steps.len() - 1;
                let transitions: Vec<DiscreteTransition> = steps
                    .iter()
                    .zip(rewards)
                    .enumerate()
                    .map(|(at, (Decided { step, .. }, &reward))| {
                        let next = steps.get(at + 1).map(|next| &next.step);
                        DiscreteTransition {
                            state: step.state.clone(),
                            mask: step.mask.clone(),
                            action: step.action,
                            reward: reward as f32,
                            next_state: next.map_or_else(|| vec![0.0; step.state.len()], |s| s.state.clone()),
                            next_mask: next.map_or_else(Vec::new, |s| s.mask.clone()),
                            terminated: at == last,
                            truncated: false,
                        }
                    })
                    .collect();
                Ok(agent.push_episode(&transitions)?)
            }
            Self::Ppo(agent) => {
                let steps: Vec<PpoStep> = steps
                    .iter()
                    .zip(rewards)
                    .map(|(Decided { step, log_prob }, &reward)| PpoStep {
                        state: step.state.clone(),
                        mask: step.mask.clone(),
                        choice: Choice { action: step.action, log_prob: *log_prob },
                        reward: reward as f32,
                    })
                    .collect();
                Ok(agent.push_episode(&steps, &End::Terminated)?)
            }
        }
    }

    /// Learns: some gradient steps, or one update of PPO.
    pub(crate) fn update(&mut self, times: usize, seen: &mut MeanLearning) -> Result<()> {
        match self {
            Self::Discrete(agent) => {
                for _ in 0..times {
                    if let Some(metrics) = agent.update()? {
                        seen.add(metrics.actor_loss, metrics.critic_loss, metrics.entropy);
                    }
                }
            }
            Self::Ppo(agent) => {
                if let Some(metrics) = agent.update()? {
                    seen.add(metrics.actor_loss, metrics.critic_loss, metrics.entropy);
                }
            }
        }
        Ok(())
    }

    pub(crate) fn alpha(&self) -> f64 {
        match self {
            Self::Discrete(agent) => agent.alpha(),
            Self::Ppo(_) => 0.0,
        }
    }

    pub(crate) fn policy(&self) -> Result<CategoricalNet> {
        Ok(match self {
            Self::Discrete(agent) => agent.policy()?,
            Self::Ppo(agent) => agent.policy()?,
        })
    }

    pub(crate) fn save(&self, path: &Path) -> Result<()> {
        match self {
            Self::Discrete(agent) => agent.save(path)?,
            Self::Ppo(agent) => agent.save(path)?,
        }
        Ok(())
    }

    /// Reads an agent of the same kind.
    pub(crate) fn load_like(&self, path: &Path, device: &Device) -> Result<Self> {
        Ok(match self {
            Self::Discrete(_) => Self::Discrete(DiscreteAgent::load(path, device)?),
            Self::Ppo(_) => Self::Ppo(Ppo::load(path, device)?),
        })
    }
}
