//! The mistakes that SAC implementations are known to make, each as a test that would catch it.

use burn::tensor::Device;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::{SacConfig, Squash, TargetKind, Transition, networks::Networks};

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
        masks: Vec::new(),
        next_masks: Vec::new(),
        rewards: vec![1.0, -2.0, 0.5, 3.0],
        next_states: numbers(12).iter().map(|x| x * 0.5).collect(),
        discounts: vec![0.9, 0.0, 0.9, 0.9],
        returns: vec![10.0, 20.0, 30.0, 40.0],
    }
}

fn targets_of(agent: &mut Agent, alpha: f64) -> Vec<f32> {
    agent.learner.learn_rng = ChaCha8Rng::seed_from_u64(5);
    let noise = agent.noise(4);
    let y = agent.target(&batch(), &noise, alpha).unwrap();
    assert_eq!(y.len(), 4, "[B] against [B, 1] would broadcast to B x B");
    y
}

/// The same networks with every parameter moved.
fn moved(networks: &Networks, by: f32) -> Networks {
    let mut values = networks.download().unwrap();
    values.iter_mut().flatten().for_each(|x| *x += by);
    Networks::new(networks.shape, values, &Device::flex())
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
    agent.learner.learn_rng = ChaCha8Rng::seed_from_u64(5);
    let noise = agent.noise(4);
    let next = agent.sample(&b.next_states, &noise).unwrap();
    let q = agent.learner.targets.forward(&critic::join(&b.next_states, &next.actions, [3, 2])).unwrap();
    for i in 0..4 {
        let soft = f64::from(q[i].min(q[4 + i])) - alpha * next.log_pi[i];
        let expected = f64::from(b.rewards[i]) + b.discounts[i] * soft;
        assert!((f64::from(y[i]) - expected).abs() < 1e-5, "{i}: {} against {expected}", y[i]);
    }
}

/// Eq. 15 prints the entropy with the other sign: a wider policy must be worth more, not less.
#[test]
fn entropy_is_worth_something() {
    let mut agent = agent(config());
    let mut low = agent.clone();
    low.config.log_std_max = low.config.log_std_min;
    low.gaussian.log_std_range = [-5.0, -5.0];
    let (wide, narrow) = (targets_of(&mut agent, 5.0), targets_of(&mut low, 5.0));
    for i in [0, 2, 3] {
        assert!(wide[i] > narrow[i] + 5.0, "{wide:?} {narrow:?}");
    }
}

/// 0 · NaN is NaN: what stands behind a terminal state must not be multiplied away.
#[test]
fn behind_a_terminal_state_there_is_nothing() {
    let mut agent = agent(config());
    agent.learner.targets = moved(&agent.learner.targets, f32::MAX);
    assert_eq!(targets_of(&mut agent, 0.2)[1], -2.0);
}

/// One draw for s and s' would correlate the target with the actor's own sample.
#[test]
fn every_draw_of_noise_is_a_new_one() {
    let mut agent = agent(config());
    let (first, second) = (agent.noise(4), agent.noise(4));
    assert_eq!(first.len(), 8);
    assert_ne!(first, second);
}

#[test]
fn target_does_not_see_the_online_critics() {
    let mut agent = agent(config());
    let before = targets_of(&mut agent, 0.2);
    agent.learner.critics = moved(&agent.learner.critics, 1.0);
    assert_eq!(targets_of(&mut agent, 0.2), before);
    agent.learner.targets = agent.learner.critics.clone();
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
    assert_eq!(agent.learner.targets.download().unwrap(), agent.learner.critics.download().unwrap());
    let params = agent.learner.critics.download().unwrap();
    let (first, second) = params[0].split_at(params[0].len() / 2);
    assert_ne!(first, second, "twins of one initialisation would stay one critic");
}

#[test]
fn the_minimum_is_over_critics_not_over_the_batch() {
    let q = [1.0, 5.0, -2.0, 0.0, 5.0, -7.0];
    assert_eq!(critic::least(&q), [(0.0, 1), (5.0, 0), (-7.0, 1)]);
}

