//! Soft Actor-Critic with a categorical actor: what it holds, and how it acts. How it learns is in `discrete/update.rs`.

mod checkpoint;
mod config;
mod update;

use burn::tensor::Device;
use rand_chacha::ChaCha8Rng;

pub use config::DiscreteConfig;

use crate::{
    actor_net::NamedTensor,
    agent::{ActMode, agree, check_row, stream},
    categorical::{CategoricalNet, check_mask, floats},
    error::{Error, Result},
    networks::{Networks, Optimizer, Wrt},
    replay::{Replay, Step, Widths},
    shape::MlpShape,
    temperature::Temperature,
};

/// One step of an episode of a [`DiscreteAgent`].
#[derive(Clone, Debug, PartialEq)]
pub struct DiscreteTransition {
    /// State before the action, `[state_dim]`.
    pub state: Vec<f32>,
    /// Which actions were allowed, `[actions]`; empty if all were.
    pub mask: Vec<bool>,
    /// Index of the action.
    pub action: usize,
    /// Reward for the action.
    pub reward: f32,
    /// State after the action, `[state_dim]`. At a truncation the real next state, not a reset one;
    /// after a terminal step any finite values.
    pub next_state: Vec<f32>,
    /// Which actions are allowed then, `[actions]`; empty if all are.
    pub next_mask: Vec<bool>,
    /// The episode is over and has no future: the target is the reward alone.
    pub terminated: bool,
    /// The episode was cut off, e.g. by a time limit: the target still bootstraps.
    pub truncated: bool,
}

/// A Soft Actor-Critic agent that chooses one of a few actions.
///
/// Expectations over actions are sums, not samples: targets, actor and temperature see every action's value, so that
/// an update needs no noise and the temperature no density. All randomness comes from host generators seeded by
/// [`DiscreteConfig::seed`].
#[derive(Clone, Debug)]
pub struct DiscreteAgent {
    config: DiscreteConfig,
    device: Device,
    /// π_φ: logits of the actions.
    actor: Networks,
    /// Q_θ₁ and Q_θ₂ of every action.
    critics: Networks,
    /// Q_θ̄₁ and Q_θ̄₂
    targets: Networks,
    actor_adam: Optimizer,
    critic_adam: Optimizer,
    temperature: Temperature,
    replay: Replay,
    learn_rng: ChaCha8Rng,
    explore_rng: ChaCha8Rng,
    updates: u64,
    /// Host copy of the actor, dropped by every change to it.
    policy: Option<CategoricalNet>,
}

impl DiscreteAgent {
    /// A new agent with seeded random networks. `device` is a plain one.
    ///
    /// # Errors
    /// [`Error::Config`] if the configuration breaks a rule.
    pub fn new(config: DiscreteConfig, device: &Device) -> Result<Self> {
        config.validate()?;
        let mut init_rng = stream(config.seed, 0);
        let actor = config.shape(1).init(&mut init_rng);
        let critics = config.shape(2).init(&mut init_rng);
        Ok(Self::assemble(config, actor, critics.clone(), critics, device))
    }

    /// A new agent around a policy that was trained before: critics, targets, temperature and replay start fresh.
    ///
    /// # Errors
    /// As [`DiscreteAgent::new`] and [`CategoricalNet::from_tensors`]; [`Error::Incompatible`] if sizes differ from the
    /// configuration's.
    pub fn from_actor(config: DiscreteConfig, device: &Device, tensors: &[NamedTensor]) -> Result<Self> {
        let mut agent = Self::new(config, device)?;
        let net = CategoricalNet::from_tensors(tensors)?;
        agree("state size", &net.state_dim(), &agent.config.state_dim)?;
        agree("number of actions", &net.actions(), &agent.config.actions)?;
        agree("hidden sizes", &net.hidden(), &agent.config.hidden)?;
        agent.actor = Networks::from_host(net.net(), &agent.device);
        agent.policy = Some(net);
        Ok(agent)
    }

