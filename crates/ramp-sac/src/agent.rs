//! The agent: what it holds, and how it acts. How it learns is in `update.rs`.

use burn::tensor::Device;
use rand::Rng;
use rand_distr::StandardNormal;
use serde::{Deserialize, Serialize};

use crate::{
    actor::{self, Gaussian},
    actor_net::{ActorNet, NamedTensor},
    config::SacConfig,
    critic,
    error::{Error, Result},
    learner::{Learner, Plan},
    networks::Networks,
    replay::{self, Step, Transition, Widths},
};

/// How [`Agent::act`] chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActMode {
    /// a = sigmoid(µ + σ ε), ε from the agent's generator: for collecting experience. A categorical policy draws.
    Sample,
    /// a = sigmoid(µ): for evaluating and exporting. A categorical policy takes its most likely action.
    Deterministic,
}

/// A Soft Actor-Critic agent. See the [crate documentation](crate) for an example.
///
/// All randomness comes from host generators seeded by [`SacConfig::seed`]: on one machine's CPU the
/// same calls give the same bytes.
#[derive(Clone, Debug)]
pub struct Agent {
    pub(crate) config: SacConfig,
    /// How outputs of the actor become a distribution.
    pub(crate) gaussian: Gaussian,
    pub(crate) learner: Learner,
    /// Host copy of the actor, dropped by every change to it.
    pub(crate) policy: Option<ActorNet>,
}

impl Agent {
    /// A new agent with seeded random networks. `device` is a plain one; the agent makes the autodiff
    /// side itself.
    ///
    /// # Errors
    /// [`Error::Config`] if the configuration breaks a rule.
    pub fn new(config: SacConfig, device: &Device) -> Result<Self> {
        config.validate()?;
        let learner = Learner::init(&config.plan(), device);
        Ok(Self::assemble(config, learner))
    }

    /// A new agent around an actor that was trained before: critics, targets, temperature and replay
    /// start fresh. `tensors` are those of [`Agent::actor_tensors`] or [`ActorNet::to_tensors`].
    ///
    /// # Errors
    /// [`Error::Config`], [`Error::MissingTensor`], [`Error::TensorShape`] or [`Error::Value`] as in
    /// [`ActorNet::from_tensors`]; [`Error::Incompatible`] if sizes or the bounds of log σ differ from
    /// the configuration's.
    pub fn from_actor(config: SacConfig, device: &Device, tensors: &[NamedTensor]) -> Result<Self> {
        let mut agent = Self::new(config, device)?;
        let net = ActorNet::from_tensors(tensors)?;
        let config = &agent.config;
        let range = config.log_std_range().map(|bound| bound as f32);
        agree("state size", &net.state_dim(), &config.state_dim)?;
        agree("action size", &net.action_dim(), &config.action_dim)?;
        agree("hidden sizes", &net.hidden(), &config.hidden)?;
        agree("log σ range", &net.log_std_range(), &range)?;
        agree("squash", &net.squash(), &config.squash)?;
        agent.learner.actor = Networks::from_host(net.net(), &agent.learner.device);
        agent.policy = Some(net);
        Ok(agent)
    }

    pub(crate) fn assemble(config: SacConfig, learner: Learner) -> Self {
        Self { gaussian: Gaussian::of(&config), learner, policy: None, config }
    }

    /// Chooses an action `[action_dim]`, each element in the open interval of [`SacConfig::squash`], for `state`
    /// `[state_dim]`. Runs on the host: one pass costs less than one dispatch to a GPU.
    ///
    /// # Errors
    /// [`Error::Length`] or [`Error::Value`] if `state` has the wrong length or is not finite;
    /// [`Error::Device`] if the actor cannot be read back after an update.
    pub fn act(&mut self, state: &[f32], mode: ActMode) -> Result<Vec<f32>> {
        check_row("state", state, self.config.state_dim, f32::is_finite, "a finite number")?;
        let squash = self.config.squash;
        let (mut action, log_std) = self.policy()?.forward(state)?;
        for (u, log_std) in action.iter_mut().zip(log_std) {
            if mode == ActMode::Sample {
                let epsilon: f32 = self.learner.explore_rng.sample(StandardNormal);
                *u += log_std.exp() * epsilon;
            }
            *u = squash.action(*u);
        }
        Ok(action)
    }

    /// Chooses an action for each state, as [`Agent::act`] would in this order.
    ///
    /// # Errors
    /// As [`Agent::act`], for the first state at fault.
    pub fn act_batch(&mut self, states: &[Vec<f32>], mode: ActMode) -> Result<Vec<Vec<f32>>> {
        states.iter().map(|state| self.act(state, mode)).collect()
    }

