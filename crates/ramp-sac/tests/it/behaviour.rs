//! Behaviour cloning, transfer of an actor, and what callers may get wrong.

use burn::tensor::Device;
use ramp_sac::{ActMode, ActorNet, Agent, Error, SacConfig};

fn config() -> SacConfig {
    SacConfig { hidden: [32, 32, 16], batch_size: 32, ..SacConfig::paper(2, 1) }
}

fn agent() -> Agent {
    Agent::new(config(), &Device::flex()).unwrap()
}

/// States on a grid, and the action to imitate: 0.3 left of the middle, 0.8 right of it.
fn lesson() -> (Vec<Vec<f32>>, Vec<Vec<f32>>) {
    let states: Vec<Vec<f32>> = (0..40).map(|i| vec![i as f32 / 20.0 - 0.975, 1.0]).collect();
    let actions = states.iter().map(|s| vec![if s[0] < 0.0 { 0.3 } else { 0.8 }]).collect();
    (states, actions)
}

#[test]
fn cloning_brings_the_policy_to_the_teacher_and_leaves_the_critics() {
    let mut agent = agent();
    let (states, actions) = lesson();
    let q_before = agent.q_values(&states, &actions).unwrap();
    let untrained = agent.clone().clone_behaviour(&states, &actions, 0, 1e-2).unwrap();
    let trained = agent.clone_behaviour(&states, &actions, 400, 1e-2).unwrap();
    assert!(untrained > 0.02 && trained < 1e-3, "{untrained} to {trained}");
    assert!((agent.act(&[-0.7, 1.0], ActMode::Deterministic).unwrap()[0] - 0.3).abs() < 0.05);
    assert!((agent.act(&[0.7, 1.0], ActMode::Deterministic).unwrap()[0] - 0.8).abs() < 0.05);
    assert_eq!(agent.q_values(&states, &actions).unwrap(), q_before);
}

#[test]
fn an_actor_moves_to_a_new_agent_and_to_a_stand_alone_network() {
    let mut teacher = agent();
    let (states, actions) = lesson();
    teacher.clone_behaviour(&states, &actions, 50, 1e-2).unwrap();
    let tensors = teacher.actor_tensors();
    let other = SacConfig { seed: 77, ..config() };
    let mut student = Agent::from_actor(other, &Device::flex(), &tensors).unwrap();
    let net = ActorNet::from_tensors(&tensors).unwrap();
    for state in &states {
        let expected = teacher.act(state, ActMode::Deterministic).unwrap();
        assert_eq!(student.act(state, ActMode::Deterministic).unwrap(), expected);
        assert_eq!(net.act(state).unwrap(), expected);
    }
    // The device copy is the same network, not only the host copy.
    student.clone_behaviour(&states, &actions, 0, 1e-2).unwrap();
    assert_eq!(student.actor_tensors(), tensors);
}

#[test]
fn an_actor_of_another_shape_or_range_is_refused() {
    let tensors = agent().actor_tensors();
    for other in [
        SacConfig { state_dim: 3, ..config() },
        SacConfig { hidden: [32, 16, 16], ..config() },
        SacConfig { log_std_max: 1.0, ..config() },
    ] {
        let error = Agent::from_actor(other, &Device::flex(), &tensors).unwrap_err();
        assert!(matches!(error, Error::Incompatible { .. }), "{error}");
    }
}

#[test]
fn sampled_actions_follow_the_gaussian_before_the_sigmoid() {
    let mut agent = agent();
    let state = [0.4, -0.2];
    let (mu, log_std) = ActorNet::from_tensors(&agent.actor_tensors()).unwrap().forward(&state).unwrap();
    let n = 4000;
    let actions = agent.act_batch(&vec![state.to_vec(); n], ActMode::Sample).unwrap();
    let z: Vec<f64> = actions
        .iter()
        .map(|a| {
            assert!(a[0] > 0.0 && a[0] < 1.0);
            let u = f64::from(a[0] / (1.0 - a[0])).ln();
            (u - f64::from(mu[0])) / f64::from(log_std[0]).exp()
        })
        .collect();
    let mean = z.iter().sum::<f64>() / n as f64;
    let variance = z.iter().map(|z| (z - mean).powi(2)).sum::<f64>() / n as f64;
    // Standard errors 0.016 and 0.022.
    assert!(mean.abs() < 0.08 && (variance - 1.0).abs() < 0.11, "{mean} {variance}");
}

#[test]
fn wrong_inputs_are_errors() {
    let mut agent = agent();
    let fails = |result: Result<Vec<f32>, Error>, message: &str| {
        let error = result.unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    };
    fails(agent.act(&[1.0], ActMode::Sample), "state has 1 elements, expected 2");
    fails(agent.act(&[1.0, f32::NAN], ActMode::Sample), "state[1] is NaN");
    fails(agent.q_values(&[vec![0.0; 2]], &[]), "list of actions has 0 elements, expected 1");
    fails(agent.q_values(&[vec![0.0; 2]], &[vec![1.2]]), "action[0] is 1.2");
    assert!(agent.clone_behaviour(&[], &[], 1, 1e-3).is_err());
    let (states, actions) = lesson();
    assert!(agent.clone_behaviour(&states, &actions, 1, f64::NAN).is_err());
    assert!(agent.update().unwrap().is_none(), "an empty buffer is no error");
    let bad = SacConfig { gamma: 2.0, ..config() };
    assert!(matches!(Agent::new(bad, &Device::flex()), Err(Error::Config { field: "gamma", .. })));
}
