//! Adam over one stack of networks, with clipping.

use burn::{
    optim::{AdamConfig, AdamState, AdaptiveMomentumState, Optimizer},
    tensor::{Device, Gradients, Tensor, TensorData},
};

use super::{
    clip::clip_global_norm,
    mlp::{Mlp, read},
};
use crate::{
    error::Result,
    networks::AdamSnapshot,
    shape::{MlpShape, PARAMS},
};

/// Adam's state for the parameters of one [`Mlp`]; the update rule is Burn's.
#[derive(Clone)]
pub(crate) struct Adam {
    rule: burn::optim::Adam,
    grad_clip: f64,
    moments: [Option<AdamState<3>>; PARAMS],
}

impl Adam {
    pub(crate) fn new(epsilon: f64, grad_clip: f64) -> Self {
        let rule = AdamConfig::new().with_epsilon(epsilon as f32).build();
        Self { rule, grad_clip, moments: std::array::from_fn(|_| None) }
    }

    /// Takes the gradients of `net`'s parameters out of `grads` and applies one step. Gradients of
    /// other networks in the same graph are dropped with `grads`.
    pub(crate) fn step(&mut self, net: &mut Mlp, mut grads: Gradients, lr: f64) {
        let grads = net.params.each_ref().map(|param| {
            param.grad_remove(&mut grads).expect("every parameter of the network is part of its loss")
        });
        let mut grads = clip_global_norm(grads, self.grad_clip).into_iter();
        let mut moments = self.moments.iter_mut();
        for param in &mut net.params {
            let grad = grads.next().expect("one gradient per parameter");
            let moment = moments.next().expect("one moment per parameter");
            param.inplace(|param| {
                let (stepped, state) = self.rule.step(lr, param.without_autodiff(), grad, moment.take());
                *moment = state;
                stepped.autodiff().require_grad()
            });
        }
    }

    pub(crate) fn snapshot(&self) -> Result<AdamSnapshot> {
        let mut snapshot = AdamSnapshot::default();
        for AdamState { momentum } in self.moments.iter().flatten() {
            snapshot.time = momentum.time as u64;
            snapshot.moment_1.push(read(momentum.moment_1.clone())?);
            snapshot.moment_2.push(read(momentum.moment_2.clone())?);
        }
        Ok(snapshot)
    }

    /// Continues from a snapshot whose vectors have the lengths of `shape`, or are absent at time 0.
    pub(crate) fn restore(&mut self, snapshot: AdamSnapshot, shape: &MlpShape, device: &Device) {
        let upload = |values, dims: [usize; 3]| Tensor::<3>::from_data(TensorData::new(values, dims), device);
        let moments = snapshot.moment_1.into_iter().zip(snapshot.moment_2);
        for ((slot, dims), (m, v)) in self.moments.iter_mut().zip(shape.params()).zip(moments) {
            let time = snapshot.time as usize;
            *slot = Some(AdamState::new(AdaptiveMomentumState::new(time, upload(m, dims), upload(v, dims))));
        }
    }
}

impl std::fmt::Debug for Adam {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Adam").field("grad_clip", &self.grad_clip).finish_non_exhaustive()
    }
}
