//! Training of one policy on several models and budgets, which can be interrupted and go on as if it had not been.

mod checkpoint;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use burn::tensor::Device;
use ramp_embed::WideTable;
use serde::{Deserialize, Serialize};

pub use checkpoint::Checkpoint;
use checkpoint::State;

use crate::{
    allocator::SearchContext,
    episodes::{Task, Trainer},
    error::{Error, Result},
    evaluator::Evaluator,
    history::TrainingLog,
    mode::{Mode, Normalisation},
    policy::{Body, Policy, Provenance},
    problem::Problem,
    progress::{ProgressFn, Stage, report},
    regressor::{MeasuredModel, Regressor},
    walk_config::WalkSearchConfig,
    wide_walk::WideWalk,
};

/// A model to learn from, with the budgets to learn for.
#[derive(Debug)]
pub struct TrainModel<'a> {
    /// Its name.
    pub name: String,
    /// Its evaluator, features and sensitivities. The evaluator's own problem must have the same layers and choices.
    pub context: SearchContext<'a>,
    /// One problem for each budget.
    pub problems: Vec<Problem>,
}

/// What learns.
// One lives at a time: the difference in size does not matter.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Student {
    /// An agent, episode by episode; the problems take turns.
    Agent(WalkSearchConfig),
    /// A regression of the measured sensitivities. There are no episodes.
    Regressor {
        /// Whose statistics standardise the features of another model.
        norm: Normalisation,
    },
}

/// How a training runs.
#[derive(Clone, Debug)]
pub struct TrainOptions {
    /// What learns.
    pub student: Student,
    /// Where the networks live.
    pub device: Device,
    /// Where to keep what is needed to go on; `None` keeps nothing.
    pub checkpoint: Option<Checkpoint>,
    /// Where to write the logs, one for each model and budget, as a JSON list; at each checkpoint and at the end.
    pub log: Option<PathBuf>,
}

/// What a training came to.
#[derive(Debug)]
pub struct Trained {
    /// The policy.
    pub policy: Policy,
    /// One log for each model and budget, models first; none for a regressor.
    pub logs: Vec<TrainingLog>,
    /// Episodes of an earlier run that were not run again.
    pub resumed: usize,
    /// What the policy's own allocation reaches on the search windows of each model and budget, beside the uniform one.
    pub outcomes: Vec<TrainOutcome>,
}

/// A policy's own allocation on a problem that it was trained on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TrainOutcome {
    /// The model.
    pub model: String,
    /// The budget.
    pub budget: String,
    /// KL divergence of the policy's allocation in nats.
    pub policy_kld: f64,
    /// KL divergence of the uniform allocation in nats.
    pub uniform_kld: f64,
    /// Least KL divergence that the training saw; that of the policy for a regressor.
    pub best_kld: f64,
}

