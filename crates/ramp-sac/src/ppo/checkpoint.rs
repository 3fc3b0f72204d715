//! Saving and loading, as `checkpoint.rs` does; the gathered steps belong to it.

use std::{borrow::Cow, path::Path};

use burn::tensor::Device;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::{Ppo, PpoConfig, Rollout};
use crate::{
    checkpoint_file::{Bytes, VERSION, Writer},
    error::Result,
};

const KIND: &str = "ppo";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header<'a> {
    version: u32,
    kind: Cow<'a, str>,
    config: PpoConfig,
    learn_rng: ChaCha8Rng,
    explore_rng: ChaCha8Rng,
    updates: u64,
    actor_adam_time: u64,
    critic_adam_time: u64,
    /// In the header, because they are doubles.
    actions: Vec<usize>,
    log_probs: Vec<f64>,
    advantages: Vec<f64>,
    returns: Vec<f64>,
}

impl Ppo {
    /// Writes the agent with its gathered steps, optimizer moments and generators to `path`; complete or absent.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) if the file cannot be written; [`Error::Device`](crate::Error::Device) if a
    /// parameter cannot be read.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let mut file = Writer::default();
        file.networks("actor", &self.actor)?;
        file.networks("critic", &self.critic)?;
        let actor_adam_time = file.optimizer("actor_adam", &self.actor_adam, &self.actor)?;
        let critic_adam_time = file.optimizer("critic_adam", &self.critic_adam, &self.critic)?;
        file.column("rollout.states", &self.rollout.states, self.config.state_dim);
        file.column("rollout.masks", &self.rollout.masks, self.config.actions);
        let rollout = self.rollout.clone();
        let header = Header {
            version: VERSION,
            kind: KIND.into(),
            config: self.config.clone(),
            learn_rng: self.learn_rng.clone(),
            explore_rng: self.explore_rng.clone(),
            updates: self.updates,
            actor_adam_time,
            critic_adam_time,
            actions: rollout.actions,
            log_probs: rollout.log_probs,
            advantages: rollout.advantages,
            returns: rollout.returns,
        };
        file.finish(path.as_ref(), &header)
    }

    /// Reads an agent that [`Ppo::save`] wrote.
    ///
    /// # Errors
    /// As [`Agent::load`](crate::Agent::load).
    pub fn load(path: impl AsRef<Path>, device: &Device) -> Result<Self> {
        let bytes = Bytes::read(path.as_ref())?;
        let header: Header<'_> = bytes.header(KIND)?;
        header.config.validate()?;
        let file = bytes.tensors()?;
        let (width, n) = (header.config.state_dim, header.config.actions);
        let (actor, critic) = (header.config.shape(n), header.config.shape(1));
        let mut agent = Self::assemble(
            header.config,
            file.params("actor", &actor)?,
            file.params("critic", &critic)?,
            device,
        );
        file.optimizer("actor_adam", header.actor_adam_time, &agent.actor, &mut agent.actor_adam)?;
        file.optimizer("critic_adam", header.critic_adam_time, &agent.critic, &mut agent.critic_adam)?;
        let rollout = Rollout {
            states: file.take("rollout.states", &[0, width])?,
            masks: file.take("rollout.masks", &[0, n])?,
            actions: header.actions,
            log_probs: header.log_probs,
            advantages: header.advantages,
            returns: header.returns,
        };
        let len = rollout.actions.len();
        let lengths = [rollout.log_probs.len(), rollout.advantages.len(), rollout.returns.len()];
        let allowed = |(row, &action): (usize, &usize)| action < n && rollout.masks[row * n + action] != 0.0;
        let whole = lengths == [len; 3]
            && rollout.states.len() == len * width
            && rollout.masks.len() == len * n
            && rollout.actions.iter().enumerate().all(allowed);
        if !whole {
            return Err(bytes.damaged("the columns of its gathered steps do not fit together"));
        }
        agent.rollout = rollout;
        agent.learn_rng = header.learn_rng;
        agent.explore_rng = header.explore_rng;
        agent.updates = header.updates;
        Ok(agent)
    }
}
