//! Polyak averaging: target networks that follow the online ones slowly.

use super::mlp::Mlp;

/// θ̄ ← (1 - τ) θ̄ + τ θ for every parameter, LayerNorm's included. `target` is without autodiff.
pub(crate) fn polyak(target: Mlp, online: &Mlp, tau: f64) -> Mlp {
    let mut online = online.plain().params.into_iter();
    target.map(|old| {
        let new = online.next().expect("target and online networks have one shape");
        (new - old.clone()) * tau + old
    })
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::shape::{MlpShape, PARAMS};

    #[test]
    fn every_parameter_moves_by_tau_towards_the_online_network() {
        let device = Device::flex();
        let shape = MlpShape { networks: 2, inputs: 3, hidden: [4, 5, 6], outputs: 1 };
        let constant = |value: f32| {
            let values = shape.params().iter().map(|d| vec![value; d.iter().product()]).collect();
            Mlp::upload(&shape, values, &device)
        };
        let moved = polyak(constant(1.0), &constant(3.0).trainable(), 0.25);
        assert!(!moved.params[0].is_autodiff());
        let values = moved.download().unwrap();
        assert_eq!(values.len(), PARAMS);
        assert!(values.iter().flatten().all(|&value| value == 1.5));
    }
}