    /// Stores a finished episode: only its last transition is terminated or truncated.
    ///
    /// # Errors
    /// [`Error::Episode`], [`Error::Length`] or [`Error::Value`] say what is wrong with it; nothing is
    /// stored then.
    // By value, although it is copied into the ring: the caller has no further use for it.
    #[allow(clippy::needless_pass_by_value)]
    pub fn push_episode(&mut self, episode: Vec<Transition>) -> Result<()> {
        let steps: Vec<Step<'_>> = episode.iter().map(Transition::step).collect();
        self.learner.replay.push_episode(&steps, self.config.gamma)
    }

    /// The smaller of both critics' values for each pair of a state and an action.
    ///
    /// # Errors
    /// [`Error::Length`] or [`Error::Value`] if there is not one action per state or a row is
    /// malformed; [`Error::Device`] if the values cannot be read.
    pub fn q_values(&self, states: &[Vec<f32>], actions: &[Vec<f32>]) -> Result<Vec<f32>> {
        let (states, actions) = self.check_pairs(states, actions)?;
        if states.is_empty() {
            return Ok(Vec::new());
        }
        let input = critic::join(&states, &actions, [self.config.state_dim, self.config.action_dim]);
        Ok(critic::least(&self.learner.critics.forward(&input)?).into_iter().map(|(q, _)| q).collect())
    }

    /// The actor's parameters by name; see [`ActorNet::to_tensors`].
    ///
    /// # Panics
    /// If the device fails to give them back.
    pub fn actor_tensors(&self) -> Vec<NamedTensor> {
        self.actor_net().expect("the device that holds the actor can be read").to_tensors()
    }

    /// A copy of the actor.
    pub(crate) fn actor_net(&self) -> Result<ActorNet> {
        self.policy.clone().map_or_else(|| self.download_policy(), Ok)
    }

    /// The configuration.
    pub fn config(&self) -> &SacConfig {
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

    /// Host copy of the actor, refreshed after an update.
    fn policy(&mut self) -> Result<&ActorNet> {
        let policy = match self.policy.take() {
            Some(policy) => policy,
            None => self.download_policy()?,
        };
        Ok(self.policy.insert(policy))
    }

    fn download_policy(&self) -> Result<ActorNet> {
        Ok(ActorNet::new(self.learner.actor.host_copy()?, self.gaussian))
    }

    /// Checks pairs of states and actions and flattens them.
    pub(crate) fn check_pairs(
        &self,
        states: &[Vec<f32>],
        actions: &[Vec<f32>],
    ) -> Result<(Vec<f32>, Vec<f32>)> {
        if states.len() != actions.len() {
            return Err(Error::Length {
                what: "list of actions",
                found: actions.len(),
                expected: states.len(),
            });
        }
        for (state, action) in states.iter().zip(actions) {
            check_row("state", state, self.config.state_dim, f32::is_finite, "a finite number")?;
            let bounds @ [low, high] = self.config.squash.bounds();
            let inside = |value: f32| (low..=high).contains(&value);
            check_row("action", action, self.config.action_dim, inside, replay::interval(bounds))?;
        }
        Ok((states.concat(), actions.concat()))
    }
}

impl SacConfig {
    /// What the agent's learner is made from.
    pub(crate) fn plan(&self) -> Plan {
        Plan {
            actor: actor::shape(self),
            critics: critic::shape(self),
            widths: Widths {
                state: self.state_dim,
                action: self.action_dim,
                mask: 0,
                bounds: self.squash.bounds(),
            },
            replay_capacity: self.replay_capacity,
            adam_epsilon: self.adam_epsilon,
            grad_clip: self.grad_clip,
            init_alpha: self.init_alpha,
            auto_alpha: self.auto_alpha,
            seed: self.seed,
        }
    }
}

pub(crate) fn check_row(
    what: &'static str,
    values: &[f32],
    expected: usize,
    holds: impl Fn(f32) -> bool,
    rule: &'static str,
) -> Result<()> {
    if values.len() != expected {
        return Err(Error::Length { what, found: values.len(), expected });
    }
    match values.iter().position(|&value| !holds(value)) {
        None => Ok(()),
        Some(at) => Err(Error::Value { what: format!("{what}[{at}]"), value: f64::from(values[at]), rule }),
    }
}

pub(crate) fn agree<T: PartialEq + std::fmt::Debug>(
    what: &'static str,
    found: &T,
    expected: &T,
) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(Error::Incompatible { what, found: format!("{found:?}"), expected: format!("{expected:?}") })
}
