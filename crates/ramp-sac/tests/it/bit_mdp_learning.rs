//! Agents on the synthetic allocation problem: the paper's recipe shows its defects, the sound one comes near the
//! optimum.

use burn::tensor::Device;
use ramp_sac::{ActMode, Agent, DiscreteAgent, DiscreteConfig, DiscreteTransition, SacConfig, TargetKind, Transition};
use rand::{Rng, SeedableRng, seq::index};
use rand_chacha::ChaCha8Rng;

use crate::bit_mdp::{
    Choices, FORMATS, LAYERS, Landscape, MIN_BITS, STATE, budget, cheapest, knapsack, mean_bits, shadow_price, uniform,
};

const SEEDS: u64 = 5;
const EPISODES: usize = 250;

/// (X - optimum) / (uniform - optimum): 0 is the optimum, 1 is no better than four bits everywhere.
fn regret(landscape: &Landscape, excess: f64) -> f64 {
    let optimum = landscape.optimum();
    (excess - optimum) / (landscape.excess(&uniform()) - optimum)
}

#[test]
fn the_measured_knapsack_is_near_the_optimum() {
    for seed in 0..SEEDS {
        let landscape = Landscape::new(seed);
        let (measured, evaluations) = landscape.measure();
        assert_eq!(evaluations, 673);
        let regret = regret(&landscape, landscape.excess(&knapsack(&measured)));
        assert!((0.0..=0.02).contains(&regret), "seed {seed}: {regret}");
    }
}

/// Algorithm 1 with Tables 9 and 25, Eqs. 19 to 21 as printed, nearest bits and one update for each step.
fn paper(seed: u64) -> (Vec<f64>, Choices) {
    let landscape = Landscape::new(seed);
    let config = SacConfig { hidden: [64, 64, 32], seed, ..SacConfig::paper(STATE, 1) };
    let mut agent = Agent::new(config, &Device::flex()).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let nearest = |action: f32| (action * (FORMATS - 1) as f32).round() as usize;
    let mut bits = Vec::new();
    for episode in 0..EPISODES {
        let mut choices = Vec::new();
        let mut steps: Vec<Transition> = Vec::new();
        for layer in 0..LAYERS {
            let state = landscape.state(&choices);
            let action = match episode {
                0..20 => rng.random(),
                _ => agent.act(&state, ActMode::Sample).unwrap()[0],
            };
            choices.push(nearest(action));
            let terminated = layer + 1 == LAYERS;
            let reward = if terminated { landscape.paper_reward(&choices) as f32 } else { 0.0 };
            let next_state = if terminated { vec![0.0; STATE] } else { landscape.state(&choices) };
            steps.push(Transition { state, action: vec![action], reward, next_state, terminated, truncated: false });
        }
        agent.push_episode(steps).unwrap();
        for _ in 0..LAYERS {
            agent.update().unwrap();
        }
        bits.push(mean_bits(&choices));
    }
    let mut choices = Vec::new();
    for _ in 0..LAYERS {
        let action = agent.act(&landscape.state(&choices), ActMode::Deterministic).unwrap()[0];
        choices.push(nearest(action));
    }
    (bits, choices)
}

/// What the sound agent came to.
struct Sound {
    /// Excess of the best allocation that it evaluated, the start included, and of its own policy.
    best: f64,
    policy: f64,
}