    fn assemble(
        config: DiscreteConfig,
        actor: Vec<Vec<f32>>,
        critics: Vec<Vec<f32>>,
        targets: Vec<Vec<f32>>,
        device: &Device,
    ) -> Self {
        let device = device.clone().without_autodiff();
        let actor = Networks::new(config.shape(1), actor, &device);
        let critics = Networks::new(config.shape(2), critics, &device);
        let bounds = [0.0, (config.actions - 1) as f32];
        let widths = Widths { state: config.state_dim, action: 1, mask: config.actions, bounds };
        Self {
            actor_adam: Optimizer::new(&actor, config.adam_epsilon, config.grad_clip),
            critic_adam: Optimizer::new(&critics, config.adam_epsilon, config.grad_clip),
            actor,
            critics,
            targets: Networks::new(config.shape(2), targets, &device),
            temperature: Temperature::new(config.init_alpha, config.auto_alpha),
            replay: Replay::new(widths, config.replay_capacity),
            learn_rng: stream(config.seed, 1),
            explore_rng: stream(config.seed, 2),
            updates: 0,
            policy: None,
            device,
            config,
        }
    }

    /// Chooses an action that `mask` allows for `state` `[state_dim]`. An empty mask allows all.
    ///
    /// # Errors
    /// [`Error::Length`] or [`Error::Value`] if `state` or `mask` has the wrong length or is not finite;
    /// [`Error::Mask`] if no action is allowed; [`Error::Device`] if the actor cannot be read back.
    pub fn act(&mut self, state: &[f32], mask: &[bool], mode: ActMode) -> Result<usize> {
        check_row("state", state, self.config.state_dim, f32::is_finite, "a finite number")?;
        let policy = match self.policy.take() {
            Some(policy) => policy,
            None => CategoricalNet::new(self.actor.host_copy()?),
        };
        let policy = self.policy.insert(policy);
        Ok(policy.choose(state, mask, mode, &mut self.explore_rng)?.0)
    }

    /// Stores a finished episode: only its last transition is terminated or truncated.
    ///
    /// # Errors
    /// [`Error::Episode`], [`Error::Length`], [`Error::Value`] or [`Error::Mask`] say what is wrong with it; nothing is
    /// stored then.
    pub fn push_episode(&mut self, episode: &[DiscreteTransition]) -> Result<()> {
        let actions = self.config.actions;
        let full = |mask: &[bool]| if mask.is_empty() { vec![1.0; actions] } else { floats(mask) };
        let mut rows = Vec::with_capacity(episode.len());
        for (index, step) in episode.iter().enumerate() {
            check_mask(&step.mask, actions, index)?;
            check_mask(&step.next_mask, actions, index)?;
            if step.action >= actions || !step.mask.get(step.action).copied().unwrap_or(true) {
                let what = format!("action of transition {index}");
                return Err(Error::Value {
                    what,
                    value: step.action as f64,
                    rule: "the index of an allowed action",
                });
            }
            rows.push((full(&step.mask), full(&step.next_mask), [step.action as f32]));
        }
        let steps: Vec<Step<'_>> = episode
            .iter()
            .zip(&rows)
            .map(|(step, (mask, next_mask, action))| Step {
                state: &step.state,
                action,
                masks: [mask, next_mask],
                reward: step.reward,
                next_state: &step.next_state,
                terminated: step.terminated,
                truncated: step.truncated,
            })
            .collect();
        self.replay.push_episode(&steps, self.config.gamma)
    }

    /// The smaller of both critics' values of every action, `[actions]` for each state.
    ///
    /// # Errors
    /// [`Error::Length`] or [`Error::Value`] if a state is malformed; [`Error::Device`] if the values cannot be read.
    pub fn q_values(&self, states: &[Vec<f32>]) -> Result<Vec<Vec<f32>>> {
        self.check_states(states)?;
        if states.is_empty() {
            return Ok(Vec::new());
        }
        let q = self.critics.forward(&states.concat())?;
        let least: Vec<f32> = crate::critic::least(&q).into_iter().map(|(q, _)| q).collect();
        Ok(least.chunks(self.config.actions).map(<[f32]>::to_vec).collect())
    }

