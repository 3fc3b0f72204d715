//! The agent as a learner of `burn::rl`.

use burn::tensor::{Device, Tensor};
use burn_rl::{LearnerTransitionBatch, Policy, PolicyLearner, RLTrainOutput};

use super::policy::{ActorState, RlPolicy};
use crate::{
    agent::Agent,
    config::TargetKind,
    device::mlp::read,
    error::{Error, Result},
    learner::stream,
    networks::Networks,
    replay::Batch,
    update::UpdateMetrics,
};

/// First stream of the generators of policies, behind those of the agent.
const POLICY_STREAMS: u64 = 16;

/// An [`Agent`] that learns from batches that somebody else keeps. Its own replay buffer stays empty.
#[derive(Clone, Debug)]
pub struct RlLearner {
    agent: Agent,
}

impl RlLearner {
    /// An agent with the one-step target.
    ///
    /// # Errors
    /// [`Error::Config`] if its target is another: a batch of transitions has neither returns nor the steps behind.
    pub fn new(agent: Agent) -> Result<Self> {
        match agent.config().target {
            TargetKind::Td0 | TargetKind::NStep(1) => Ok(Self { agent }),
            other => Err(Error::Config {
                field: "target",
                value: format!("{other:?}"),
                rule: "one step ahead (`Td0`) behind the traits of burn::rl",
            }),
        }
    }

    /// The agent.
    #[must_use]
    pub const fn agent(&self) -> &Agent {
        &self.agent
    }

    /// The agent, to save it or to go on without the traits.
    #[must_use]
    pub fn into_agent(self) -> Agent {
        self.agent
    }

    fn learn(&mut self, input: LearnerTransitionBatch<RlPolicy>) -> Result<UpdateMetrics> {
        let config = self.agent.config();
        let rows = input.rewards.dims()[0];
        let table = |what: &'static str, tensor: Tensor<2>, width: usize| -> Result<Vec<f32>> {
            let [found_rows, found] = tensor.dims();
            if found != width {
                return Err(Error::Length { what, found, expected: width });
            }
            if found_rows != rows || rows == 0 {
                return Err(Error::Length { what: "batch", found: found_rows, expected: rows.max(1) });
            }
            let values = read(tensor)?;
            match values.iter().position(|value| !value.is_finite()) {
                None => Ok(values),
                Some(at) => {
                    let what = format!("{what}[{}] of transition {}", at % width, at / width);
                    Err(Error::Value { what, value: f64::from(values[at]), rule: "a finite number" })
                }
            }
        };
        let states = table("state", input.states.0, config.state_dim)?;
        let actions = table("action", input.actions.0, config.action_dim)?;
        let next_states = table("next_state", input.next_states.0, config.state_dim)?;
        let rewards = table("reward", input.rewards, 1)?;
        let dones = table("done", input.dones, 1)?;
        let gamma = config.gamma;
        let batch = Batch {
            states,
            actions,
            masks: Vec::new(),
            returns: rewards.clone(),
            rewards,
            next_states,
            next_masks: Vec::new(),
            discounts: dones.iter().map(|&done| if done > 0.5 { 0.0 } else { gamma }).collect(),
        };
        self.agent.learn(&batch)
    }
}

impl PolicyLearner for RlLearner {
    /// What the step saw, or why it was not made; the parameters stay as they were if the batch is malformed.
    type TrainContext = Result<UpdateMetrics>;
    type InnerPolicy = RlPolicy;
    /// The whole agent; [`Agent::save`] writes it down.
    type Record = Agent;

    fn train(
        &mut self,
        input: LearnerTransitionBatch<RlPolicy>,
    ) -> RLTrainOutput<Self::TrainContext, ActorState> {
        let item = self.learn(input);
        RLTrainOutput { policy: self.policy().state(), item }
    }

    /// A copy of the actor. Its generator depends on the agent's seed and the number of updates.
    ///
    /// # Panics
    /// If the device that holds the actor cannot be read.
    fn policy(&self) -> RlPolicy {
        let net = self.agent.actor_net().expect("the device that holds the actor can be read");
        let rng = stream(self.agent.config().seed, POLICY_STREAMS + self.agent.updates());
        RlPolicy::new(net, rng, self.device())
    }

    /// # Panics
    /// If the policy's network has other sizes than the agent's.
    fn update_policy(&mut self, update: RlPolicy) {
        let config = self.agent.config();
        let sizes = (update.net.state_dim(), update.net.action_dim(), update.net.hidden());
        assert_eq!(
            sizes,
            (config.state_dim, config.action_dim, config.hidden),
            "sizes of the policy's network"
        );
        self.agent.learner.actor = Networks::from_host(update.net.net(), &self.agent.learner.device);
        self.agent.policy = Some(update.net);
    }

    fn record(&self) -> Agent {
        self.agent.clone()
    }

    fn load_record(self, record: Agent) -> Self {
        Self { agent: record }
    }

    fn device(&self) -> Device {
        self.agent.learner.device.clone()
    }
}