/// A categorical actor with masks for the exact budget, cloned from the knapsack; each layer is rewarded with what its
/// choice loses in measured excess and price against its best one, plus a share of what the episode lost beyond the sum.
fn sound(seed: u64, start: bool) -> Sound {
    let landscape = Landscape::new(seed);
    let (measured, _) = landscape.measure();
    let price = shadow_price(&measured);
    let scale = landscape.excess(&uniform()) / LAYERS as f64;
    let loss = |layer: usize, choice: usize| measured[layer][choice] + price * choice as f64;
    let reward = |layer: usize, choice: usize| {
        let least = loss(layer, cheapest(&measured[layer], price));
        (-(loss(layer, choice) - least) / scale).max(-5.0)
    };
    let config = DiscreteConfig {
        hidden: [64, 64, 32],
        lr: 1e-3,
        gamma: 0.0,
        target: TargetKind::MonteCarlo,
        init_alpha: 0.02,
        entropy_fraction: 0.1,
        replay_capacity: 100_000,
        seed,
        ..DiscreteConfig::new(STATE, FORMATS)
    };
    let mut agent = DiscreteAgent::new(config, &Device::flex()).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let base = landscape.excess(&uniform());
    let mut incumbent = if start { knapsack(&measured) } else { uniform() };
    let mut best = landscape.excess(&incumbent);

    // Every measurement is a transition that was never walked.
    let states: Vec<Vec<f32>> = (0..LAYERS).map(|layer| landscape.state(&incumbent[..layer])).collect();
    for (layer, state) in states.iter().enumerate() {
        for choice in 0..FORMATS {
            agent.push_episode(&[step(state, &[], choice, reward(layer, choice) as f32)]).unwrap();
        }
    }
    if start {
        agent.clone_behaviour(&states, &[], &incumbent, 3000, 1e-3).unwrap();
    }
    for _ in 0..500 {
        agent.update().unwrap();
    }
    for _ in 0..EPISODES {
        let drawn = index::sample(&mut rng, LAYERS, 6).into_vec();
        let (mut choices, mut steps) = (Vec::new(), Vec::new());
        let mut decided = Vec::new();
        for layer in 0..LAYERS {
            let (state, mask) = (landscape.state(&choices), mask(&choices));
            let choice = if drawn.contains(&layer) || !mask[incumbent[layer]] {
                decided.push((layer, state.clone(), mask.clone()));
                agent.act(&state, &mask, ActMode::Sample).unwrap()
            } else {
                incumbent[layer]
            };
            choices.push(choice);
        }
        let excess = landscape.excess(&choices);
        let predicted: f64 = base + choices.iter().enumerate().map(|(layer, &c)| measured[layer][c]).sum::<f64>();
        let surplus = -(excess - predicted) / (scale * LAYERS as f64);
        for (layer, state, mask) in decided {
            let choice = choices[layer];
            steps.push(step(&state, &mask, choice, (reward(layer, choice) + surplus) as f32));
        }
        for step in &steps {
            agent.push_episode(std::slice::from_ref(step)).unwrap();
        }
        for _ in 0..16 {
            agent.update().unwrap();
        }
        if excess < best {
            (best, incumbent) = (excess, choices);
        }
    }
    let mut choices = Vec::new();
    for _ in 0..LAYERS {
        let choice = agent.act(&landscape.state(&choices), &mask(&choices), ActMode::Deterministic).unwrap();
        choices.push(choice);
    }
    assert!(mean_bits(&choices) <= 4.0, "masks hold the budget");
    Sound { best, policy: landscape.excess(&choices) }
}

/// A choice is allowed if the layers behind can still have the least bits.
fn mask(before: &[usize]) -> Vec<bool> {
    let spent: usize = before.iter().map(|choice| choice + MIN_BITS).sum();
    let behind = MIN_BITS * (LAYERS - before.len() - 1);
    (0..FORMATS).map(|choice| spent + choice + MIN_BITS + behind <= budget()).collect()
}

/// A bandit's transition.
fn step(state: &[f32], mask: &[bool], action: usize, reward: f32) -> DiscreteTransition {
    DiscreteTransition {
        state: state.to_vec(),
        mask: mask.to_vec(),
        action,
        reward,
        next_state: vec![0.0; STATE],
        next_mask: Vec::new(),
        terminated: true,
        truncated: false,
    }
}

#[test]
fn explore() {
    for seed in 0..SEEDS {
        let l = Landscape::new(seed);
        let t = std::time::Instant::now();
        let a = sound(seed, true);
        eprintln!("warm {seed} best {:.4} policy {:.4} {:?}", regret(&l, a.best), regret(&l, a.policy), t.elapsed());
        let a = sound(seed, false);
        eprintln!("cold {seed} best {:.4} policy {:.4} {:?}", regret(&l, a.best), regret(&l, a.policy), t.elapsed());
    }
    for seed in 0..2 {
        let l = Landscape::new(seed);
        let t = std::time::Instant::now();
        let (bits, choices) = paper(seed);
        let means: Vec<f64> = bits.chunks(25).map(|c| (1000.0 * c.iter().sum::<f64>() / c.len() as f64).round() / 1000.0).collect();
        eprintln!("paper {seed} {means:?} det {:.3} reg {:.3} {:?}", mean_bits(&choices), regret(&l, l.excess(&choices)), t.elapsed());
    }
}
