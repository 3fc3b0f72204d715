//! The agents that walk over wide states, behind one face.

use std::path::Path;

use burn::tensor::Device;
use ramp_sac::{
    ActMode, ActorNet, Agent, Choice, DiscreteAgent, DiscreteTransition, End, Ppo, PpoStep, SacConfig,
    Transition,
};

use crate::{
    error::Result,
    history::MeanLearning,
    policy::Body,
    projection::{bin_centre, equal_bins},
    walk_config::AgentConfig,
    wide_walk::{WideStep, WideWalk},
};

/// A decision with the probability that it was taken with.
#[derive(Clone, Debug)]
pub(crate) struct Decided {
    pub(crate) step: WideStep,
    /// ln π in nats; of no use to an agent that learns off-policy.
    pub(crate) log_prob: f64,
    /// The action in (0, 1) of a continuous agent.
    pub(crate) raw: f64,
}

impl Decided {
    /// A decision that nobody sampled: a demonstration.
    pub(crate) fn shown(step: WideStep, walk: &WideWalk<'_>) -> Self {
        let choice = walk.choice(step.slot, step.action).unwrap_or(0);
        let raw = bin_centre(choice, walk.problem.slots()[step.slot].choices.len());
        Self { step, log_prob: 0.0, raw }
    }
}

/// An agent of either kind.
// One lives at a time: the difference in size does not matter.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug)]
pub(crate) enum Learner {
    Continuous(Agent),
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
            AgentConfig::Continuous(config) => {
                let config = SacConfig { state_dim, action_dim: 1, ..config.clone() };
                Self::Continuous(Agent::new(config, device)?)
            }
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

    /// A decision that the mask allows, drawn from the policy: the action of the set, ln π, and the action in (0, 1).
    pub(crate) fn sample(
        &mut self,
        walk: &WideWalk<'_>,
        slot: usize,
        state: &[f32],
        mask: &[bool],
    ) -> Result<(usize, f64, f64)> {
        Ok(match self {
            Self::Continuous(agent) => {
                let raw = f64::from(agent.act(state, ActMode::Sample)?[0]);
                let wanted = equal_bins(raw, walk.problem.slots()[slot].choices.len());
                // The largest format that there is room for, where the one asked for is too large.
                let allowed = |choice: &usize| mask[walk.action(slot, *choice)];
                let choice = (0..=wanted).rev().find(allowed).unwrap_or(0);
                (walk.action(slot, choice), 0.0, raw)
            }
            Self::Discrete(agent) => (agent.act(state, mask, ActMode::Sample)?, 0.0, 0.0),
            Self::Ppo(agent) => {
                let Choice { action, log_prob } = agent.act(state, mask, ActMode::Sample)?;
                (action, log_prob, 0.0)
            }
        })
    }

    /// Stores an episode; `rewards` has one number for each step.
    pub(crate) fn remember(&mut self, steps: &[Decided], rewards: &[f64]) -> Result<()> {
        if steps.is_empty() {
            return Ok(());
        }
        match self {
            Self::Continuous(agent) => {
                let last = steps.len() - 1;
                let transition = |(at, (decided, &reward)): (usize, (&Decided, &f64))| {
                    let next = steps.get(at + 1).map(|next| next.step.state.clone());
                    Transition {
                        state: decided.step.state.clone(),
                        action: vec![decided.raw as f32],
                        reward: reward as f32,
                        next_state: next.unwrap_or_else(|| vec![0.0; decided.step.state.len()]),
                        terminated: at == last,
                        truncated: false,
                    }
                };
                Ok(agent.push_episode(steps.iter().zip(rewards).enumerate().map(transition).collect())?)
            }
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
                    .map(|(Decided { step, log_prob, .. }, &reward)| PpoStep {
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
            Self::Continuous(agent) => {
                for _ in 0..times {
                    if let Some(metrics) = agent.update()? {
                        seen.add(metrics.actor_loss, metrics.critic_loss, metrics.entropy);
                    }
                }
            }
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
            Self::Continuous(agent) => agent.alpha(),
            Self::Discrete(agent) => agent.alpha(),
            Self::Ppo(_) => 0.0,
        }
    }

    /// The policy without the agent.
    pub(crate) fn body(&self) -> Result<Body> {
        Ok(match self {
            Self::Continuous(agent) => Body::Continuous(ActorNet::from_tensors(&agent.actor_tensors())?),
            Self::Discrete(agent) => Body::Categorical(agent.policy()?),
            Self::Ppo(agent) => Body::Categorical(agent.policy()?),
        })
    }

    pub(crate) fn save(&self, path: &Path) -> Result<()> {
        match self {
            Self::Continuous(agent) => agent.save(path)?,
            Self::Discrete(agent) => agent.save(path)?,
            Self::Ppo(agent) => agent.save(path)?,
        }
        Ok(())
    }

    /// Reads an agent of the same kind.
    pub(crate) fn load_like(&self, path: &Path, device: &Device) -> Result<Self> {
        Ok(match self {
            Self::Continuous(_) => Self::Continuous(Agent::load(path, device)?),
            Self::Discrete(_) => Self::Discrete(DiscreteAgent::load(path, device)?),
            Self::Ppo(_) => Self::Ppo(Ppo::load(path, device)?),
        })
    }
}
