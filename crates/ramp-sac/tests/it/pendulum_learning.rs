//! The agent learns Pendulum-v1. Random torque returns -1226 on average, the optimum -139.

use burn::tensor::Device;
use ramp_sac::{ActMode, Agent, SacConfig, Transition};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::pendulum::{EPISODE_STEPS, Pendulum, torque};

/// Mean return of the deterministic policy over `episodes` fixed starts.
fn evaluate(agent: &mut Agent, episodes: usize) -> f64 {
    let mut rng = ChaCha8Rng::seed_from_u64(1000);
    let mut sum = 0.0;
    for _ in 0..episodes {
        let mut pole = Pendulum::start(rng.random(), rng.random());
        for _ in 0..EPISODE_STEPS {
            let action = agent.act(&pole.observe(), ActMode::Deterministic).unwrap();
            sum += pole.step(torque(action[0]));
        }
    }
    sum / episodes as f64
}

/// Episodes of experience with one update per step; the first five act at random.
fn train(agent: &mut Agent, episodes: usize, seed: u64) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    for number in 0..episodes {
        let mut pole = Pendulum::start(rng.random(), rng.random());
        let mut episode = Vec::with_capacity(EPISODE_STEPS);
        for t in 0..EPISODE_STEPS {
            let state = pole.observe();
            let action = match number {
                0..5 => vec![rng.random_range(0.0..1.0)],
                _ => agent.act(&state, ActMode::Sample).unwrap(),
            };
            let reward = pole.step(torque(action[0])) as f32;
            let (next_state, truncated) = (pole.observe(), t + 1 == EPISODE_STEPS);
            episode.push(Transition { state, action, reward, next_state, terminated: false, truncated });
        }
        agent.push_episode(episode).unwrap();
        if number >= 5 {
            for _ in 0..EPISODE_STEPS {
                agent.update().unwrap();
            }
        }
    }
}

#[test]
fn a_small_agent_swings_the_pole_up() {
    let config = SacConfig { hidden: [64, 64, 64], lr: 2e-3, seed: 1, ..SacConfig::paper(3, 1) };
    let mut agent = Agent::new(config, &Device::flex()).unwrap();
    let before = evaluate(&mut agent, 20);
    train(&mut agent, 40, 1);
    let after = evaluate(&mut agent, 20);
    assert!(before < -800.0, "untrained: {before}");
    assert!(after > -250.0, "trained: {after}");
}
