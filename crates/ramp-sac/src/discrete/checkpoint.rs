//! Saving and loading the categorical agent, as `checkpoint.rs` does.

use std::path::Path;

use burn::tensor::Device;

use crate::{
    discrete::{DiscreteAgent, DiscreteConfig},
    error::Result,
    learner::Learner,
};

const KIND: &str = "discrete_sac";

impl DiscreteAgent {
    /// Writes the agent with its replay buffer, optimizer moments and generators to `path`. The file
    /// is complete or absent: it is written beside `path` and then renamed.
    ///
    /// # Errors
    /// As [`Agent::save`](crate::Agent::save).
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        self.learner.save(path.as_ref(), KIND, &self.config)
    }

    /// Reads an agent that [`DiscreteAgent::save`] wrote.
    ///
    /// # Errors
    /// As [`Agent::load`](crate::Agent::load).
    pub fn load(path: impl AsRef<Path>, device: &Device) -> Result<Self> {
        let plan = |config: &DiscreteConfig| config.validate().map(|()| config.plan());
        let (config, learner) = Learner::load(path.as_ref(), KIND, device, plan)?;
        Ok(Self::assemble(config, learner))
    }
}
