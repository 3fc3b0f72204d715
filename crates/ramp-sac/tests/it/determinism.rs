//! Same seed, same calls, same bytes.

use burn::tensor::Device;
use ramp_sac::{ActMode, Agent, SacConfig, Transition, UpdateMetrics};

/// Large enough that matrix products run on several threads.
pub(crate) fn config(seed: u64) -> SacConfig {
    SacConfig { hidden: [256, 256, 128], seed, ..SacConfig::paper(11, 1) }
}

/// Acts through one episode and updates a few times.
pub(crate) fn train(agent: &mut Agent, updates: usize) -> Vec<UpdateMetrics> {
    let mut episode = Vec::new();
    let mut state = vec![0.1; 11];
    for t in 0..150 {
        let action = agent.act(&state, ActMode::Sample).unwrap();
        let mut next_state = state.clone();
        next_state[t % 11] += action[0] - 0.5;
        let reward = -(action[0] - 0.6).abs();
        let terminated = t == 149;
        let step = Transition { state, action, reward, next_state, terminated, truncated: false };
        state = step.next_state.clone();
        episode.push(step);
    }
    agent.push_episode(episode).unwrap();
    (0..updates).map(|_| agent.update().unwrap().unwrap()).collect()
}

#[test]
fn one_seed_gives_one_history() {
    let run = |seed| {
        let mut agent = Agent::new(config(seed), &Device::flex()).unwrap();
        let history = train(&mut agent, 20);
        (history, agent.actor_tensors())
    };
    let (first, again, other) = (run(4), run(4), run(5));
    assert!(first == again, "two runs of one seed differ");
    assert!(first.0 != other.0 && first.1 != other.1, "two seeds agree");
}

/// On one thread the passes of an update follow each other; on several some are side by side.
#[test]
fn threads_do_not_change_an_update() {
    let run = |threads| {
        let mut agent = Agent::new(config(4), &Device::flex()).unwrap();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let history = pool.install(|| train(&mut agent, 5));
        (history, agent.actor_tensors())
    };
    let (one, five) = (run(1), run(5));
    assert!(one == five, "threads change the history");
}

#[test]
fn evaluating_in_between_does_not_change_training() {
    let mut plain = Agent::new(config(4), &Device::flex()).unwrap();
    let mut watched = plain.clone();
    let expected = train(&mut plain, 6);
    let mut history = train(&mut watched, 3);
    for _ in 0..3 {
        watched.act(&[0.3; 11], ActMode::Sample).unwrap();
        watched.act(&[0.3; 11], ActMode::Deterministic).unwrap();
        history.push(watched.update().unwrap().unwrap());
    }
    assert_eq!(history, expected);
}

#[test]
fn a_batch_of_states_acts_as_the_states_one_by_one() {
    let mut one = Agent::new(config(4), &Device::flex()).unwrap();
    let mut all = one.clone();
    let states: Vec<Vec<f32>> = (0..5).map(|i| vec![i as f32; 11]).collect();
    for mode in [ActMode::Sample, ActMode::Deterministic] {
        let singly: Vec<_> = states.iter().map(|state| one.act(state, mode).unwrap()).collect();
        assert_eq!(all.act_batch(&states, mode).unwrap(), singly);
    }
}
