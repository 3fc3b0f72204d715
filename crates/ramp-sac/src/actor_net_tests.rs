//! The host forward pass against Burn's, and the tensors' format.

use burn::tensor::Device;

use super::*;
use crate::{Agent, Head, SacConfig};

fn agent(head: Head) -> Agent {
    let config = SacConfig { hidden: [33, 20, 7], head, seed: 3, ..SacConfig::paper(5, 2) };
    Agent::new(config, &Device::flex()).unwrap()
}

/// Rows of a state far from and close to zero.
fn states() -> Vec<f32> {
    (0..50).map(|i| ((i * i) as f32 * 0.37).sin() * if i < 25 { 1.0 } else { 30.0 }).collect()
}

#[test]
fn a_row_alone_acts_as_a_row_of_a_batch() {
    for head in [Head::LogStd, Head::LogVar] {
        let agent = agent(head);
        let net = ActorNet::from_tensors(&agent.actor_tensors()).unwrap();
        let outputs = agent.learner.actor.forward(&states()).unwrap();
        for (row, state) in states().chunks(5).enumerate() {
            let (host_mu, host_log_std) = net.forward(state).unwrap();
            for action in 0..2 {
                let at = 4 * row + action;
                assert_eq!(host_mu[action], outputs[at], "row {row}");
                let log_std = agent.gaussian.log_std(f64::from(outputs[at + 2])).0;
                assert_eq!(host_log_std[action], log_std as f32, "row {row}");
            }
        }
    }
}

#[test]
fn log_variance_head_halves_the_bounds() {
    let net = ActorNet::from_tensors(&agent(Head::LogVar).actor_tensors()).unwrap();
    assert_eq!(net.log_std_range(), [-2.5, 1.0]);
    let (_, log_std) = net.forward(&[1e6; 5]).unwrap();
    assert!(log_std.iter().all(|value| (-2.5..=1.0).contains(value)), "{log_std:?}");
}

#[test]
fn tensors_survive_a_round_trip_and_weights_are_out_by_in() {
    let tensors = agent(Head::LogStd).actor_tensors();
    assert_eq!((tensors[0].0.as_str(), tensors[0].1.as_slice()), ("fc1.weight", [33, 5].as_slice()));
    assert_eq!((tensors[10].0.as_str(), tensors[10].1.as_slice()), ("head.weight", [4, 7].as_slice()));
    let net = ActorNet::from_tensors(&tensors).unwrap();
    assert_eq!((net.state_dim(), net.hidden(), net.action_dim()), (5, [33, 20, 7], 2));
    assert_eq!(net.to_tensors(), tensors);
    assert!(matches!(net.act(&[0.0; 4]), Err(Error::Length { what: "state", found: 4, expected: 5 })));
}

/// One unit per layer, where the result can be computed by hand.
#[test]
fn a_network_that_can_be_computed_by_hand() {
    let tensor =
        |name: &str, shape: &[usize], values: &[f32]| (name.to_string(), shape.to_vec(), values.to_vec());
    let net = ActorNet::from_tensors(&[
        // Two hidden units with inputs +1 and -1 normalise to +1 and -1; ReLU keeps the first.
        tensor("fc1.weight", &[2, 1], &[1.0, -1.0]),
        tensor("fc1.bias", &[2], &[0.0, 0.0]),
        tensor("ln1.weight", &[2], &[2.0, 2.0]),
        tensor("ln1.bias", &[2], &[0.5, 0.5]),
        // (2.5, 0) to (2.5, 5.0): normalised (-1, 1).
        tensor("fc2.weight", &[2, 2], &[1.0, 9.0, 2.0, 9.0]),
        tensor("fc2.bias", &[2], &[0.0, 0.0]),
        tensor("ln2.weight", &[2], &[1.0, 3.0]),
        tensor("ln2.bias", &[2], &[0.0, 0.0]),
        tensor("fc3.weight", &[1, 2], &[4.0, 0.5]),
        tensor("fc3.bias", &[1], &[0.25]),
        tensor("head.weight", &[2, 1], &[2.0, 0.0]),
        tensor("head.bias", &[2], &[-1.0, 0.0]),
        tensor("log_std_range", &[2], &[-4.0, 2.0]),
    ]);
    let (mu, log_std) = net.unwrap().forward(&[7.0]).unwrap();
    // 0.5 · 3 + 0.25 = 1.75, twice that minus 1; tanh 0 is the middle of the range.
    assert!((mu[0] - 2.5).abs() < 1e-4, "{mu:?}");
    assert_eq!(log_std, [-1.0]);
}

#[test]
fn malformed_tensors_are_refused_by_name() {
    type Break = fn(&mut Vec<NamedTensor>);
    let cases: [(Break, &str); 7] = [
        (|t| drop(t.remove(3)), "tensor `ln1.bias` is missing"),
        (|t| drop(t.pop()), "tensor `log_std_range` is missing"),
        (|t| t[0].1 = vec![usize::MAX, usize::MAX], "fc1.weight"),
        (|t| t[4].1 = vec![0, 0], "fc2.weight"),
        (|t| t[4].2.truncate(1), "fc2.weight"),
        (|t| t[10].1 = vec![usize::MAX, 7], "head.weight"),
        (|t| t[6].2[1] = f32::NAN, "ln2.weight[1] is NaN"),
    ];
    for (spoil, message) in cases {
        let mut tensors = agent(Head::LogStd).actor_tensors();
        spoil(&mut tensors);
        let error = ActorNet::from_tensors(&tensors).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
}
