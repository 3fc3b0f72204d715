//! Gradient updates of the paper's networks (Tables 25 to 27), some for each line on the standard input: our side of
//! `cargo xtask bench sac`.
//!
//! Arguments: the updates of a round, and the device of the networks, `cpu` or, with the feature `cuda`, `cuda`.

// It is a command.
#![allow(clippy::print_stdout)]

use std::{io::stdin, time::Instant};

use burn::tensor::Device;
use ramp_sac::{Agent, SacConfig, Transition};

type Error = Box<dyn std::error::Error>;

fn main() -> Result<(), Error> {
    let mut args = std::env::args().skip(1);
    let updates: usize = args.next().ok_or("how many updates?")?.parse()?;
    let device = match args.next().as_deref() {
        None | Some("cpu") => Device::flex(),
        #[cfg(feature = "cuda")]
        Some("cuda") => Device::cuda(0_usize),
        Some(other) => return Err(format!("no device `{other}` in this build").into()),
    };
    let mut agent = Agent::new(SacConfig::paper(11, 1), &device)?;
    for episode in 0..20 {
        agent.push_episode((0..224).map(|t| transition(episode, t)).collect())?;
    }
    println!("ready");
    for line in stdin().lines() {
        line?;
        let start = Instant::now();
        let mut loss = 0.0;
        for _ in 0..updates {
            loss = agent.update()?.ok_or("the buffer holds a batch")?.critic_loss;
        }
        println!("{{\"seconds\": {}, \"loss\": {loss}}}", start.elapsed().as_secs_f64());
    }
    Ok(())
}

/// Numbers without meaning: a speed does not depend on them.
fn transition(episode: usize, t: usize) -> Transition {
    let noise = |i: usize| ((episode * 7919 + t * 104_729 + i * 1299) % 1000) as f32 / 1000.0;
    Transition {
        state: (0..11).map(|i| 2.0 * noise(i) - 1.0).collect(),
        action: vec![noise(11)],
        reward: noise(12) - 0.5,
        next_state: (0..11).map(|i| 2.0 * noise(i + 1) - 1.0).collect(),
        terminated: t == 223,
        truncated: false,
    }
}