/// Both critics regress on the same y, row by row: a B x B loss or one sum over both would differ.
#[test]
fn critic_loss_by_hand() {
    let (loss, slopes) = critic::twin_loss(&[1.0, 2.0, 3.0, 4.0], &[0.0, 4.0]);
    assert_eq!(loss, (1.0 + 4.0) / 2.0 + 9.0 / 2.0);
    assert_eq!(slopes, [1.0, -2.0, 3.0, 0.0]);
}

/// mean(α log π - min Q(s, a)) of the actor's own samples, in f64 where it can be.
fn actor_loss(agent: &Agent, outputs: &[f32], noise: &[f32], alpha: f64) -> f64 {
    let sampled = agent.gaussian.sample(outputs, noise, 2);
    let q = agent.learner.critics.forward(&critic::join(&batch().states, &sampled.actions, [3, 2])).unwrap();
    let q = critic::mean(critic::least(&q).iter().map(|(q, _)| f64::from(*q)));
    alpha * critic::mean(sampled.log_pi.iter().copied()) - q
}

const NOISE: [f32; 8] = [0.3, -0.8, 1.1, 0.2, -0.4, 0.6, 0.9, -1.2];

/// Slopes of the actor's loss at µ and at the raw spread, against differences, for both squashes.
#[test]
fn actor_slopes_match_finite_differences() {
    for squash in [Squash::Sigmoid, Squash::Tanh] {
        let agent = agent(SacConfig { squash, ..config() });
        let (states, alpha) = (batch().states, 0.5);
        let outputs = agent.learner.actor.forward(&states).unwrap();
        let slopes = agent.actor_slopes(&states, &outputs, &NOISE, alpha).unwrap().slopes;
        for at in 0..outputs.len() {
            let nudged = |by: f32| {
                let mut outputs = outputs.clone();
                outputs[at] += by;
                actor_loss(&agent, &outputs, &NOISE, alpha)
            };
            let numeric = (nudged(1e-2) - nudged(-1e-2)) / 2e-2;
            let found = f64::from(slopes[at]);
            assert!((numeric - found).abs() < 1e-3, "{squash:?} output {at}: {numeric} against {found}");
        }
    }
}

/// The actor's step uses the critics and must leave them alone.
#[test]
fn the_actors_loss_gives_the_critics_no_gradient() {
    let mut agent = agent(SacConfig { tau: 1.0, ..config() });
    let before = agent.learner.critics.download().unwrap();
    let outputs = agent.learner.actor.forward(&batch().states).unwrap();
    let step = agent.actor_slopes(&batch().states, &outputs, &NOISE, 0.2).unwrap();
    assert_eq!(agent.learner.critics.download().unwrap(), before);
    // And the actor does get one.
    assert!(step.slopes.iter().all(|slope| *slope != 0.0), "{:?}", step.slopes);
    // A whole update with an actor of another seed moves the critics to the same place: their gradient has no part of
    // the actor's loss. With Monte-Carlo targets nothing else of the actor reaches them.
    agent.config.target = TargetKind::MonteCarlo;
    push(&mut agent);
    let mut other = agent.clone();
    other.learner.actor = moved(&other.learner.actor, 0.3);
    agent.update().unwrap();
    other.update().unwrap();
    assert_eq!(agent.learner.critics.download().unwrap(), other.learner.critics.download().unwrap());
}

/// ReLU on the head would make half of all raw spreads 0 and dead.
#[test]
fn the_spread_covers_its_whole_range() {
    let agent = agent(config());
    let gaussian = agent.gaussian;
    assert!((gaussian.log_std(-9.0).0 + 5.0).abs() < 1e-6 && (gaussian.log_std(9.0).0 - 2.0).abs() < 1e-6);
    assert_eq!(gaussian.log_std(0.0).0, -1.5);
    for raw in [-2.0, -0.5, 0.0, 1.5] {
        let numeric = (gaussian.log_std(raw + 1e-5).0 - gaussian.log_std(raw - 1e-5).0) / 2e-5;
        assert!((gaussian.log_std(raw).1 - numeric).abs() < 1e-6 && numeric > 0.0);
    }
    // Whatever the network says, σ is a number.
    for raw in [f64::MIN, -1e30, 1e30, f64::MAX] {
        assert!((-5.0..=2.0).contains(&gaussian.log_std(raw).0));
    }
}

