//! Probe environments: each isolates one thing that can be broken, and each has a known answer.

use burn::tensor::Device;
use ramp_sac::{ActMode, Agent, SacConfig, TargetKind, Transition, UpdateMetrics};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Small networks, a large step and no entropy: a probe is about one mechanism.
fn config(state_dim: usize) -> SacConfig {
    SacConfig {
        hidden: [32, 32, 16],
        batch_size: 64,
        lr: 3e-3,
        gamma: 0.9,
        tau: 0.05,
        auto_alpha: false,
        init_alpha: 0.0,
        seed: 1,
        ..SacConfig::paper(state_dim, 1)
    }
}

fn agent(config: SacConfig) -> Agent {
    Agent::new(config, &Device::flex()).unwrap()
}

/// An episode of one step that terminates.
fn bandit(state: f32, action: f32, reward: f32) -> Vec<Transition> {
    vec![Transition {
        state: vec![state],
        action: vec![action],
        reward,
        next_state: vec![0.0],
        terminated: true,
        truncated: false,
    }]
}

/// `len` steps through one-hot states, reward 1 for the last.
fn chain(len: usize, action: f32) -> Vec<Transition> {
    let one_hot = |hot: usize| (0..len).map(|i| if i == hot { 1.0 } else { 0.0 }).collect::<Vec<f32>>();
    (0..len)
        .map(|t| Transition {
            state: one_hot(t),
            action: vec![action],
            reward: if t + 1 == len { 1.0 } else { 0.0 },
            next_state: one_hot(t + 1),
            terminated: t + 1 == len,
            truncated: false,
        })
        .collect()
}

/// Fills the buffer with one-step episodes of uniformly random actions and states ±1.
fn explore_bandit(agent: &mut Agent, episodes: usize, reward: impl Fn(f32, f32) -> f32) {
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    for _ in 0..episodes {
        let state = if rng.random::<bool>() { 1.0 } else { -1.0 };
        let action = rng.random_range(0.0..1.0);
        agent.push_episode(bandit(state, action, reward(state, action))).unwrap();
    }
}

fn update(agent: &mut Agent, times: usize) {
    for _ in 0..times {
        agent.update().unwrap().expect("the buffer holds a batch");
    }
}

fn q(agent: &Agent, state: &[f32]) -> f32 {
    agent.q_values(&[state.to_vec()], &[vec![0.5]]).unwrap()[0]
}

fn greedy(agent: &mut Agent, state: f32) -> f32 {
    agent.act(&[state], ActMode::Deterministic).unwrap()[0]
}

/// Mean deterministic action for each state while updates go on: the critic never stops moving a little,
/// and the actor follows.
fn settled<const N: usize>(agent: &mut Agent, states: [f32; N]) -> [f32; N] {
    let mut mean = [0.0; N];
    for _ in 0..20 {
        update(agent, 25);
        for (mean, state) in mean.iter_mut().zip(states) {
            *mean += greedy(agent, state) / 20.0;
        }
    }
    mean
}

fn assert_close(found: f32, expected: f32, tolerance: f32) {
    assert!((found - expected).abs() <= tolerance, "{found}, expected {expected} ± {tolerance}");
}

#[test]
fn p1_constant_reward_is_the_value() {
    let mut agent = agent(config(1));
    for i in 0..64 {
        agent.push_episode(bandit(0.0, i as f32 / 64.0, 1.0)).unwrap();
    }
    update(&mut agent, 300);
    assert_close(q(&agent, &[0.0]), 1.0, 0.05);
}

#[test]
fn p2_value_depends_on_the_state() {
    let mut agent = agent(config(1));
    explore_bandit(&mut agent, 256, |state, _| state);
    update(&mut agent, 300);
    assert_close(q(&agent, &[1.0]), 1.0, 0.05);
    assert_close(q(&agent, &[-1.0]), -1.0, 0.05);
}

