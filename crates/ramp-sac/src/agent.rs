//! The agent: what it holds, and how it acts. How it learns is in `update.rs`.

use burn::tensor::Device;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use serde::{Deserialize, Serialize};

use crate::{
    actor::{Actor, Gaussian},
    actor_net::{ActorNet, NamedTensor},
    config::SacConfig,
    critic,
    error::{Error, Result},
    networks::{Networks, Optimizer},
    replay::{self, Replay, Step, Transition, Widths},
    temperature::Temperature,
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
    /// Without autodiff.
    pub(crate) device: Device,
    /// π_φ
    pub(crate) actor: Actor,
    /// Q_θ₁ and Q_θ₂
    pub(crate) critics: Networks,
    /// Q_θ̄₁ and Q_θ̄₂
    pub(crate) targets: Networks,
    pub(crate) actor_adam: Optimizer,
    pub(crate) critic_adam: Optimizer,
    pub(crate) temperature: Temperature,
    pub(crate) replay: Replay,
    /// Minibatches and the noise of updates.
    pub(crate) learn_rng: ChaCha8Rng,
    /// The noise of sampled actions; apart, so that evaluating in between changes no update.
    pub(crate) explore_rng: ChaCha8Rng,
    pub(crate) updates: u64,
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
        let mut init_rng = stream(config.seed, 0);
        let actor = Actor::shape(&config).init(&mut init_rng);
        let critics = critic::shape(&config).init(&mut init_rng);
        Ok(Self::assemble(config, actor, critics.clone(), critics, device))
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
        agent.actor.net = Networks::from_host(net.net(), &agent.device);
        agent.policy = Some(net);
        Ok(agent)
    }

    /// Puts an agent together from host parameters that have the right lengths.
    pub(crate) fn assemble(
        config: SacConfig,
        actor: Vec<Vec<f32>>,
        critics: Vec<Vec<f32>>,
        targets: Vec<Vec<f32>>,
        device: &Device,
    ) -> Self {
        let device = device.clone().without_autodiff();
        let critic_shape = critic::shape(&config);
        let actor = Networks::new(Actor::shape(&config), actor, &device);
        let critics = Networks::new(critic_shape, critics, &device);
        let bounds = config.squash.bounds();
        let widths = Widths { state: config.state_dim, action: config.action_dim, mask: 0, bounds };
        Self {
            actor_adam: Optimizer::new(&actor, config.adam_epsilon, config.grad_clip),
            critic_adam: Optimizer::new(&critics, config.adam_epsilon, config.grad_clip),
            actor: Actor { net: actor, gaussian: Gaussian::of(&config) },
            critics,
            targets: Networks::new(critic_shape, targets, &device),
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

    /// Chooses an action `[action_dim]`, each element in the open interval of [`SacConfig::squash`], for `state` `[state_dim]`. Runs on the
    /// host: one pass costs less than one dispatch to a GPU.
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
                let epsilon: f32 = self.explore_rng.sample(StandardNormal);
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
        self.replay.push_episode(&steps, self.config.gamma)
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
        Ok(critic::least(&self.critics.forward(&input)?).into_iter().map(|(q, _)| q).collect())
    }

    /// The actor's parameters by name; see [`ActorNet::to_tensors`].
    ///
    /// # Panics
    /// If the device fails to give them back.
    pub fn actor_tensors(&self) -> Vec<NamedTensor> {
        match &self.policy {
            Some(policy) => policy.to_tensors(),
            None => self.download_policy().expect("the device that holds the actor can be read").to_tensors(),
        }
    }

    /// The configuration.
    pub fn config(&self) -> &SacConfig {
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

    /// Host copy of the actor, refreshed after an update.
    fn policy(&mut self) -> Result<&ActorNet> {
        let policy = match self.policy.take() {
            Some(policy) => policy,
            None => self.download_policy()?,
        };
        Ok(self.policy.insert(policy))
    }

    fn download_policy(&self) -> Result<ActorNet> {
        Ok(ActorNet::new(self.actor.net.host_copy()?, self.actor.gaussian))
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

/// Independent generators from one seed.
pub(crate) fn stream(seed: u64, stream: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(stream);
    rng
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
