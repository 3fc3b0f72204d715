//! The agent behind the traits of `burn::rl`.

use burn::tensor::{Device, Tensor};
use burn_rl::{
    AsyncPolicy, Batchable, Environment, Policy, PolicyLearner, PolicyState, StepResult, TransitionBatch,
    TransitionBuffer,
};
use ramp_sac::{
    Agent, Error, SacConfig, TargetKind,
    rl::{ActorState, RlLearner, RlPolicy, Rows},
};

use crate::pendulum::{EPISODE_STEPS, Pendulum, torque};

fn config(state_dim: usize) -> SacConfig {
    SacConfig { hidden: [32, 32, 16], batch_size: 32, lr: 3e-3, seed: 3, ..SacConfig::paper(state_dim, 1) }
}

fn learner(config: SacConfig) -> RlLearner {
    RlLearner::new(Agent::new(config, &Device::flex()).unwrap()).unwrap()
}

fn rows(values: &[f32], width: usize) -> Rows {
    let rows: Vec<Vec<f32>> = values.chunks(width).map(<[f32]>::to_vec).collect();
    Rows::from_host(&rows, &Device::flex())
}

fn host(rows: &Rows) -> Vec<f32> {
    rows.0.clone().try_into_vec_as::<f32>().unwrap()
}

/// The pole in Burn's words. Its end is a time limit.
struct Pole {
    pole: Pendulum,
    steps: usize,
}

impl Environment for Pole {
    type State = Vec<f32>;
    type Action = f32;

    const MAX_STEPS: usize = EPISODE_STEPS;

    fn state(&self) -> Vec<f32> {
        self.pole.observe()
    }

    fn step(&mut self, action: f32) -> StepResult<Vec<f32>> {
        let reward = self.pole.step(torque(action));
        self.steps += 1;
        let truncated = self.steps == Self::MAX_STEPS;
        StepResult { next_state: self.state(), reward, done: false, truncated }
    }

    fn reset(&mut self) {
        *self = Self { pole: Pendulum::start(0.3 + 0.01 * self.steps as f64, 0.5), steps: 0 };
    }
}

/// One step, and the best action is 0.7.
struct Bandit;

impl Environment for Bandit {
    type State = f32;
    type Action = f32;

    const MAX_STEPS: usize = 1;

    fn state(&self) -> f32 {
        0.0
    }

    fn step(&mut self, action: f32) -> StepResult<f32> {
        let reward = -10.0 * f64::from(action - 0.7).powi(2);
        StepResult { next_state: 0.0, reward, done: true, truncated: false }
    }

    fn reset(&mut self) {}
}

#[test]
fn a_loop_over_the_traits_finds_the_best_action() {
    let device = Device::flex();
    let config = SacConfig { auto_alpha: false, init_alpha: 0.01, ..config(1) };
    let mut learner = learner(config);
    let mut policy = learner.policy();
    let mut buffer: TransitionBuffer<Rows, Rows> = TransitionBuffer::new(2000, &device);
    let mut environment = Bandit;
    for step in 0..1200 {
        let observation = rows(&[environment.state()], 1);
        let (action, log_pi) = policy.action(observation.clone(), false);
        assert!(log_pi.len() == 1 && log_pi[0].is_finite());
        let result = environment.step(host(&action)[0]);
        let next = rows(&[result.next_state], 1);
        buffer.push(observation, next, action, result.reward as f32, result.done);
        environment.reset();
        if step >= 64 {
            let output = learner.train(buffer.sample(32));
            output.item.unwrap();
            policy.update(output.policy);
        }
    }
    let (best, _) = policy.action(rows(&[0.0], 1), true);
    assert!((host(&best)[0] - 0.7).abs() < 0.1, "{:?}", host(&best));
    assert_eq!(learner.agent().updates(), 1200 - 64);
}

#[test]
fn an_episode_of_an_environment_ends_with_its_time_limit() {
    let mut policy = learner(config(3)).policy();
    let mut environment = Pole { pole: Pendulum::start(0.1, 0.2), steps: 7 };
    environment.reset();
    let mut steps = 0;
    loop {
        let (action, _) = policy.action(rows(&environment.state(), 3), false);
        let action = host(&action)[0];
        assert!(action > 0.0 && action < 1.0);
        let result = environment.step(action);
        steps += 1;
        assert!(!result.done && result.reward <= 0.0);
        if result.truncated {
            break;
        }
    }
    assert_eq!(steps, Pole::MAX_STEPS);
}

/// `n` transitions with numbers that do not repeat.
fn batch(n: usize, done: f32) -> TransitionBatch<Rows, Rows> {
    let numbers = |count: usize, by: f32| (0..count).map(|i| (i as f32 * by).sin()).collect::<Vec<f32>>();
    let column = |values: Vec<f32>| rows(&values, 1).0;
    TransitionBatch {
        states: rows(&numbers(3 * n, 0.7), 3),
        next_states: rows(&numbers(3 * n, 0.3), 3),
        actions: rows(&numbers(n, 0.9).iter().map(|x| x.abs().clamp(0.01, 0.99)).collect::<Vec<_>>(), 1),
        rewards: column(numbers(n, 0.5)),
        dones: column(vec![done; n]),
    }
}

