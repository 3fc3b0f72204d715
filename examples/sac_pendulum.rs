//! Soft Actor-Critic on Pendulum-v1, to see the agent of `ramp-sac` learn where the answer is known.
//!
//! What to look at:
//! - `return`: mean of the deterministic policy over 20 fixed starts. Random torque gets about -1226, the
//!   optimum is about -139; the curve passes -250 near 5000 steps and ends close to the optimum.
//! - `entropy`: of the policy in nats on (0, 1); it hovers about the target of -1.69, which is the usual -1
//!   of a tanh policy on (-1, 1).
//! - `alpha`: rises while the entropy is below its target, falls while it is above, and fades as the critics
//!   grow sure.
//! - `critic loss`: grows as the returns spread from all bad to mostly good, then falls unevenly.
//!
//! Run it with `cargo run --example sac_pendulum`.

use anyhow::Result;
use burn::tensor::Device;
use ramp_sac::{ActMode, Agent, SacConfig, Transition};

#[path = "../crates/ramp-sac/tests/it/pendulum.rs"]
mod pendulum;

use pendulum::{EPISODE_STEPS, Pendulum, torque};

const EPISODES: usize = 75;
const WARM_UP: usize = 5;

fn main() -> Result<()> {
    let config = SacConfig {
        hidden: [128, 128, 128],
        lr: 1e-3,
        target_entropy: -1.0 - std::f64::consts::LN_2,
        ..SacConfig::paper(3, 1)
    };
    let mut agent = Agent::new(config, &Device::flex())?;
    println!("{:>6} {:>9} {:>8} {:>8} {:>12}", "steps", "return", "entropy", "alpha", "critic loss");
    for number in 0..EPISODES {
        let episode = collect(&mut agent, number)?;
        agent.push_episode(episode)?;
        if number < WARM_UP {
            continue;
        }
        let mut last = None;
        for _ in 0..EPISODE_STEPS {
            last = agent.update()?;
        }
        if let (Some(metrics), true) = (last, number % 5 == 4) {
            println!(
                "{:>6} {:>9.1} {:>8.3} {:>8.4} {:>12.4}",
                (number + 1) * EPISODE_STEPS,
                evaluate(&mut agent)?,
                metrics.entropy,
                metrics.alpha,
                metrics.critic_loss,
            );
        }
    }
    Ok(())
}

/// One episode of experience; the first few act at random.
fn collect(agent: &mut Agent, number: usize) -> Result<Vec<Transition>> {
    let mut pole = start(number);
    let mut episode = Vec::with_capacity(EPISODE_STEPS);
    for t in 0..EPISODE_STEPS {
        let state = pole.observe();
        let action = match number {
            0..WARM_UP => vec![halton(number * EPISODE_STEPS + t, 5) as f32],
            _ => agent.act(&state, ActMode::Sample)?,
        };
        let reward = pole.step(torque(action[0])) as f32;
        // The time limit is not a property of the task: truncated, never terminated.
        let (next_state, truncated) = (pole.observe(), t + 1 == EPISODE_STEPS);
        episode.push(Transition { state, action, reward, next_state, terminated: false, truncated });
    }
    Ok(episode)
}

/// Mean return of the deterministic policy over 20 starts that no episode of experience used.
fn evaluate(agent: &mut Agent) -> Result<f64> {
    let mut sum = 0.0;
    for number in 0..20 {
        let mut pole = start(EPISODES + number);
        for _ in 0..EPISODE_STEPS {
            let action = agent.act(&pole.observe(), ActMode::Deterministic)?;
            sum += pole.step(torque(action[0]));
        }
    }
    Ok(sum / 20.0)
}

/// Starts spread evenly over the start distribution.
fn start(number: usize) -> Pendulum {
    Pendulum::start(halton(number, 2), halton(number, 3))
}

/// Halton's evenly spread numbers in [0, 1): `number` with its digits in `base` mirrored.
fn halton(number: usize, base: usize) -> f64 {
    let (mut rest, mut digit, mut value) = (number + 1, 1.0, 0.0);
    while rest > 0 {
        digit /= base as f64;
        value += digit * (rest % base) as f64;
        rest /= base;
    }
    value
}
