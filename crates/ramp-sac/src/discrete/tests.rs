//! Targets and losses by hand, masks, and resumption.

use super::*;
use crate::{config::TargetKind, replay::Batch};

fn config() -> DiscreteConfig {
    DiscreteConfig { hidden: [8, 8, 8], batch_size: 4, gamma: 0.9, ..DiscreteConfig::new(2, 3) }
}

fn agent(config: DiscreteConfig) -> DiscreteAgent {
    DiscreteAgent::new(config, &Device::flex()).unwrap()
}

fn batch() -> Batch {
    Batch {
        states: vec![0.1, 0.2, -0.4, 0.3, 0.9, -0.9, 0.0, 1.0],
        actions: vec![0.0, 2.0, 1.0, 2.0],
        masks: vec![1.0; 12],
        rewards: vec![1.0, -2.0, 0.5, 3.0],
        next_states: vec![0.3, 0.1, -0.2, 0.7, 0.5, -0.5, 0.6, 0.2],
        next_masks: vec![1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0],
        discounts: vec![0.9, 0.0, 0.9, 0.9],
        returns: vec![10.0, 20.0, 30.0, 40.0],
    }
}

#[test]
fn target_is_the_exact_expectation_over_allowed_actions() {
    let agent = agent(config());
    let (b, alpha) = (batch(), 0.3);
    let y = agent.target(&b, alpha).unwrap();
    let q = agent.learner.targets.forward(&b.next_states).unwrap();
    let logits = agent.learner.actor.forward(&b.next_states).unwrap();
    for row in 0..4 {
        let allowed: Vec<usize> = (0..3).filter(|a| b.next_masks[3 * row + a] == 1.0).collect();
        let weight = |a: usize| f64::from(logits[3 * row + a]).exp();
        let total: f64 = allowed.iter().map(|&a| weight(a)).sum();
        let soft: f64 = allowed
            .iter()
            .map(|&a| {
                let p = weight(a) / total;
                let least = f64::from(q[3 * row + a].min(q[12 + 3 * row + a]));
                p * (least - alpha * p.ln())
            })
            .sum();
        let expected = f64::from(b.rewards[row]) + b.discounts[row] * soft;
        assert!((f64::from(y[row]) - expected).abs() < 1e-5, "{row}: {} against {expected}", y[row]);
    }
    assert_eq!(y[1], -2.0, "terminated");
    let by_return = self::agent(DiscreteConfig { target: TargetKind::MonteCarlo, ..config() });
    assert_eq!(by_return.target(&b, alpha).unwrap(), b.returns);
}

fn step(action: usize, mask: &[bool], last: bool) -> DiscreteTransition {
    DiscreteTransition {
        state: vec![0.5, action as f32],
        mask: mask.to_vec(),
        action,
        reward: 1.0,
        next_state: vec![0.1, 0.2],
        next_mask: Vec::new(),
        terminated: last,
        truncated: false,
    }
}

