//! Learning curves on Pendulum-v1: what `cargo xtask bench pendulum` runs.
//!
//! Arguments: steps, fixed starts of an evaluation, and seeds. Prints one JSON document per line.

// It is a command.
#![allow(clippy::print_stdout)]

use std::{
    f64::consts::LN_2,
    io::{Write, stdout},
    time::Instant,
};

use burn::tensor::Device;
use ramp_sac::{ActMode, Agent, Result, SacConfig, Transition};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

#[path = "../tests/it/pendulum.rs"]
#[allow(dead_code)]
mod pendulum;

use pendulum::{EPISODE_STEPS, Pendulum, torque};

/// Steps of random torque in front of the first update.
const WARM_UP: usize = 1000;
/// Steps between two evaluations.
const EVALUATE: usize = 1000;
/// Seed of the evaluation's starts, which no seed of training shares.
const STARTS: u64 = 1_000_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1).map(|arg| arg.parse::<u64>());
    let (Some(steps), Some(starts)) = (args.next().transpose()?, args.next().transpose()?) else {
        return Err("expected steps, starts and seeds".into());
    };
    for seed in args {
        train(seed?, steps as usize, starts as usize)?;
    }
    Ok(())
}

fn train(seed: u64, steps: usize, starts: usize) -> Result<()> {
    let config = SacConfig {
        hidden: [256, 256, 128],
        lr: 1e-3,
        // The usual -1 of a tanh policy, on (0, 1).
        target_entropy: -1.0 - LN_2,
        seed,
        ..SacConfig::paper(3, 1)
    };
    let started = Instant::now();
    let mut agent = Agent::new(config, &Device::flex())?;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut entropy = f64::NAN;
    for done in (0..steps).step_by(EPISODE_STEPS) {
        let mut pole = Pendulum::start(rng.random(), rng.random());
        let mut episode = Vec::with_capacity(EPISODE_STEPS);
        for t in 0..EPISODE_STEPS {
            let state = pole.observe();
            let action = match done {
                0..WARM_UP => vec![rng.random_range(0.0..1.0)],
                _ => agent.act(&state, ActMode::Sample)?,
            };
            let reward = pole.step(torque(action[0])) as f32;
            // The time limit is not a property of the task: truncated, never terminated.
            let (next_state, truncated) = (pole.observe(), t + 1 == EPISODE_STEPS);
            episode.push(Transition { state, action, reward, next_state, terminated: false, truncated });
        }
        agent.push_episode(episode)?;
        let done = done + EPISODE_STEPS;
        if done > WARM_UP {
            for _ in 0..EPISODE_STEPS {
                entropy = agent.update()?.map_or(entropy, |seen| seen.entropy);
            }
        }
        if done.is_multiple_of(EVALUATE) {
            let point = json!({
                "seed": seed,
                "steps": done,
                "return": evaluate(&mut agent, starts)?,
                "alpha": agent.alpha(),
                "entropy": entropy.is_finite().then_some(entropy),
                "seconds": started.elapsed().as_secs_f64(),
            });
            println!("{point}");
            // A reader behind a pipe sees each point when it is there.
            let _ = stdout().flush();
        }
    }
    Ok(())
}

/// Mean return of the deterministic policy over fixed starts.
fn evaluate(agent: &mut Agent, starts: usize) -> Result<f64> {
    let mut rng = ChaCha8Rng::seed_from_u64(STARTS);
    let mut sum = 0.0;
    for _ in 0..starts {
        let mut pole = Pendulum::start(rng.random(), rng.random());
        for _ in 0..EPISODE_STEPS {
            sum += pole.step(torque(agent.act(&pole.observe(), ActMode::Deterministic)?[0]));
        }
    }
    Ok(sum / starts as f64)
}
