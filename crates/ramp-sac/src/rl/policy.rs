//! The actor alone as a policy of `burn::rl`.

use burn::tensor::Device;
use burn_rl::{Policy, PolicyState};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;

use super::rows::{GaussianRows, Rows};
use crate::{actor_net::ActorNet, device::mlp::read};

/// An actor that samples with a generator of its own: the same calls give the same actions.
#[derive(Clone, Debug)]
pub struct RlPolicy {
    pub(super) net: ActorNet,
    rng: ChaCha8Rng,
    device: Device,
}

/// The parameters of a policy. It is its own record; [`ActorNet::to_tensors`] writes it down.
#[derive(Clone, Debug, PartialEq)]
pub struct ActorState(pub ActorNet);

impl PolicyState for ActorState {
    type Record = ActorNet;

    fn into_record(self) -> ActorNet {
        self.0
    }

    fn load_record(&self, record: ActorNet) -> Self {
        Self(record)
    }
}

impl RlPolicy {
    pub(super) const fn new(net: ActorNet, rng: ChaCha8Rng, device: Device) -> Self {
        Self { net, rng, device }
    }

    /// µ and log σ of every row, `[action]` each.
    fn gaussians(&self, observations: Rows) -> Vec<(Vec<f32>, Vec<f32>)> {
        let [rows, width] = observations.0.dims();
        assert_eq!(width, self.net.state_dim(), "an observation has as many elements as a state");
        let values = read(observations.0).expect("the device that holds the observations can be read");
        let row = |row: usize| &values[row * width..(row + 1) * width];
        (0..rows).map(|at| self.net.forward(row(at)).expect("the width was checked")).collect()
    }
}

/// # Panics
/// Methods that take observations panic if these have another width than the actor's states, or cannot be read from their
/// device: the trait has no room for an error.
impl Policy for RlPolicy {
    type Observation = Rows;
    type ActionDistribution = GaussianRows;
    type Action = Rows;
    /// ln π of the action in nats.
    type ActionContext = f64;
    type PolicyState = ActorState;

    fn forward(&mut self, observations: Rows) -> GaussianRows {
        let (mean, log_std): (Vec<_>, Vec<_>) = self.gaussians(observations).into_iter().unzip();
        let rows = |rows: Vec<Vec<f32>>| Rows::from_host(&rows, &self.device);
        GaussianRows { mean: rows(mean), log_std: rows(log_std) }
    }

    fn action(&mut self, observations: Rows, deterministic: bool) -> (Rows, Vec<f64>) {
        let squash = self.net.squash();
        let mut actions = Vec::new();
        let mut log_pi = Vec::new();
        for (mean, log_std) in self.gaussians(observations) {
            let mut total = 0.0;
            let mut action = Vec::with_capacity(mean.len());
            for (mu, log_std) in mean.into_iter().zip(log_std) {
                let epsilon: f32 = if deterministic { 0.0 } else { self.rng.sample(StandardNormal) };
                action.push(squash.action(mu + log_std.exp() * epsilon));
                total += squash.log_prob(f64::from(mu), f64::from(log_std), f64::from(epsilon));
            }
            actions.push(action);
            log_pi.push(total);
        }
        (Rows::from_host(&actions, &self.device), log_pi)
    }

    fn update(&mut self, update: ActorState) {
        self.net = update.0;
    }

    fn state(&self) -> ActorState {
        ActorState(self.net.clone())
    }

    /// Where actions are put. The network itself runs on the host, see [`Agent::act`](crate::Agent::act).
    fn to_device(self, device: &Device) -> Self {
        Self { device: device.clone(), ..self }
    }

    fn load_record(self, record: ActorNet) -> Self {
        Self { net: record, ..self }
    }
}
