//! Agents on the synthetic allocation problem: the paper's recipe shows its defects, the sound one comes near the
//! optimum.

use burn::tensor::Device;
use ramp_sac::{
    ActMode, Agent, DiscreteAgent, DiscreteConfig, DiscreteTransition, SacConfig, TargetKind, Transition,
};
use rand::{Rng, SeedableRng, seq::index};
use rand_chacha::ChaCha8Rng;

use crate::bit_mdp::{
    Choices, FORMATS, LAYERS, Landscape, MIN_BITS, PAPER_STATE, STATE, budget, cheapest, knapsack, mean_bits,
    shadow_price, uniform,
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

/// Algorithm 1 with Tables 9 and 25, Eqs. 19 to 21 as printed, nearest bits and one update for each step. Returns the
/// episode of most reward, as the paper keeps it, and the mean bits of every episode.
fn paper(seed: u64) -> (Choices, Vec<f64>) {
    let landscape = Landscape::new(seed);
    let config = SacConfig { hidden: [64, 64, 32], seed, ..SacConfig::paper(PAPER_STATE, 1) };
    let mut agent = Agent::new(config, &Device::flex()).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut best = (f64::NEG_INFINITY, Vec::new());
    let mut bits = Vec::new();
    for episode in 0..EPISODES {
        let (mut choices, mut steps) = (Vec::new(), Vec::new());
        for layer in 0..LAYERS {
            let state = landscape.paper_state(&choices);
            let action = match episode {
                0..20 => rng.random(),
                _ => agent.act(&state, ActMode::Sample).unwrap()[0],
            };
            choices.push((action * (FORMATS - 1) as f32).round() as usize);
            let terminated = layer + 1 == LAYERS;
            let reward = if terminated { landscape.paper_reward(&choices) as f32 } else { 0.0 };
            let next_state =
                if terminated { vec![0.0; PAPER_STATE] } else { landscape.paper_state(&choices) };
            steps.push(Transition {
                state,
                action: vec![action],
                reward,
                next_state,
                terminated,
                truncated: false,
            });
        }
        agent.push_episode(steps).unwrap();
        for _ in 0..LAYERS {
            agent.update().unwrap();
        }
        bits.push(mean_bits(&choices));
        let reward = landscape.paper_reward(&choices);
        if reward > best.0 {
            best = (reward, choices);
        }
    }
    (best.1, bits)
}

/// Where the sound agent starts.
#[derive(Clone, Copy, PartialEq)]
enum Start {
    /// From random weights, with four bits everywhere as the incumbent.
    Cold,
    /// From the knapsack of the measurements.
    Knapsack,
}

/// What the sound agent came to.
struct Sound {
    /// Excess of the best allocation that it evaluated, the start included, and of its own policy.
    best: f64,
    policy: f64,
}

/// A categorical actor with masks for the exact budget, cloned from the knapsack; each layer is rewarded with what its
/// choice loses in measured excess and price against its best one, plus a share of what the episode lost beyond the sum.
fn sound(seed: u64, start: Start) -> Sound {
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
        // Rewards are of order one; a target for the entropy would keep layers undecided that are not.
        auto_alpha: false,
        init_alpha: 0.01,
        replay_capacity: 100_000,
        seed,
        ..DiscreteConfig::new(STATE, FORMATS)
    };
    let mut agent = DiscreteAgent::new(config, &Device::flex()).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let base = landscape.excess(&uniform());
    let mut incumbent = if start == Start::Knapsack { knapsack(&measured) } else { uniform() };
    let mut best = landscape.excess(&incumbent);

    // Every measurement is a transition that was never walked.
    let states: Vec<Vec<f32>> =
        (0..LAYERS).map(|layer| Landscape::state(&measured, &incumbent[..layer])).collect();
    for (layer, state) in states.iter().enumerate() {
        for choice in 0..FORMATS {
            agent.push_episode(&[step(state, &[], choice, reward(layer, choice) as f32)]).unwrap();
        }
    }
    // Critics first: an actor that follows untrained ones forgets what it was cloned from.
    for _ in 0..2000 {
        agent.update().unwrap();
    }
    if start == Start::Knapsack {
        agent.clone_behaviour(&states, &[], &incumbent, 1500, 1e-3).unwrap();
    }
    for _ in 0..EPISODES {
        let drawn = index::sample(&mut rng, LAYERS, 6).into_vec();
        let (mut choices, mut steps) = (Vec::new(), Vec::new());
        let mut decided = Vec::new();
        for layer in 0..LAYERS {
            let (state, mask) = (Landscape::state(&measured, &choices), mask(&choices));
            let choice = if drawn.contains(&layer) || !mask[incumbent[layer]] {
                decided.push((layer, state.clone(), mask.clone()));
                agent.act(&state, &mask, ActMode::Sample).unwrap()
            } else {
                incumbent[layer]
            };
            choices.push(choice);
        }
        let excess = landscape.excess(&choices);
        let predicted: f64 =
            base + choices.iter().enumerate().map(|(layer, &c)| measured[layer][c]).sum::<f64>();
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
    // What the policy would do, moved into the budget where its critics say that it costs least.
    let net = agent.policy().unwrap();
    let mut walked = Vec::new();
    let mut states = Vec::new();
    for _ in 0..LAYERS {
        states.push(Landscape::state(&measured, &walked));
        walked.push(net.act(&states[walked.len()], &[]).unwrap());
    }
    let costs: Vec<[f64; FORMATS]> = agent
        .q_values(&states)
        .unwrap()
        .iter()
        .map(|q| std::array::from_fn(|choice| -f64::from(q[choice])))
        .collect();
    let choices = knapsack(&costs);
    assert!(mean_bits(&choices) <= 4.0);
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

/// Episodes settle, and the best-rewarded one lies, just above the ceiling, where Eq. 20 jumps back to nothing; and it is
/// no better than four bits everywhere although it has more of them. Not every seed stays: some fall over the edge, to
/// 4.0 and below.
#[test]
fn the_papers_recipe_drifts_above_its_ceiling() {
    let landscape = Landscape::new(1);
    let (best, bits) = paper(1);
    let last = bits[EPISODES - 25..].iter().sum::<f64>() / 25.0;
    for bits in [mean_bits(&best), last] {
        assert!(bits > 4.25 && bits <= 4.41, "{bits}");
    }
    let regret = regret(&landscape, landscape.excess(&best));
    assert!(regret > 1.0, "{regret}");
}

#[test]
fn the_sound_recipe_comes_near_the_optimum() {
    for seed in 0..SEEDS {
        let landscape = Landscape::new(seed);
        let Sound { best, policy } = sound(seed, Start::Knapsack);
        let (best, policy) = (regret(&landscape, best), regret(&landscape, policy));
        assert!(best <= 0.02, "seed {seed}: {best}");
        assert!(policy <= 0.15, "seed {seed}: {policy}");
    }
}

#[test]
fn without_a_start_the_policy_still_beats_uniform() {
    for seed in 0..2 {
        let landscape = Landscape::new(seed);
        let regret = regret(&landscape, sound(seed, Start::Cold).policy);
        assert!(regret < 0.5, "seed {seed}: {regret}");
    }
}