fn push(agent: &mut Agent) {
    let step = |t: f32| Transition {
        state: vec![t, 0.0, 1.0],
        action: vec![0.2, 0.9],
        reward: t,
        next_state: vec![t + 1.0, 0.0, 1.0],
        terminated: t == 3.0,
        truncated: false,
    };
    agent.push_episode((0..4).map(|t| step(t as f32)).collect()).unwrap();
}

/// The temperature that an update uses is the one that the last update left.
#[test]
fn alpha_is_read_again_after_its_step() {
    let mut agent = agent(config());
    push(&mut agent);
    let first = agent.update().unwrap().unwrap();
    let mut again = agent.clone();
    again.learner.temperature = crate::temperature::Temperature::new(0.2, false);
    let (second, stale) = (agent.update().unwrap().unwrap(), again.update().unwrap().unwrap());
    assert!(first.alpha != 0.2);
    assert!(second.actor_loss != stale.actor_loss, "an update with the old alpha gives the same loss");
}

#[test]
fn one_update_moves_actor_critics_targets_and_alpha() {
    let mut agent = agent(config());
    push(&mut agent);
    let (actor, critics, targets) =
        (agent.learner.actor.download(), agent.learner.critics.download(), agent.learner.targets.download());
    let metrics = agent.update().unwrap().unwrap();
    assert!(metrics.alpha != 0.2 && metrics.alpha == agent.alpha(), "alpha is read after its step");
    let (actor, critics, targets) = (actor.unwrap(), critics.unwrap(), targets.unwrap());
    let (new_critics, new_targets) =
        (agent.learner.critics.download().unwrap(), agent.learner.targets.download().unwrap());
    assert_ne!(agent.learner.actor.download().unwrap(), actor);
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

/// log π of a row is the sum over its action elements, of what their own µ, σ and ε say, and not over the batch.
#[test]
fn log_pi_sums_over_action_elements() {
    let agent = agent(config());
    let outputs = agent.learner.actor.forward(&batch().states).unwrap();
    let sampled = agent.gaussian.sample(&outputs, &NOISE, 2);
    assert_eq!((sampled.actions.len(), sampled.log_pi.len()), (8, 4));
    for row in 0..4 {
        let expected: f64 = (0..2)
            .map(|element| {
                let (log_std, _) = agent.gaussian.log_std(f64::from(outputs[4 * row + 2 + element]));
                let epsilon = f64::from(NOISE[2 * row + element]);
                crate::squashed::log_prob(f64::from(outputs[4 * row + element]), log_std, epsilon)
            })
            .sum();
        assert!((sampled.log_pi[row] - expected).abs() < 1e-9);
    }
}

/// Stored actions, sampled ones and those of `q_values` reach the critics on one scale: (0, 1), unscaled.
#[test]
fn critics_see_actions_as_they_are_stored() {
    assert_eq!(critic::join(&[1.0, 2.0], &[0.25, 0.75], [1, 1]), [1.0, 0.25, 2.0, 0.75]);
    let agent = agent(config());
    let (states, actions) = (batch().states, batch().actions);
    let q = critic::least(&agent.learner.critics.forward(&critic::join(&states, &actions, [3, 2])).unwrap());
    let rows = |values: &[f32], width: usize| values.chunks(width).map(<[f32]>::to_vec).collect::<Vec<_>>();
    let found = agent.q_values(&rows(&states, 3), &rows(&actions, 2)).unwrap();
    assert_eq!(found, q.iter().map(|(q, _)| *q).collect::<Vec<_>>());
    let sampled = agent.sample(&states, &NOISE).unwrap();
    assert!(sampled.actions.iter().all(|a| *a > 0.0 && *a < 1.0));
}

/// Acting for an evaluation draws nothing.
#[test]
fn a_deterministic_action_is_the_middle_of_the_distribution() {
    let mut agent = agent(config());
    let state = &batch().states[..3];
    let outputs = agent.learner.actor.forward(state).unwrap();
    let action = agent.act(state, crate::ActMode::Deterministic).unwrap();
    for (found, mu) in action.iter().zip(&outputs) {
        assert_eq!(*found, crate::squashed::sigmoid(*mu));
    }
    assert_ne!(agent.act(state, crate::ActMode::Sample).unwrap(), action);
}