#[test]
fn done_removes_the_bootstrap() {
    // The same batch, next states far away: they matter only where the episode goes on.
    let loss = |done: f32, shift: f32| {
        let mut batch = batch(8, done);
        batch.next_states.0 = batch.next_states.0 + shift;
        learner(config(3)).train(batch).item.unwrap().critic_loss
    };
    assert_eq!(loss(1.0, 0.0), loss(1.0, 100.0));
    assert_ne!(loss(0.0, 0.0), loss(0.0, 100.0));
}

#[test]
fn batches_of_any_size_are_learnt_from_and_broken_ones_are_not() {
    let mut learner = learner(config(3));
    for n in [1, 5, 40] {
        learner.train(batch(n, 0.0)).item.unwrap();
    }
    let before = learner.policy().state();
    let mut broken = batch(4, 0.0);
    broken.states = rows(&[0.0; 8], 2);
    assert!(matches!(
        learner.train(broken).item,
        Err(Error::Length { what: "state", found: 2, expected: 3 })
    ));
    let mut broken = batch(4, 0.0);
    broken.rewards = Tensor::from_floats([[f32::NAN], [0.0], [0.0], [0.0]], &Device::flex());
    match learner.train(broken).item {
        Err(Error::Value { what, .. }) => assert_eq!(what, "reward[0] of transition 0"),
        other => panic!("{other:?}"),
    }
    let mut broken = batch(4, 0.0);
    broken.actions = rows(&[0.5; 3], 1);
    assert!(matches!(
        learner.train(broken).item,
        Err(Error::Length { what: "batch", found: 3, expected: 4 })
    ));
    assert_eq!(learner.policy().state(), before);
}

#[test]
fn targets_that_need_episodes_are_refused() {
    for target in [TargetKind::MonteCarlo, TargetKind::NStep(3)] {
        let agent = Agent::new(SacConfig { target, ..config(3) }, &Device::flex()).unwrap();
        let error = RlLearner::new(agent).unwrap_err().to_string();
        assert!(error.contains("`target`") && error.contains("Td0"), "{error}");
    }
}

#[test]
fn records_bring_back_the_same_learner_and_policy() {
    let mut first = learner(config(3));
    first.train(batch(8, 0.0)).item.unwrap();
    let mut second = learner(SacConfig { seed: 99, ..config(3) }).load_record(first.record());
    let (a, b) = (first.train(batch(8, 0.0)), second.train(batch(8, 0.0)));
    assert_eq!(a.item.unwrap(), b.item.unwrap());
    assert_eq!(a.policy, b.policy);

    let observations = rows(&[0.1, -0.2, 0.3, 0.4, 0.5, -0.6], 3);
    let mut trained = first.policy();
    let other = learner(SacConfig { seed: 7, ..config(3) }).policy();
    let mut loaded = other.clone().load_record(trained.state().into_record());
    let act = |policy: &mut RlPolicy| host(&policy.action(observations.clone(), true).0);
    assert_eq!(act(&mut loaded), act(&mut trained));
    assert_ne!(act(&mut other.clone()), act(&mut trained));
    assert_eq!(ActorState(other.state().0).load_record(trained.state().0), trained.state());

    let mut third = learner(SacConfig { seed: 7, ..config(3) });
    third.update_policy(trained.clone());
    assert_eq!(third.policy().state(), trained.state());
}

#[test]
fn a_distribution_is_what_actions_are_drawn_from() {
    let mut policy = learner(config(3)).policy();
    let observations = rows(&[0.1, -0.2, 0.3, 0.4, 0.5, -0.6], 3);
    let gaussians = policy.forward(observations.clone());
    let (actions, log_pi) = policy.action(observations, true);
    let (mean, log_std) = (host(&gaussians.mean), host(&gaussians.log_std));
    for (at, (action, log_pi)) in host(&actions).into_iter().zip(log_pi).enumerate() {
        let sigmoid = 1.0 / (1.0 + (-f64::from(mean[at])).exp());
        assert!((f64::from(action) - sigmoid).abs() < 1e-6);
        let expected = ramp_sac::squashed::log_prob(f64::from(mean[at]), f64::from(log_std[at]), 0.0);
        assert!((log_pi - expected).abs() < 1e-6);
    }
    let parts = gaussians.clone().unbatch();
    assert_eq!(parts.len(), 2);
    let whole = ramp_sac::rl::GaussianRows::batch(parts);
    assert_eq!((host(&whole.mean), host(&whole.log_std)), (mean, log_std));
}

#[test]
fn burns_batching_server_takes_the_policy() {
    let policy = learner(config(3)).policy();
    let mut server = AsyncPolicy::new(1, policy.clone());
    let observation = rows(&[0.1, -0.2, 0.3], 3);
    let (action, context) = server.action(observation.clone(), true);
    assert_eq!(host(&action), host(&policy.clone().action(observation, true).0));
    assert_eq!(context.len(), 1);
    assert_eq!(server.state(), policy.state());
}