#[test]
fn malformed_episodes_are_refused_by_name() {
    type Break = fn(&mut Vec<DiscreteTransition>);
    let cases: [(Break, &str); 7] = [
        (|e| e[0].action = 3, "action of transition 0 is 3"),
        (|e| e[1].action = 1, "action of transition 1 is 1, expected the index of an allowed action"),
        (|e| e[1].mask = vec![false; 3], "the mask of transition 1 allows no action"),
        (|e| e[0].next_mask = vec![false; 3], "the mask of transition 0 allows no action"),
        (|e| e[0].mask = vec![true; 4], "mask has 4 elements, expected 3"),
        (|e| e[0].state = vec![], "state has 0"),
        (|e| e[1].terminated = false, "neither"),
    ];
    let mut agent = agent(config());
    for (spoil, message) in cases {
        let mut episode = vec![step(0, &[], false), step(2, &[true, false, true], true)];
        agent.clone().push_episode(&episode).unwrap();
        spoil(&mut episode);
        let error = agent.push_episode(&episode).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
    assert_eq!(agent.replay_len(), 0);
    assert!(matches!(agent.act(&[0.0, 0.0], &[false; 3], ActMode::Sample), Err(Error::Mask { .. })));
    assert!(matches!(agent.act(&[0.0], &[], ActMode::Sample), Err(Error::Length { .. })));
    assert!(agent.clone_behaviour(&[vec![0.0; 2]], &[], &[3], 1, 1e-3).is_err());
    let bad = DiscreteConfig { entropy_fraction: 1.5, ..config() };
    assert!(matches!(
        DiscreteAgent::new(bad, &Device::flex()),
        Err(Error::Config { field: "entropy_fraction", .. })
    ));
}

#[test]
fn only_the_taken_actions_value_is_pulled() {
    // One state, one action taken: after many updates its value is right, and the others' are whatever they are.
    let mut agent = agent(DiscreteConfig { auto_alpha: false, init_alpha: 0.0, lr: 1e-2, ..config() });
    for _ in 0..4 {
        agent.push_episode(&[step(1, &[], true)]).unwrap();
    }
    for _ in 0..300 {
        agent.update().unwrap().unwrap();
    }
    let q = agent.q_values(&[vec![0.5, 1.0]]).unwrap();
    assert!((q[0][1] - 1.0).abs() < 0.05, "{q:?}");
}

#[test]
fn a_resumed_run_is_the_uninterrupted_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent");
    let masks = [[true, true, true], [true, false, true], [false, true, true]];
    let train = |agent: &mut DiscreteAgent| -> Vec<crate::UpdateMetrics> {
        let mut history = Vec::new();
        for round in 0..6 {
            let mask = &masks[round % 3];
            let action = agent.act(&[0.1, round as f32], mask, ActMode::Sample).unwrap();
            let mut last = step(action, mask, true);
            last.reward = action as f32;
            agent.push_episode(&[step(2, &[], false), last]).unwrap();
            history.extend(agent.update().unwrap());
        }
        history
    };
    for target in [TargetKind::Td0, TargetKind::NStep(2), TargetKind::MonteCarlo] {
        // The ring wraps while it trains.
        let config = DiscreteConfig { target, replay_capacity: 9, ..config() };
        let mut agent = agent(config);
        train(&mut agent);
        agent.save(&path).unwrap();
        let mut loaded = DiscreteAgent::load(&path, &Device::flex()).unwrap();
        assert_eq!(train(&mut loaded), train(&mut agent));
        assert_eq!(loaded.policy().unwrap(), agent.policy().unwrap());
        assert_eq!((loaded.alpha(), loaded.updates()), (agent.alpha(), agent.updates()));
    }
    let error = crate::Agent::load(&path, &Device::flex()).unwrap_err().to_string();
    assert!(error.contains("it is of kind \"discrete_sac\""), "{error}");
}

#[test]
fn a_policy_moves_through_tensors() {
    let mut teacher = agent(config());
    let states = vec![vec![-1.0, 0.0], vec![1.0, 0.0], vec![0.0, 1.0]];
    let masks = vec![vec![], vec![true, false, true], vec![]];
    let loss = teacher.clone_behaviour(&states, &masks, &[1, 2, 0], 300, 1e-2).unwrap();
    assert!(loss < 0.05, "{loss}");
    let net = CategoricalNet::from_tensors(&teacher.policy().unwrap().to_tensors()).unwrap();
    let mut student = DiscreteAgent::from_actor(config(), &Device::flex(), &net.to_tensors()).unwrap();
    for ((state, mask), expected) in states.iter().zip(&masks).zip([1, 2, 0]) {
        assert_eq!(net.act(state, mask).unwrap(), expected);
        assert_eq!(student.act(state, mask, ActMode::Deterministic).unwrap(), expected);
    }
    assert_ne!(net.act(&states[0], &[true, false, true]).unwrap(), 1);
    assert_eq!(net.probabilities(&states[0], &[true, false, true]).unwrap()[1], 0.0);
    let other = DiscreteConfig { actions: 4, ..config() };
    assert!(matches!(
        DiscreteAgent::from_actor(other, &Device::flex(), &net.to_tensors()),
        Err(Error::Incompatible { what: "number of actions", .. })
    ));
}
