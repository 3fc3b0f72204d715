//! Gradients through the whole model, on a device with autodiff.

use burn::tensor::{Device, Tensor};
use ramp_model::{CausalLm, LayerId, Precision, Role};

use crate::{nano, sample_tokens};

/// The sum of all log-sum-exps less the first logits: some smooth number that every weight moves.
fn number(model: &CausalLm, tokens: &[u32]) -> Tensor<1> {
    let logits = model.logits(&[tokens]).unwrap();
    let [_, seq, vocab] = logits.dims();
    let logits: Tensor<2> = logits.reshape([seq, vocab]);
    let first = logits.clone().narrow(1, 0, 1).sum();
    ramp_model::log_sum_exp(logits).1.sum() - first
}

fn value(tensor: Tensor<1>) -> f64 {
    f64::from(tensor.try_into_vec_as::<f32>().unwrap()[0])
}

#[test]
fn the_model_with_autodiff_is_the_same_model() {
    let (files, model) = nano();
    let tokens = sample_tokens(&files, 24);
    let same = model.to(&Device::flex().autodiff(), Precision::F32).unwrap();
    assert!(model.is_on_host() && !same.is_on_host());
    let (a, b) = (model.logits(&[&tokens]).unwrap(), same.logits(&[&tokens]).unwrap());
    let (a, b) = (a.try_into_vec_as::<f32>().unwrap(), b.inner().try_into_vec_as::<f32>().unwrap());
    let worst = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst < 1e-3, "{worst}");
}

#[test]
fn gradients_are_those_of_differences() {
    let (files, model) = nano();
    let tokens = sample_tokens(&files, 24);
    let device = Device::flex().autodiff();
    let tracked = model.to(&device, Precision::F32).unwrap();
    let down = LayerId::Block { block: 0, role: Role::Down };
    let q = LayerId::Block { block: 1, role: Role::Q };
    for id in [down, q, LayerId::TokenEmbd] {
        let mut tracked = tracked.clone();
        let weight = tracked.weight(id).unwrap().require_grad();
        tracked.set_weight(id, weight.clone()).unwrap();
        let gradients = number(&tracked, &tokens).backward();
        let gradient = weight.grad(&gradients).unwrap();
        // Along the gradient, a step of size t moves the number by t |g|².
        let plain = model.weight(id).unwrap();
        let square = value(gradient.clone().square().sum());
        let step = 1e-2 / square.sqrt();
        let moved = |step: f64| {
            let mut model = model.clone();
            model.set_weight(id, plain.clone() + gradient.clone() * step).unwrap();
            value(number(&model, &tokens))
        };
        let slope = (moved(step) - moved(-step)) / (2.0 * step);
        assert!((slope / square - 1.0).abs() < 0.02, "{id}: {slope} {square}");
    }
}
