//! Advantages, the clipped objective and its slopes by hand; learning; resumption.

use super::{update::surrogate, *};

fn config() -> PpoConfig {
    PpoConfig { hidden: [16, 16, 16], batch_size: 32, lr: 3e-3, ..PpoConfig::new(2, 3) }
}

fn agent(config: PpoConfig) -> Ppo {
    Ppo::new(config, &Device::flex()).unwrap()
}

#[test]
fn advantages_are_sums_of_discounted_surprises() {
    let (rewards, values) = ([1.0, 0.0, 2.0], [0.5, 1.0, -1.0, 4.0]);
    let delta = [1.0 + 0.9 - 0.5, -0.9 - 1.0, 2.0 + 0.9 * 4.0 + 1.0];
    let found = advantages(&rewards, &values, 0.9, 0.8);
    for (t, found) in found.into_iter().enumerate() {
        let expected: f64 = (t..3).map(|k| 0.72_f64.powi((k - t) as i32) * delta[k]).sum();
        assert!((found - expected).abs() < 1e-12);
    }
    // λ = 1: the return minus the value. λ = 0: one step.
    let found = advantages(&rewards, &[0.5, 1.0, -1.0, 0.0], 1.0, 1.0);
    assert_eq!(found, [3.0 - 0.5, 2.0 - 1.0, 2.0 + 1.0]);
    assert_eq!(advantages(&rewards, &values, 0.9, 0.0), delta);
}

#[test]
fn beyond_the_interval_there_is_nothing_to_gain() {
    // (ratio, advantage, loss, slope at ln π)
    let cases = [
        (1.0, 2.0, -2.0, -2.0),
        (1.1, 2.0, -2.2, -2.2),
        (1.5, 2.0, -2.4, 0.0),  // already likelier: no slope
        (0.5, 2.0, -1.0, -1.0), // made less likely by mistake: pulled back
        (1.5, -2.0, 3.0, 3.0),
        (0.5, -2.0, 1.6, 0.0),
    ];
    for (ratio, advantage, loss, slope) in cases {
        let found = surrogate(f64::ln(ratio) - 1.0, -1.0, advantage, 0.2);
        assert!((found.loss - loss).abs() < 1e-12, "{ratio} {advantage}: {}", found.loss);
        assert!((found.by_log_prob - slope).abs() < 1e-12, "{ratio} {advantage}: {}", found.by_log_prob);
    }
}

/// Reward 1 for action 2 in the right half of the states and for action 0 in the left; where it is masked, for none.
fn episode(agent: &mut Ppo, state: f32, mask: &[bool]) -> PpoStep {
    let state = vec![state, 1.0];
    let choice = agent.act(&state, mask, ActMode::Sample).unwrap();
    let best = if state[0] > 0.0 { 2 } else { 0 };
    let reward = if choice.action == best { 1.0 } else { 0.0 };
    PpoStep { state, mask: mask.to_vec(), choice, reward }
}

fn learn(agent: &mut Ppo, rounds: usize) -> Vec<PpoMetrics> {
    (0..rounds)
        .map(|_| {
            for i in 0..64 {
                let mask: &[bool] = if i % 4 == 0 { &[true, true, false] } else { &[] };
                let step = episode(agent, i as f32 / 32.0 - 0.99, mask);
                agent.push_episode(&[step], &End::Terminated).unwrap();
            }
            agent.update().unwrap().unwrap()
        })
        .collect()
}

#[test]
fn it_learns_which_action_is_best_where() {
    let mut agent = agent(config());
    let history = learn(&mut agent, 12);
    let last = history.last().unwrap();
    assert!(last.entropy < history[0].entropy && last.critic_loss < history[0].critic_loss, "{history:?}");
    assert!(history.iter().all(|seen| (0.0..0.2).contains(&seen.kl)), "the policy stays near: {history:?}");
    let net = agent.policy().unwrap();
    for state in [-0.8, -0.3, 0.3, 0.8] {
        assert_eq!(net.act(&[state, 1.0], &[]).unwrap(), if state > 0.0 { 2 } else { 0 }, "{state}");
    }
    assert_eq!(net.probabilities(&[0.5, 1.0], &[true, true, false]).unwrap()[2], 0.0);
}

/// A cut-off episode goes on behind the cut; a finished one does not.
#[test]
fn truncation_bootstraps_and_termination_does_not() {
    let mut agent = agent(config());
    let step = episode(&mut agent, 0.5, &[]);
    let after = vec![0.9, 1.0];
    let value = |agent: &Ppo, state: &[f32]| f64::from(agent.critic.forward(state).unwrap()[0]);
    let (here, there) = (value(&agent, &step.state), value(&agent, &after));
    agent.push_episode(std::slice::from_ref(&step), &End::Terminated).unwrap();
    agent.push_episode(std::slice::from_ref(&step), &End::Truncated(after)).unwrap();
    let reward = f64::from(step.reward);
    assert!((agent.rollout.advantages[0] - (reward - here)).abs() < 1e-6);
    assert!((agent.rollout.advantages[1] - (reward + 0.99 * there - here)).abs() < 1e-6);
    assert!((agent.rollout.returns[1] - (reward + 0.99 * there)).abs() < 1e-6);
}

#[test]
fn a_resumed_run_is_the_uninterrupted_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ppo");
    let mut agent = agent(config());
    learn(&mut agent, 2);
    // In the middle of a rollout.
    let step = episode(&mut agent, -0.2, &[]);
    agent.push_episode(&[step], &End::Terminated).unwrap();
    agent.save(&path).unwrap();
    let mut loaded = Ppo::load(&path, &Device::flex()).unwrap();
    assert_eq!((loaded.rollout_len(), loaded.updates()), (1, agent.updates()));
    assert_eq!(learn(&mut loaded, 2), learn(&mut agent, 2));
    assert_eq!(loaded.policy().unwrap(), agent.policy().unwrap());
}

#[test]
fn malformed_steps_are_refused() {
    let mut agent = agent(config());
    let good = episode(&mut agent, 0.5, &[]);
    type Break = fn(&mut PpoStep);
    let cases: [(Break, &str); 5] = [
        (|s| s.choice.action = 3, "action of step 0 is 3"),
        (|s| s.choice.log_prob = 0.5, "log_prob of step 0 is 0.5"),
        (|s| s.mask = vec![false; 3], "allows no action"),
        (|s| s.state[0] = f32::NAN, "state[0] is NaN"),
        (|s| s.reward = f32::INFINITY, "reward[0] is inf"),
    ];
    for (spoil, message) in cases {
        let mut step = good.clone();
        spoil(&mut step);
        let error = agent.push_episode(&[step], &End::Terminated).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
    assert!(agent.push_episode(&[], &End::Terminated).is_err());
    assert!(agent.push_episode(&[good], &End::Truncated(vec![0.0])).is_err());
    assert!(agent.update().unwrap().is_none(), "nothing was added");
    let bad = PpoConfig { lambda: 2.0, ..config() };
    assert!(matches!(Ppo::new(bad, &Device::flex()), Err(Error::Config { field: "lambda", .. })));
}