/// Trains a policy.
///
/// A run with the checkpoint of an interrupted one, or of one that lost its last device, goes on from there and gives the
/// same policy and logs, bit for bit on a CPU, as one that was not interrupted.
///
/// # Errors
/// [`Error::Option`] if there is no model or no budget, or the models' problems do not belong together; [`Error::Log`] if
/// the checkpoint is damaged or of another run; when an evaluation fails, or `progress` stops the run.
pub fn train(
    models: &mut [TrainModel<'_>],
    options: &TrainOptions,
    progress: &mut ProgressFn<'_>,
) -> Result<Trained> {
    check(models)?;
    match &options.student {
        Student::Agent(config) => train_agent(models, config, options, progress),
        Student::Regressor { norm } => train_regressor(models, *norm, progress),
    }
}

fn check(models: &[TrainModel<'_>]) -> Result<()> {
    let fail = |name, value: String, expected| Err(Error::Option { name, value, expected });
    let Some(first) = models.iter().find_map(|model| model.problems.first()) else {
        return fail("models", "none".into(), "at least one with a budget");
    };
    for model in models {
        let evaluated = model.context.evaluator.problem();
        for problem in &model.problems {
            if problem.actions() != first.actions() {
                return fail("actions", format!("others for {}", model.name), "the same for all models");
            }
            if problem.slots() != evaluated.slots() {
                return fail("budgets", problem.budget().to_string(), "budgets of one unit");
            }
        }
        if model.problems.is_empty() {
            return fail("budgets", format!("none for {}", model.name), "at least one for each model");
        }
    }
    Ok(())
}

fn train_agent(
    models: &mut [TrainModel<'_>],
    config: &WalkSearchConfig,
    options: &TrainOptions,
    progress: &mut ProgressFn<'_>,
) -> Result<Trained> {
    config.validate()?;
    let mut tasks: Vec<(usize, Task)> = Vec::new();
    for (index, model) in models.iter_mut().enumerate() {
        let table = model.context.features.wide()?;
        for problem in &model.problems {
            let (problem, table) = (problem.clone(), table.clone());
            tasks
                .push((index, Task::new(problem, table, config, &model.name, &mut model.context, progress)?));
        }
    }
    let mut trainer = Trainer::new(config, &tasks[0].1, &options.device)?;
    let state = options.checkpoint.as_ref().map(Checkpoint::read).transpose()?.flatten();
    // What an earlier run spent and this one did not.
    let mut elsewhere = 0;
    let first = match (&options.checkpoint, state) {
        (Some(checkpoint), Some(state)) => {
            elsewhere = state.tokens.saturating_sub(spent(models));
            checkpoint.restore(state, &mut trainer, &mut tasks, &options.device)?
        }
        _ => {
            trainer.warm_start(&tasks.iter().map(|(_, task)| task).collect::<Vec<_>>(), progress)?;
            0
        }
    };
    let n = tasks.len();
    for episode in first + 1..=config.episodes {
        let (model, task) = &mut tasks[(episode - 1) % n];
        let others = elsewhere + spent(models) - models[*model].context.evaluator.tokens_forwarded();
        // What there was before the episode, in case that the last device is lost in it.
        let before =
            options.checkpoint.as_ref().map(|checkpoint| (checkpoint, trainer.clone(), spent(models)));
        let evaluator = &mut models[*model].context.evaluator;
        let tokens = &mut |evaluator: &Evaluator<'_>| others + evaluator.tokens_forwarded();
        if let Err(error) = trainer.episode(episode, task, evaluator, tokens) {
            if let Some((checkpoint, trainer, spent)) = before.filter(|_| error.is_device()) {
                let logs = tasks.iter().map(|(_, task)| task.log.clone()).collect();
                checkpoint.write(&State::new(episode - 1, elsewhere + spent, &trainer, logs), &trainer)?;
                write_logs(options, &tasks)?;
            }
            return Err(error);
        }
        let best = task.best().map(|best| best.kld);
        let told = report(progress, Stage::Episodes, episode, config.episodes, best);
        if let Some(checkpoint) = &options.checkpoint
            && (episode % checkpoint.every.max(1) == 0 || told.is_err())
        {
            let logs = tasks.iter().map(|(_, task)| task.log.clone()).collect();
            let tokens = elsewhere + spent(models);
            checkpoint.write(&State::new(episode, tokens, &trainer, logs), &trainer)?;
            write_logs(options, &tasks)?;
        }
        told?;
    }

    let mut outcomes = Vec::new();
    for (model, task) in &mut tasks {
        let own = trainer.policy_choices(task)?;
        let evaluator = &mut models[*model].context.evaluator;
        let measured = task.measure(evaluator, &own)?;
        task.keep(&own, measured, "policy");
        let best = task.best().cloned();
        task.log.found = best.as_ref().map_or(own, |best| best.choices.clone());
        let policy_kld = measured.map_or(f64::MAX, |(kld, _)| kld);
        outcomes.push(TrainOutcome {
            model: task.log.model.clone(),
            budget: task.log.budget.clone(),
            policy_kld,
            uniform_kld: task.log.uniform_kld,
            best_kld: best.map_or(policy_kld, |best| best.kld),
        });
    }
    write_logs(options, &tasks)?;
    let provenance = Provenance {
        seed: config.agent.seed(),
        episodes: config.episodes,
        // Those of the last episode: what it takes to look at the result afterwards is no part of the training.
        tokens: tasks.iter().filter_map(|(_, t)| Some(t.log.episodes.last()?.tokens)).max().unwrap_or(0),
        ..provenance(&outcomes)
    };
    let task = &tasks[0].1;
    let (scaler, actions) = (task.scaler().clone(), task.problem().actions());
    let policy = Policy::wide(trainer.learner.body()?, config.norm, scaler, actions, provenance);
    let logs = tasks.into_iter().map(|(_, task)| task.log).collect();
    Ok(Trained { policy, logs, resumed: first, outcomes })
}

fn train_regressor(
    models: &mut [TrainModel<'_>],
    norm: Normalisation,
    progress: &mut ProgressFn<'_>,
) -> Result<Trained> {
    let mut learnt = Vec::new();
    for model in models.iter_mut() {
        let table: WideTable = model.context.features.wide()?;
        let scaler = ramp_embed::WideScaler::fit(&table);
        learnt.push((table, scaler, model.context.sensitivity(progress)?));
    }
    let measured: Vec<MeasuredModel<'_>> = models
        .iter()
        .zip(&learnt)
        .map(|(model, (table, scaler, sensitivity))| MeasuredModel {
            problem: &model.problems[0],
            table,
            scaler,
            sensitivity,
        })
        .collect();
    let body = Body::Regressor(Regressor::fit(&measured)?);
    let mut outcomes = Vec::new();
    for (model, (table, scaler, _)) in models.iter_mut().zip(&learnt) {
        for problem in &model.problems {
            let choices = body.place(&WideWalk { problem, features: table, scaler, masked: true })?;
            let score = model.context.evaluator.score(&choices)?;
            let uniform = model.context.evaluator.score(&crate::uniform::uniform(problem))?;
            outcomes.push(TrainOutcome {
                model: model.name.clone(),
                budget: problem.budget().to_string(),
                policy_kld: score.kld,
                uniform_kld: uniform.kld,
                best_kld: score.kld,
            });
        }
    }
    let provenance = Provenance { tokens: spent(models), ..provenance(&outcomes) };
    let scaler = learnt.swap_remove(0).1;
    let policy = Policy::wide(body, norm, scaler, models[0].problems[0].actions(), provenance);
    Ok(Trained { policy, logs: Vec::new(), resumed: 0, outcomes })
}

/// Tokens forwarded by all models.
fn spent(models: &[TrainModel<'_>]) -> usize {
    models.iter().map(|model| model.context.evaluator.tokens_forwarded()).sum()
}

fn provenance(outcomes: &[TrainOutcome]) -> Provenance {
    let list = |of: fn(&TrainOutcome) -> &String| {
        let mut names: Vec<&str> = Vec::new();
        for name in outcomes.iter().map(of) {
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
        names.join(", ")
    };
    Provenance {
        model: list(|outcome| &outcome.model),
        budget: list(|outcome| &outcome.budget),
        mode: Mode::Sound,
        seed: 0,
        episodes: 0,
        tokens: 0,
        kld: outcomes.iter().map(|outcome| outcome.policy_kld).sum::<f64>() / outcomes.len().max(1) as f64,
    }
}

fn write_logs(options: &TrainOptions, tasks: &[(usize, Task)]) -> Result<()> {
    let Some(path) = &options.log else { return Ok(()) };
    let logs: Vec<&TrainingLog> = tasks.iter().map(|(_, task)| &task.log).collect();
    Ok(ramp_gguf::write_atomically(path, |file| {
        serde_json::to_writer(&mut *file, &logs)?;
        std::io::Write::write_all(file, b"\n")
    })?)
}
