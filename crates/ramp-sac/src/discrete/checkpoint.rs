//! Saving and loading the categorical agent, as `checkpoint.rs` does.

use std::{borrow::Cow, path::Path};

use burn::tensor::Device;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::{
    checkpoint_file::{Bytes, VERSION, Writer},
    discrete::{DiscreteAgent, DiscreteConfig},
    error::Result,
    temperature::Temperature,
};

const KIND: &str = "discrete_sac";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header<'a> {
    version: u32,
    kind: Cow<'a, str>,
    config: DiscreteConfig,
    temperature: Temperature,
    learn_rng: ChaCha8Rng,
    explore_rng: ChaCha8Rng,
    updates: u64,
    actor_adam_time: u64,
    critic_adam_time: u64,
    replay_cursor: usize,
}

impl DiscreteAgent {
    /// Writes the agent with its replay buffer, optimizer moments and generators to `path`. The file
    /// is complete or absent: it is written beside `path` and then renamed.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) if the file cannot be written; [`Error::Device`](crate::Error::Device) if a
    /// parameter cannot be read.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let mut file = Writer::default();
        file.networks("actor", &self.actor)?;
        file.networks("critics", &self.critics)?;
        file.networks("targets", &self.targets)?;
        let actor_adam_time = file.optimizer("actor_adam", &self.actor_adam, &self.actor)?;
        let critic_adam_time = file.optimizer("critic_adam", &self.critic_adam, &self.critics)?;
        file.replay(&self.replay);
        let header = Header {
            version: VERSION,
            kind: KIND.into(),
            config: self.config.clone(),
            temperature: self.temperature.clone(),
            learn_rng: self.learn_rng.clone(),
            explore_rng: self.explore_rng.clone(),
            updates: self.updates,
            actor_adam_time,
            critic_adam_time,
            replay_cursor: self.replay.cursor,
        };
        file.finish(path.as_ref(), &header)
    }

    /// Reads an agent that [`DiscreteAgent::save`] wrote.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) if the file cannot be read; [`Error::Checkpoint`](crate::Error::Checkpoint),
    /// [`Error::MissingTensor`](crate::Error::MissingTensor), [`Error::TensorShape`](crate::Error::TensorShape),
    /// [`Error::Value`](crate::Error::Value) or [`Error::Config`](crate::Error::Config) if it is damaged, or of another
    /// version or kind of agent.
    pub fn load(path: impl AsRef<Path>, device: &Device) -> Result<Self> {
        let bytes = Bytes::read(path.as_ref())?;
        let header: Header<'_> = bytes.header(KIND)?;
        header.config.validate()?;
        let file = bytes.tensors()?;
        let (actor_shape, critic_shape) = (header.config.shape(1), header.config.shape(2));
        let mut agent = Self::assemble(
            header.config,
            file.params("actor", &actor_shape)?,
            file.params("critics", &critic_shape)?,
            file.params("targets", &critic_shape)?,
            device,
        );
        file.optimizer("actor_adam", header.actor_adam_time, &agent.actor, &mut agent.actor_adam)?;
        file.optimizer("critic_adam", header.critic_adam_time, &agent.critics, &mut agent.critic_adam)?;
        agent.replay = file
            .replay(agent.replay.clone(), header.replay_cursor)?
            .ok_or_else(|| bytes.damaged("the columns of its replay buffer do not fit together"))?;
        agent.temperature = header.temperature;
        agent.learn_rng = header.learn_rng;
        agent.explore_rng = header.explore_rng;
        agent.updates = header.updates;
        Ok(agent)
    }
}