    /// Fits the policy to `actions` with `steps` minibatches of cross entropy, and returns its mean over all pairs
    /// afterwards, in nats. `masks` is empty or has a mask for each pair. Only the actor changes, by an Adam of its own.
    ///
    /// # Errors
    /// [`Error::Length`], [`Error::Value`] or [`Error::Mask`] if the pairs are malformed or there are none;
    /// [`Error::Config`] if `lr` is not positive; [`Error::Diverged`] if the cross entropy is not finite;
    /// [`Error::Device`] if the actor cannot be read.
    pub fn clone_behaviour(
        &mut self,
        states: &[Vec<f32>],
        masks: &[Vec<bool>],
        actions: &[usize],
        steps: usize,
        lr: f64,
    ) -> Result<f64> {
        use rand::Rng;
        self.check_states(states)?;
        let expected = states.len();
        for (what, found) in [("list of actions", actions.len()), ("list of masks", masks.len())] {
            if found != expected && !(what == "list of masks" && found == 0) {
                return Err(Error::Length { what, found, expected });
            }
        }
        if states.is_empty() {
            return Err(Error::Length { what: "list of states", found: 0, expected: 1 });
        }
        if !(lr > 0.0 && lr.is_finite()) {
            return Err(Error::Config { field: "lr", value: lr.to_string(), rule: "positive and finite" });
        }
        let n = self.config.actions;
        let mask = |row: usize| masks.get(row).map_or(&[][..], Vec::as_slice);
        for (row, &action) in actions.iter().enumerate() {
            check_mask(mask(row), n, row)?;
            if action >= n || !mask(row).get(action).copied().unwrap_or(true) {
                let what = format!("action {row}");
                return Err(Error::Value {
                    what,
                    value: action as f64,
                    rule: "the index of an allowed action",
                });
            }
        }
        let batch = self.config.batch_size.min(states.len());
        let mut adam = Optimizer::new(&self.actor, self.config.adam_epsilon, self.config.grad_clip);
        for _ in 0..steps {
            let picks: Vec<usize> =
                (0..batch).map(|_| self.learn_rng.random_range(0..states.len())).collect();
            let input: Vec<f32> = picks.iter().flat_map(|&row| &states[row]).copied().collect();
            let (logits, tape) = self.actor.forward_tape(&input, Wrt::Params)?;
            let mut outer = Vec::with_capacity(logits.len());
            for (logits, &row) in logits.chunks_exact(n).zip(&picks) {
                let policy = crate::categorical::Categorical::new(logits, &floats(mask(row)));
                let taken = |at: usize| if at == actions[row] { 1.0 } else { 0.0 };
                let slopes = policy.probabilities.iter().enumerate().map(|(at, p)| p - taken(at));
                outer.extend(slopes.map(|slope| (slope / batch as f64) as f32));
            }
            let grads = self.actor.backward(&tape, &outer);
            adam.step(&mut self.actor, grads, lr);
        }
        self.policy = None;
        let logits = self.actor.forward(&states.concat())?;
        let losses = logits.chunks_exact(n).zip(actions).enumerate().map(|(row, (logits, &action))| {
            -crate::categorical::Categorical::new(logits, &floats(mask(row))).log[action]
        });
        let loss = crate::critic::mean(losses);
        if loss.is_finite() {
            return Ok(loss);
        }
        Err(Error::Diverged { what: "behaviour cloning loss", value: loss, update: self.updates })
    }

    /// The policy, to save it or to act without the agent.
    ///
    /// # Errors
    /// [`Error::Device`] if the actor cannot be read back.
    pub fn policy(&self) -> Result<CategoricalNet> {
        match &self.policy {
            Some(policy) => Ok(policy.clone()),
            None => Ok(CategoricalNet::new(self.actor.host_copy()?)),
        }
    }

    /// The configuration.
    pub fn config(&self) -> &DiscreteConfig {
        &self.config
    }

    /// Entropy coefficient α.
    pub fn alpha(&self) -> f64 {
        self.temperature.alpha()
    }

    /// Gradient steps taken.
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// Transitions in the replay buffer.
    pub fn replay_len(&self) -> usize {
        self.replay.len()
    }

    fn check_states(&self, states: &[Vec<f32>]) -> Result<()> {
        states.iter().try_for_each(|state| {
            check_row("state", state, self.config.state_dim, f32::is_finite, "a finite number")
        })
    }
}

impl DiscreteConfig {
    /// Actor (one network) and critics (two) have one number for each action.
    fn shape(&self, networks: usize) -> MlpShape {
        MlpShape { networks, inputs: self.state_dim, hidden: self.hidden, outputs: self.actions }
    }
}

#[cfg(test)]
#[path = "discrete/tests.rs"]
mod tests;
