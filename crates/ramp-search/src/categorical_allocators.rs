//! Categorical agents as allocators: sound Soft Actor-Critic, and PPO, its rival of Table 21.

use burn::tensor::Device;

use crate::{
    allocator::{Allocator, Found, SearchContext},
    episodes::{Task, Trainer},
    error::Result,
    history::TrainingLog,
    mode::Mode,
    policy::{Policy, Provenance},
    progress::{ProgressFn, Stage, report},
    walk_config::WalkSearchConfig,
};

/// A search with a categorical agent; which one the configuration says.
#[derive(Clone, Debug)]
pub struct Categorical {
    /// Every decision.
    pub config: WalkSearchConfig,
    /// Where the networks live; they are small, the CPU is usually fastest.
    pub device: Device,
    /// Name of the model, kept with the policy.
    pub model_name: String,
    log: Option<TrainingLog>,
}

impl Categorical {
    /// A search with these decisions.
    #[must_use]
    pub const fn new(config: WalkSearchConfig, device: Device, model_name: String) -> Self {
        Self { config, device, model_name, log: None }
    }
}

impl Allocator for Categorical {
    fn name(&self) -> &'static str {
        self.config.agent.name()
    }

    fn allocate(&mut self, context: &mut SearchContext<'_>, progress: &mut ProgressFn<'_>) -> Result<Found> {
        self.config.validate()?;
        let table = context.features.wide()?;
        let problem = context.evaluator.problem().clone();
        let config = &self.config;
        let mut task = Task::new(problem, table, config, &self.model_name, context, progress)?;
        let mut trainer = Trainer::new(config, &task, &self.device)?;
        trainer.warm_start(&[&task], progress)?;
        for episode in 1..=config.episodes {
            let spent = &mut |evaluator: &crate::evaluator::Evaluator<'_>| evaluator.tokens_forwarded();
            trainer.episode(episode, &mut task, &mut context.evaluator, spent)?;
            let best = task.best().map(|best| best.kld);
            report(progress, Stage::Episodes, episode, config.episodes, best)?;
        }

        let own = trainer.policy_choices(&task)?;
        let measured = task.measure(&mut context.evaluator, &own)?;
        task.keep(&own, measured, "policy");
        let problem = context.evaluator.problem();
        let provenance = Provenance {
            model: self.model_name.clone(),
            budget: problem.budget().to_string(),
            mode: Mode::Sound,
            seed: config.agent.seed(),
            episodes: config.episodes,
            tokens: context.evaluator.tokens_forwarded(),
            kld: measured.map_or(f64::MAX, |(kld, _)| kld),
        };
        let body = trainer.learner.body()?;
        let policy = Policy::wide(body, config.norm, task.scaler().clone(), problem.actions(), provenance);
        let own_score = context.evaluator.score(&own)?;
        // The uniform allocation fits and was kept first.
        let (choices, origin) = match task.best() {
            Some(best) => (best.choices.clone(), best.origin.clone()),
            None => (own.clone(), "policy".to_owned()),
        };
        let score = context.evaluator.score(&choices)?;
        let mut log = task.log;
        log.found.clone_from(&choices);
        let curve = log.curve();
        self.log = Some(log);
        Ok(Found { choices, score, origin, curve, policy: Some(policy), own: Some((own, own_score)) })
    }

    fn take_log(&mut self) -> Option<TrainingLog> {
        self.log.take()
    }
}
