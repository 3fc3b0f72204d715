//! The mistakes that SAC implementations are known to make, each as a test that would catch it.

use burn::tensor::Device;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::{SacConfig, Transition, mlp::Mlp};

fn config() -> SacConfig {
    SacConfig { hidden: [8, 8, 8], batch_size: 4, gamma: 0.9, ..SacConfig::paper(3, 2) }
}

fn agent(config: SacConfig) -> Agent {
    Agent::new(config, &Device::flex()).unwrap()
}

/// Four different transitions, of which the second terminated.
fn batch() -> Batch {
    let numbers = |count: usize| (0..count).map(|i| (i as f32 * 0.7).sin()).collect::<Vec<f32>>();
    Batch {
        states: numbers(12),
        actions: numbers(8).iter().map(|x| x.abs()).collect(),
        rewards: vec![1.0, -2.0, 0.5, 3.0],
        next_states: numbers(12).iter().map(|x| x * 0.5).collect(),
        continues: vec![1.0, 0.0, 1.0, 1.0],
        returns: vec![10.0, 20.0, 30.0, 40.0],
    }
}

fn targets_of(agent: &mut Agent, alpha: f64) -> Vec<f32> {
    agent.learn_rng = ChaCha8Rng::seed_from_u64(5);
    let y = agent.target(&batch(), alpha);
    assert_eq!(y.dims(), [4, 1], "[B] against [B, 1] would broadcast to B x B");
    read(y).unwrap()
}

#[test]
fn only_termination_removes_the_bootstrap() {
    let mut agent = agent(config());
    let y = targets_of(&mut agent, 0.2);
    assert_eq!(y[1], -2.0);
    for at in [0, 2, 3] {
        assert!((y[at] - batch().rewards[at]).abs() > 1e-4, "{y:?}");
    }
}

#[test]
fn target_is_reward_plus_discounted_soft_value_of_the_target_networks() {
    let mut agent = agent(config());
    let (b, alpha) = (batch(), 0.3);
    let y = targets_of(&mut agent, alpha);
    agent.learn_rng = ChaCha8Rng::seed_from_u64(5);
    let next = agent.rows(&b.next_states, 3);
    let noise = agent.noise();
    let (a, log_pi) = agent.actor.plain().sample(next.clone(), noise);
    let log_pi = read(log_pi).unwrap();
    let q = read(critic::twin_q(&agent.targets, next, a)).unwrap();
    for i in 0..4 {
        let soft = f64::from(q[i].min(q[4 + i])) - alpha * f64::from(log_pi[i]);
        let expected = f64::from(b.rewards[i]) + 0.9 * f64::from(b.continues[i]) * soft;
        assert!((f64::from(y[i]) - expected).abs() < 1e-5, "{i}: {} against {expected}", y[i]);
    }
}

#[test]
fn target_does_not_see_the_online_critics() {
    let mut agent = agent(config());
    let before = targets_of(&mut agent, 0.2);
    agent.critics = agent.critics.clone().map(|p| p.without_autodiff() + 1.0).trainable();
    assert_eq!(targets_of(&mut agent, 0.2), before);
    agent.targets = agent.critics.plain();
    assert_ne!(targets_of(&mut agent, 0.2), before);
}

#[test]
fn monte_carlo_target_is_the_stored_return() {
    let mut agent = agent(SacConfig { target: TargetKind::MonteCarlo, ..config() });
    assert_eq!(targets_of(&mut agent, 0.2), batch().returns);
}

#[test]
fn targets_start_as_copies_of_the_critics() {
    let agent = agent(config());
    assert_eq!(agent.targets.download().unwrap(), agent.critics.download().unwrap());
    let params = agent.critics.download().unwrap();
    let (first, second) = params[0].split_at(params[0].len() / 2);
    assert_ne!(first, second, "twins of one initialisation would stay one critic");
}

#[test]
fn the_minimum_is_over_critics_not_over_the_batch() {
    let agent = agent(config());
    let b = batch();
    let (s, a) = (agent.rows(&b.states, 3), agent.rows(&b.actions, 2));
    let q = critic::twin_q(&agent.targets, s.clone(), a.clone());
    assert_eq!(q.dims(), [2, 4, 1]);
    let (q, least) = (read(q).unwrap(), critic::min_q(&agent.targets, s, a));
    assert_eq!(least.dims(), [4, 1]);
    let least = read(least).unwrap();
    for i in 0..4 {
        assert_eq!(least[i], q[i].min(q[4 + i]));
    }
}