#[test]
fn p3_bootstrap_discounts_a_reward_one_step_later() {
    let mut agent = agent(config(2));
    for i in 0..128 {
        agent.push_episode(chain(2, i as f32 / 128.0)).unwrap();
    }
    update(&mut agent, 800);
    assert_close(q(&agent, &[0.0, 1.0]), 1.0, 0.05);
    assert_close(q(&agent, &[1.0, 0.0]), 0.9, 0.05);
}

#[test]
fn p4_actor_finds_the_best_action() {
    let mut agent = agent(config(1));
    explore_bandit(&mut agent, 1024, |_, action| -(action - 0.7) * (action - 0.7));
    update(&mut agent, 1000);
    let [right, left] = settled(&mut agent, [1.0, -1.0]);
    assert_close(right, 0.7, 0.03);
    assert_close(left, 0.7, 0.03);
}

#[test]
fn p5_best_action_depends_on_the_state() {
    let mut agent = agent(config(1));
    let best = |state: f32| if state > 0.0 { 0.8 } else { 0.2 };
    explore_bandit(&mut agent, 1024, |state, action| -(action - best(state)).powi(2));
    update(&mut agent, 1000);
    let [right, left] = settled(&mut agent, [1.0, -1.0]);
    assert_close(right, 0.8, 0.03);
    assert_close(left, 0.2, 0.03);
}

#[test]
fn p6_best_of_four_bins() {
    let mut agent = agent(config(1));
    let table = [0.0, 0.3, 1.0, 0.1];
    let bin = |action: f32| (action * 4.0) as usize;
    explore_bandit(&mut agent, 1024, |_, action| table[bin(action)]);
    update(&mut agent, 1500);
    assert_eq!(bin(greedy(&mut agent, 1.0)), 2);
    assert_eq!(bin(greedy(&mut agent, -1.0)), 2);
}

/// How far a reward at the end has come after 300 updates, by length of the episode.
#[test]
fn p7_credit_reaches_the_start_of_a_long_chain() {
    let learn = |len: usize, target| {
        let mut agent = agent(SacConfig { target, gamma: 1.0, tau: 0.005, ..config(len) });
        for i in 0..16 {
            agent.push_episode(chain(len, i as f32 / 16.0)).unwrap();
        }
        update(&mut agent, 300);
        let mut first = vec![0.0; len];
        first[0] = 1.0;
        q(&agent, &first)
    };
    for len in [8, 32, 224] {
        assert_close(learn(len, TargetKind::MonteCarlo), 1.0, 0.05);
    }
    // As many steps as the chain has are its return.
    assert_close(learn(32, TargetKind::NStep(32)), 1.0, 0.05);
    // The same 300 updates are a few target delays: bootstrapping has not brought the reward here.
    for len in [32, 224] {
        let bootstrapped = learn(len, TargetKind::Td0);
        assert!(bootstrapped < 0.5, "{len}: {bootstrapped}");
    }
}

