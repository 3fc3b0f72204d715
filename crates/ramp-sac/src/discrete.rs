//! Soft Actor-Critic with a categorical actor: what it holds, and how it acts. How it learns is in `discrete/update.rs`.

mod checkpoint;
mod config;
mod update;

use burn::tensor::Device;

pub use config::DiscreteConfig;

use crate::{
    actor_net::NamedTensor,
    agent::{ActMode, agree, check_row},
    categorical::{CategoricalNet, check_action, check_mask, floats, full_mask},
    config::check,
    error::{Error, Result},
    learner::{Learner, Plan},
    networks::{Networks, Optimizer, Wrt},
    replay::{Step, Widths},
    shape::MlpShape,
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
    /// The actor gives logits of the actions, each critic a value of every action.
    learner: Learner,
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
        let learner = Learner::init(&config.plan(), device);
        Ok(Self::assemble(config, learner))
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
        agent.learner.actor = Networks::from_host(net.net(), &agent.learner.device);
        agent.policy = Some(net);
        Ok(agent)
    }

    const fn assemble(config: DiscreteConfig, learner: Learner) -> Self {
        Self { config, learner, policy: None }
    }

    /// Chooses an action that `mask` allows for `state` `[state_dim]`. An empty mask allows all.
    ///
    /// # Errors
    /// [`Error::Length`] or [`Error::Value`] if `state` or `mask` has the wrong length or is not finite;
    /// [`Error::Mask`] if no action is allowed; [`Error::Device`] if the actor cannot be read back.
    pub fn act(&mut self, state: &[f32], mask: &[bool], mode: ActMode) -> Result<usize> {
        check_row("state", state, self.config.state_dim, f32::is_finite, "a finite number")?;
        let policy = CategoricalNet::cached(&mut self.policy, &self.learner.actor)?;
        Ok(policy.choose(state, mask, mode, &mut self.learner.explore_rng)?.0)
    }

    /// Stores a finished episode: only its last transition is terminated or truncated.
    ///
    /// # Errors
    /// [`Error::Episode`], [`Error::Length`], [`Error::Value`] or [`Error::Mask`] say what is wrong with it; nothing is
    /// stored then.
    pub fn push_episode(&mut self, episode: &[DiscreteTransition]) -> Result<()> {
        let actions = self.config.actions;
        let full = |mask: &[bool]| full_mask(mask, actions);
        let mut rows = Vec::with_capacity(episode.len());
        for (index, step) in episode.iter().enumerate() {
            check_mask(&step.mask, actions, index)?;
            check_mask(&step.next_mask, actions, index)?;
            check_action(|| format!("action of transition {index}"), step.action, &step.mask, actions)?;
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
        self.learner.replay.push_episode(&steps, self.config.gamma)
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
        let q = self.learner.critics.forward(&states.concat())?;
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
        check("lr", lr, lr > 0.0 && lr.is_finite(), "positive and finite")?;
        let n = self.config.actions;
        let mask = |row: usize| masks.get(row).map_or(&[][..], Vec::as_slice);
        for (row, &action) in actions.iter().enumerate() {
            check_mask(mask(row), n, row)?;
            check_action(|| format!("action {row}"), action, mask(row), n)?;
        }
        let batch = self.config.batch_size.min(states.len());
        let mut adam = Optimizer::new(&self.learner.actor, self.config.adam_epsilon, self.config.grad_clip);
        for _ in 0..steps {
            let picks: Vec<usize> =
                (0..batch).map(|_| self.learner.learn_rng.random_range(0..states.len())).collect();
            let input: Vec<f32> = picks.iter().flat_map(|&row| &states[row]).copied().collect();
            let (logits, tape) = self.learner.actor.forward_tape(&input, Wrt::Params)?;
            let mut outer = Vec::with_capacity(logits.len());
            for (logits, &row) in logits.chunks_exact(n).zip(&picks) {
                let policy = crate::categorical::Categorical::new(logits, &floats(mask(row)));
                let taken = |at: usize| if at == actions[row] { 1.0 } else { 0.0 };
                let slopes = policy.probabilities.iter().enumerate().map(|(at, p)| p - taken(at));
                outer.extend(slopes.map(|slope| (slope / batch as f64) as f32));
            }
            let grads = self.learner.actor.backward(&tape, &outer);
            adam.step(&mut self.learner.actor, grads, lr);
        }
        self.policy = None;
        let logits = self.learner.actor.forward(&states.concat())?;
        let losses = logits.chunks_exact(n).zip(actions).enumerate().map(|(row, (logits, &action))| {
            -crate::categorical::Categorical::new(logits, &floats(mask(row))).log[action]
        });
        let loss = crate::critic::mean(losses);
        if loss.is_finite() {
            return Ok(loss);
        }
        Err(Error::Diverged { what: "behaviour cloning loss", value: loss, update: self.learner.updates })
    }

    /// The policy, to save it or to act without the agent.
    ///
    /// # Errors
    /// [`Error::Device`] if the actor cannot be read back.
    pub fn policy(&self) -> Result<CategoricalNet> {
        match &self.policy {
            Some(policy) => Ok(policy.clone()),
            None => Ok(CategoricalNet::new(self.learner.actor.host_copy()?)),
        }
    }

    /// The configuration.
    pub fn config(&self) -> &DiscreteConfig {
        &self.config
    }

    /// Entropy coefficient α.
    pub fn alpha(&self) -> f64 {
        self.learner.temperature.alpha()
    }

    /// Gradient steps taken.
    pub fn updates(&self) -> u64 {
        self.learner.updates
    }

    /// Transitions in the replay buffer.
    pub fn replay_len(&self) -> usize {
        self.learner.replay.len()
    }

    fn check_states(&self, states: &[Vec<f32>]) -> Result<()> {
        states.iter().try_for_each(|state| {
            check_row("state", state, self.config.state_dim, f32::is_finite, "a finite number")
        })
    }
}

impl DiscreteConfig {
    /// What the agent's learner is made from.
    fn plan(&self) -> Plan {
        let bounds = [0.0, (self.actions - 1) as f32];
        Plan {
            actor: self.shape(1),
            critics: self.shape(2),
            widths: Widths { state: self.state_dim, action: 1, mask: self.actions, bounds },
            replay_capacity: self.replay_capacity,
            adam_epsilon: self.adam_epsilon,
            grad_clip: self.grad_clip,
            init_alpha: self.init_alpha,
            auto_alpha: self.auto_alpha,
            seed: self.seed,
        }
    }

    /// Actor (one network) and critics (two) have one number for each action.
    fn shape(&self, networks: usize) -> MlpShape {
        MlpShape { networks, inputs: self.state_dim, hidden: self.hidden, outputs: self.actions }
    }
}

#[cfg(test)]
#[path = "discrete/tests.rs"]
mod tests;