#[test]
fn actor_loss_gives_gradients_to_the_actor_and_none_to_the_critics() {
    let agent = agent(config());
    let s = agent.rows(&batch().states, 3).autodiff();
    let noise = agent.rows(&[0.1; 8], 2).autodiff();
    let (a, _) = agent.actor.sample(s.clone(), noise);
    let grads = critic::min_q(&agent.critics.frozen(), s, a).mean().backward();
    assert!(agent.critics.params.iter().all(|param| param.grad(&grads).is_none()));
    for param in &agent.actor.net.params {
        let grad = read(param.grad(&grads).unwrap()).unwrap();
        assert!(grad.iter().any(|g| *g != 0.0), "a dead gradient");
    }
}

/// Gradient of -min Q(s, sigmoid(µ + σ ε)) + α log π to one bias of the head, against differences.
#[test]
fn actor_gradient_matches_finite_differences() {
    let agent = agent(config());
    let b = batch();
    let loss = |net: &Mlp| {
        let mut actor = agent.actor.clone();
        actor.net = net.clone();
        let s = agent.rows(&b.states, 3).autodiff();
        let noise = agent.rows(&[0.3, -0.8, 1.1, 0.2, -0.4, 0.6, 0.9, -1.2], 2).autodiff();
        let (a, log_pi) = actor.sample(s.clone(), noise);
        (log_pi * 0.5 - critic::min_q(&agent.critics.frozen(), s, a)).mean()
    };
    let grads = loss(&agent.actor.net).backward();
    let analytic = read(agent.actor.net.params[11].grad(&grads).unwrap()).unwrap();
    for (output, expected) in analytic.iter().enumerate() {
        let nudged = |by: f32| {
            let mut nudge = [0.0; 4];
            nudge[output] = by;
            let mut net = agent.actor.net.clone();
            let nudge = agent.rows(&nudge, 4).autodiff().unsqueeze::<3>();
            net.params[11] = net.params[11].clone() + nudge;
            read(loss(&net).without_autodiff()).unwrap()[0]
        };
        let numeric = (nudged(1e-2) - nudged(-1e-2)) / 2e-2;
        assert!((numeric - expected).abs() < 2e-3, "output {output}: {numeric} against {expected}");
    }
}

#[test]
fn one_update_moves_actor_critics_targets_and_alpha() {
    let mut agent = agent(config());
    let step = |t: f32| Transition {
        state: vec![t, 0.0, 1.0],
        action: vec![0.2, 0.9],
        reward: t,
        next_state: vec![t + 1.0, 0.0, 1.0],
        terminated: t == 3.0,
        truncated: false,
    };
    agent.push_episode((0..4).map(|t| step(t as f32)).collect()).unwrap();
    let (actor, critics, targets) =
        (agent.actor.net.download(), agent.critics.download(), agent.targets.download());
    let metrics = agent.update().unwrap().unwrap();
    assert!(metrics.alpha != 0.2 && metrics.alpha == agent.alpha(), "alpha is read after its step");
    let (actor, critics, targets) = (actor.unwrap(), critics.unwrap(), targets.unwrap());
    let (new_critics, new_targets) = (agent.critics.download().unwrap(), agent.targets.download().unwrap());
    assert_ne!(agent.actor.net.download().unwrap(), actor);
    assert_ne!(new_critics, critics);
    for ((new, old), online) in new_targets.concat().iter().zip(targets.concat()).zip(new_critics.concat()) {
        let expected = old + 0.005 * (online - old);
        assert!((new - expected).abs() < 1e-7, "{new} against {expected}");
    }
}

#[test]
fn divergence_is_an_error_not_a_silent_nan() {
    let mut agent = agent(config());
    let step = |terminated| Transition {
        state: vec![0.0; 3],
        action: vec![0.5; 2],
        reward: 1e30,
        next_state: vec![0.0; 3],
        terminated,
        truncated: false,
    };
    agent.push_episode(vec![step(false), step(false), step(false), step(true)]).unwrap();
    let error = agent.update().unwrap_err();
    assert!(matches!(error, Error::Diverged { what: "critic loss", update: 0, .. }), "{error}");
}