/// The categorical agent on a table of rewards by state and action, of which the best may be masked.
#[test]
fn p6_categorical_takes_the_best_allowed_action() {
    use ramp_sac::{DiscreteAgent, DiscreteConfig, DiscreteTransition};
    let config = DiscreteConfig {
        hidden: [32, 32, 16],
        batch_size: 64,
        lr: 3e-3,
        auto_alpha: false,
        init_alpha: 0.01,
        ..DiscreteConfig::new(1, 4)
    };
    let mut agent = DiscreteAgent::new(config, &Device::flex()).unwrap();
    let table = |state: f32| if state > 0.0 { [0.0, 0.3, 1.0, 0.1] } else { [0.8, 0.3, 0.2, 0.9] };
    for i in 0..256 {
        let (state, action) = (if i % 2 == 0 { 1.0 } else { -1.0 }, i / 2 % 4);
        // The policy is asked for the second best only where the best is not allowed, which is half of the time.
        let best = if state > 0.0 { 2 } else { 3 };
        let masked = action != best && i / 8 % 2 == 0;
        let mask = if masked { (0..4).map(|a| a != best).collect() } else { Vec::new() };
        agent
            .push_episode(&[DiscreteTransition {
                state: vec![state],
                mask,
                action,
                reward: table(state)[action],
                next_state: vec![0.0],
                next_mask: Vec::new(),
                terminated: true,
                truncated: false,
            }])
            .unwrap();
    }
    for _ in 0..800 {
        agent.update().unwrap();
    }
    for state in [1.0, -1.0] {
        for (found, expected) in agent.q_values(&[vec![state]]).unwrap()[0].iter().zip(table(state)) {
            assert_close(*found, expected, 0.05);
        }
    }
    let mut best = |state: f32, mask: &[bool]| agent.act(&[state], mask, ActMode::Deterministic).unwrap();
    assert_eq!([best(1.0, &[]), best(-1.0, &[])], [2, 3]);
    assert_eq!([best(1.0, &[true, true, false, true]), best(-1.0, &[true, true, true, false])], [1, 0]);
}

/// Its temperature brings the entropy to a fraction of ln |A|, from both sides.
#[test]
fn categorical_entropy_comes_to_its_target() {
    use ramp_sac::{DiscreteAgent, DiscreteConfig, DiscreteTransition};
    for init_alpha in [1.0, 0.01] {
        let config = DiscreteConfig {
            hidden: [32, 32, 16],
            batch_size: 64,
            lr: 3e-3,
            init_alpha,
            entropy_fraction: 0.5,
            ..DiscreteConfig::new(1, 4)
        };
        let mut agent = DiscreteAgent::new(config, &Device::flex()).unwrap();
        for i in 0..256 {
            let step = DiscreteTransition {
                state: vec![0.0],
                mask: Vec::new(),
                action: i % 4,
                reward: [0.0, 0.5, 1.0, 0.25][i % 4],
                next_state: vec![0.0],
                next_mask: Vec::new(),
                terminated: true,
                truncated: false,
            };
            agent.push_episode(&[step]).unwrap();
        }
        let mut entropy = 0.0;
        for step in 0..2500 {
            let metrics = agent.update().unwrap().unwrap();
            assert!(metrics.alpha > 0.0);
            entropy += if step >= 2200 { metrics.entropy / 300.0 } else { 0.0 };
        }
        assert!((entropy - 0.5 * 4.0_f64.ln()).abs() < 0.1, "from {init_alpha}: {entropy}");
    }
}

/// α must steer the entropy to its target. The reward is curved: for a flat one the widest policy is
/// optimal whatever α > 0 is. π ∝ exp(Q / α) with Q = -(a - ½)² has standard deviation √(α / 2), so the
/// target of -1 nat, 0.086 in a, is met near α = 0.015.
fn entropy_after(init_alpha: f64) -> (f64, UpdateMetrics) {
    let mut agent = agent(SacConfig { auto_alpha: true, init_alpha, ..config(1) });
    explore_bandit(&mut agent, 1024, |_, action| -(action - 0.5) * (action - 0.5));
    update(&mut agent, 2500);
    let mut entropy = 0.0;
    let mut last = None;
    for _ in 0..300 {
        let metrics = agent.update().unwrap().unwrap();
        assert!(metrics.alpha > 0.0);
        entropy += metrics.entropy / 300.0;
        last = Some(metrics);
    }
    (entropy, last.unwrap())
}

#[test]
fn entropy_comes_down_to_its_target() {
    let (entropy, last) = entropy_after(0.2);
    assert!((entropy + 1.0).abs() < 0.1 && last.alpha < 0.1, "{entropy} {last:?}");
}

#[test]
fn entropy_comes_up_to_its_target() {
    let (entropy, last) = entropy_after(0.0005);
    assert!((entropy + 1.0).abs() < 0.1 && last.alpha > 0.002, "{entropy} {last:?}");
}
