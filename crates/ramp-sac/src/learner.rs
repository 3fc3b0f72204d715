//! What both Soft Actor-Critic agents learn with: an actor, twin critics with their targets, the temperature and the replay
//! buffer. How they act and what they regress on is their own.

use burn::tensor::Device;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::{
    networks::{Networks, Optimizer},
    replay::{Replay, Widths},
    shape::MlpShape,
    temperature::Temperature,
};

#[derive(Clone, Debug)]
pub(crate) struct Learner {
    /// Without autodiff.
    pub(crate) device: Device,
    /// π_φ
    pub(crate) actor: Networks,
    /// Q_θ₁ and Q_θ₂
    pub(crate) critics: Networks,
    /// Q_θ̄₁ and Q_θ̄₂
    pub(crate) targets: Networks,
    pub(crate) actor_adam: Optimizer,
    pub(crate) critic_adam: Optimizer,
    pub(crate) temperature: Temperature,
    pub(crate) replay: Replay,
    /// Minibatches and the noise of updates.
    pub(crate) learn_rng: ChaCha8Rng,
    /// The noise of sampled actions; apart, so that evaluating in between changes no update.
    pub(crate) explore_rng: ChaCha8Rng,
    pub(crate) updates: u64,
}

/// What a learner is made from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) actor: MlpShape,
    /// Of both critics.
    pub(crate) critics: MlpShape,
    pub(crate) widths: Widths,
    pub(crate) replay_capacity: usize,
    pub(crate) adam_epsilon: f64,
    pub(crate) grad_clip: f64,
    pub(crate) init_alpha: f64,
    pub(crate) auto_alpha: bool,
    pub(crate) seed: u64,
}

/// Host parameters of the networks, of the lengths that their shapes give.
pub(crate) struct Params {
    pub(crate) actor: Vec<Vec<f32>>,
    pub(crate) critics: Vec<Vec<f32>>,
    pub(crate) targets: Vec<Vec<f32>>,
}

impl Learner {
    /// Seeded random networks; the targets are the critics.
    pub(crate) fn init(plan: &Plan, device: &Device) -> Self {
        let mut init_rng = stream(plan.seed, 0);
        let actor = plan.actor.init(&mut init_rng);
        let critics = plan.critics.init(&mut init_rng);
        Self::new(plan, Params { actor, targets: critics.clone(), critics }, device)
    }

    pub(crate) fn new(plan: &Plan, params: Params, device: &Device) -> Self {
        let device = device.clone().without_autodiff();
        let actor = Networks::new(plan.actor, params.actor, &device);
        let critics = Networks::new(plan.critics, params.critics, &device);
        Self {
            actor_adam: Optimizer::new(&actor, plan.adam_epsilon, plan.grad_clip),
            critic_adam: Optimizer::new(&critics, plan.adam_epsilon, plan.grad_clip),
            actor,
            critics,
            targets: Networks::new(plan.critics, params.targets, &device),
            temperature: Temperature::new(plan.init_alpha, plan.auto_alpha),
            replay: Replay::new(plan.widths, plan.replay_capacity),
            learn_rng: stream(plan.seed, 1),
            explore_rng: stream(plan.seed, 2),
            updates: 0,
            device,
        }
    }
}

/// Independent generators from one seed.
pub(crate) fn stream(seed: u64, stream: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(stream);
    rng
}
