//! The twin critics: two Q-functions of (state, action) in one stack.

use burn::tensor::Tensor;

use crate::{
    config::SacConfig,
    mlp::{Mlp, MlpShape},
};

/// Shape of the two networks.
pub(crate) fn shape(config: &SacConfig) -> MlpShape {
    let inputs = config.state_dim + config.action_dim;
    MlpShape { networks: 2, inputs, hidden: config.hidden, outputs: 1 }
}

/// Q₁ and Q₂ `[critic, batch, 1]` of `states` `[batch, state]` and `actions` `[batch, action]`. The
/// action is the continuous one in (0, 1), on every path.
pub(crate) fn twin_q(net: &Mlp, states: Tensor<2>, actions: Tensor<2>) -> Tensor<3> {
    net.forward(Tensor::cat(vec![states, actions], 1).unsqueeze())
}

/// The smaller of the two critics, transition by transition: `[batch, 1]`.
pub(crate) fn min_q(net: &Mlp, states: Tensor<2>, actions: Tensor<2>) -> Tensor<2> {
    twin_q(net, states, actions).min_dim(0).squeeze_dim(0)
}
