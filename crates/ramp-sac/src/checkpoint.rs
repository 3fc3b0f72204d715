//! Saving and loading a whole agent, so that training goes on as if it had not stopped.
//!
//! One safetensors file: `actor.*`, `critics.*`, `targets.*` (weights `[network, in, out]`),
//! `actor_adam.m.*`, `actor_adam.v.*`, the same for `critic_adam`, and `replay.*`; everything that is
//! not a tensor is one JSON document in the header.

use std::{borrow::Cow, path::Path};

use burn::tensor::Device;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    agent::Agent,
    checkpoint_file::{Bytes, VERSION, Writer},
    config::SacConfig,
    error::Result,
    learner::{Learner, Params, Plan},
    temperature::Temperature,
};

const KIND: &str = "sac";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header<'a, C> {
    version: u32,
    kind: Cow<'a, str>,
    config: C,
    temperature: Temperature,
    learn_rng: ChaCha8Rng,
    explore_rng: ChaCha8Rng,
    updates: u64,
    actor_adam_time: u64,
    critic_adam_time: u64,
    replay_cursor: usize,
}

impl Learner {
    /// Writes everything, with the configuration of an agent of this kind.
    pub(crate) fn save<C: Serialize>(&self, path: &Path, kind: &str, config: &C) -> Result<()> {
        let mut file = Writer::default();
        file.networks("actor", &self.actor)?;
        file.networks("critics", &self.critics)?;
        file.networks("targets", &self.targets)?;
        let actor_adam_time = file.optimizer("actor_adam", &self.actor_adam, &self.actor)?;
        let critic_adam_time = file.optimizer("critic_adam", &self.critic_adam, &self.critics)?;
        file.replay(&self.replay);
        let header = Header {
            version: VERSION,
            kind: kind.into(),
            config,
            temperature: self.temperature.clone(),
            learn_rng: self.learn_rng.clone(),
            explore_rng: self.explore_rng.clone(),
            updates: self.updates,
            actor_adam_time,
            critic_adam_time,
            replay_cursor: self.replay.cursor,
        };
        file.finish(path, &header)
    }

    /// Reads what [`Learner::save`] wrote. `plan` checks the configuration and says what it asks for.
    pub(crate) fn load<C: DeserializeOwned>(
        path: &Path,
        kind: &str,
        device: &Device,
        plan: impl Fn(&C) -> Result<Plan>,
    ) -> Result<(C, Self)> {
        let bytes = Bytes::read(path)?;
        let header: Header<'_, C> = bytes.header(kind)?;
        let plan = plan(&header.config)?;
        let file = bytes.tensors()?;
        let params = Params {
            actor: file.params("actor", &plan.actor)?,
            critics: file.params("critics", &plan.critics)?,
            targets: file.params("targets", &plan.critics)?,
        };
        let mut learner = Self::new(&plan, params, device);
        file.optimizer("actor_adam", header.actor_adam_time, &learner.actor, &mut learner.actor_adam)?;
        file.optimizer("critic_adam", header.critic_adam_time, &learner.critics, &mut learner.critic_adam)?;
        learner.replay = file
            .replay(learner.replay, header.replay_cursor)?
            .ok_or_else(|| bytes.damaged("the columns of its replay buffer do not fit together"))?;
        learner.temperature = header.temperature;
        learner.learn_rng = header.learn_rng;
        learner.explore_rng = header.explore_rng;
        learner.updates = header.updates;
        Ok((header.config, learner))
    }
}

impl Agent {
    /// Writes the agent with its replay buffer, optimizer moments and generators to `path`. The file
    /// is complete or absent: it is written beside `path` and then renamed.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) if the file cannot be written; [`Error::Device`](crate::Error::Device) if a
    /// parameter cannot be read.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        self.learner.save(path.as_ref(), KIND, &self.config)
    }

    /// Reads an agent that [`Agent::save`] wrote.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) if the file cannot be read; [`Error::Checkpoint`](crate::Error::Checkpoint),
    /// [`Error::MissingTensor`](crate::Error::MissingTensor), [`Error::TensorShape`](crate::Error::TensorShape),
    /// [`Error::Value`](crate::Error::Value) or [`Error::Config`](crate::Error::Config) if it is damaged, or of another
    /// version or kind of agent.
    pub fn load(path: impl AsRef<Path>, device: &Device) -> Result<Self> {
        let plan = |config: &SacConfig| config.validate().map(|()| config.plan());
        let (config, learner) = Learner::load(path.as_ref(), KIND, device, plan)?;
        Ok(Self::assemble(config, learner))
    }
}
