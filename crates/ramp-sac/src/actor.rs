//! The policy on the device: state to the parameters of a squashed Gaussian.

use burn::tensor::Tensor;

use crate::{
    config::SacConfig,
    mlp::{Mlp, MlpShape},
    squashed,
};

/// The policy network with the bounds of its spread.
#[derive(Clone, Debug)]
pub(crate) struct Actor {
    pub(crate) net: Mlp,
    pub(crate) log_std_range: [f64; 2],
}

impl Actor {
    /// Shape of the network: µ and the raw spread of every action element, in this order.
    pub(crate) fn shape(config: &SacConfig) -> MlpShape {
        let outputs = 2 * config.action_dim;
        MlpShape { networks: 1, inputs: config.state_dim, hidden: config.hidden, outputs }
    }

    /// µ and log σ, `[batch, action]` each, for `states` `[batch, state]`.
    pub(crate) fn distribution(&self, states: Tensor<2>) -> (Tensor<2>, Tensor<2>) {
        let output: Tensor<2> = self.net.forward(states.unsqueeze()).squeeze_dim(0);
        let mut halves = output.chunk(2, 1);
        let raw = halves.pop().expect("two halves");
        let mu = halves.pop().expect("two halves");
        let [min, max] = self.log_std_range;
        (mu, (raw.tanh() + 1.0) * (0.5 * (max - min)) + min)
    }

    /// A reparameterised action `[batch, action]` and its log π `[batch, 1]`, for `states`
    /// `[batch, state]` and standard normal `epsilon` `[batch, action]`.
    pub(crate) fn sample(&self, states: Tensor<2>, epsilon: Tensor<2>) -> (Tensor<2>, Tensor<2>) {
        let (mu, log_std) = self.distribution(states);
        squashed::sample(mu, log_std, epsilon)
    }

    /// The same policy without autodiff.
    pub(crate) fn plain(&self) -> Self {
        Self { net: self.net.plain(), log_std_range: self.log_std_range }
    }
}
