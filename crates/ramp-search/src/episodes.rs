//! Episodes of a categorical agent: walk, evaluate, remember, learn, on one or several problems in turn.

#[cfg(test)]
mod tests;

use std::collections::HashMap;

use burn::tensor::Device;
use ramp_embed::{WideScaler, WideTable};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{
    allocator::SearchContext,
    error::{Error, Result},
    evaluator::Evaluator,
    history::{EpisodeRecord, LogHeader, MeanLearning, TrainingLog},
    knapsack::{fill, knapsack},
    learner::{Decided, Learner},
    mode::{Behaviour, BudgetHandling, Credit, WarmStart, WarmUp},
    problem::{Choices, Problem},
    progress::{ProgressFn, Stage, report},
    projection::bin_centre,
    relaxation::Relaxation,
    reward::{Outcome, Reference},
    shaping::Shaping,
    uniform::uniform,
    walk_config::WalkSearchConfig,
    wide_walk::{WideStep, WideWalk},
};

/// Steps of behaviour cloning between two reports; the learning rate falls from one such chunk to the next.
const CLONING_CHUNK: usize = 50;
/// Demonstrations of one layer, divided among its formats.
const COPIES: f64 = 16.0;
/// Keeps the walk's random numbers apart from the agent's, which has the same seed.
const WALK_STREAM: u64 = 0x9E37_79B9_7F4A_7C15;

/// Divergence and perplexity of an allocation; `None` where the evaluation gave no number.
pub(crate) type Measured = Option<(f64, f64)>;

/// One problem to learn on, and what is known of it.
#[derive(Debug)]
pub(crate) struct Task {
    problem: Problem,
    table: WideTable,
    scaler: WideScaler,
    reference: Reference,
    shaping: Option<Shaping>,
    seen: HashMap<Choices, Measured>,
    best: Option<Best>,
    pub(crate) log: TrainingLog,
}

/// The best allocation so far that fits.
#[derive(Clone, Debug)]
pub(crate) struct Best {
    pub(crate) choices: Choices,
    pub(crate) kld: f64,
    pub(crate) origin: String,
}

impl Task {
    /// Evaluates the uniform allocation, measures sensitivities if the configuration needs them, and the knapsack's
    /// allocation if it starts from it.
    pub(crate) fn new(
        problem: Problem,
        table: WideTable,
        config: &WalkSearchConfig,
        model: &str,
        context: &mut SearchContext<'_>,
        progress: &mut ProgressFn<'_>,
    ) -> Result<Self> {
        let uniform = uniform(&problem);
        let score = context.evaluator.score(&uniform)?;
        let needs = config.credit != Credit::Terminal || config.warm_start == WarmStart::Knapsack;
        let shaping = if needs {
            Some(Shaping::new(&problem, &context.sensitivity(progress)?, score.kld))
        } else {
            None
        };
        let reference = Reference {
            base_perplexity: context.evaluator.base_perplexity(),
            uniform_kld: score.kld,
            uniform_perplexity: score.perplexity,
            target_bits: problem.allocation(&uniform).mean_bits(),
        };
        let header = LogHeader {
            model: model.to_owned(),
            agent: config.agent.name().to_owned(),
            seed: config.agent.seed(),
            config: serde_json::to_value(config).unwrap_or_default(),
            base_perplexity: reference.base_perplexity,
            uniform_kld: score.kld,
            uniform_perplexity: score.perplexity,
            feature_names: table.names().to_vec(),
            features: (0..table.layers().len()).map(|at| table.raw(at).to_vec()).collect(),
        };
        let mut task = Self {
            log: TrainingLog::new(&problem, header),
            scaler: WideScaler::fit(&table),
            problem,
            table,
            reference,
            shaping,
            seen: HashMap::new(),
            best: None,
        };
        let measured = Some((score.kld, score.perplexity));
        task.keep(&uniform, measured, "uniform");
        let mut anchor = (uniform, measured);
        if let (Some(shaping), WarmStart::Knapsack) = (&task.shaping, config.warm_start) {
            let choices = knapsack(&task.problem, shaping.sensitivity());
            let measured = measure(&mut context.evaluator, &choices)?;
            task.keep(&choices, measured, "warm start (measured knapsack)");
            anchor = (choices, measured);
        }
        if let (Some(shaping), (choices, Some((kld, perplexity)))) = (&mut task.shaping, anchor) {
            let mean_bits = task.problem.allocation(&choices).mean_bits();
            let outcome = Outcome { kld, perplexity, mean_bits };
            shaping.anchor(&task.problem, &choices, kld, &config.reward, outcome, &task.reference);
        }
        Ok(task)
    }

    pub(crate) const fn problem(&self) -> &Problem {
        &self.problem
    }

    pub(crate) const fn scaler(&self) -> &WideScaler {
        &self.scaler
    }

    pub(crate) const fn best(&self) -> Option<&Best> {
        self.best.as_ref()
    }

    /// Whether there is anything to decide in a slot: one with a fixed type has nothing to teach.
    fn is_open(&self, slot: usize) -> bool {
        self.problem.slots()[slot].choices.len() > 1
    }

    pub(crate) const fn walk(&self, masked: bool) -> WideWalk<'_> {
        WideWalk { problem: &self.problem, features: &self.table, scaler: &self.scaler, masked }
    }

    /// Takes over the episodes of a log of the same run.
    pub(crate) fn resume(&mut self, log: TrainingLog) {
        for record in &log.episodes {
            let measured = record.kld.zip(record.perplexity);
            let origin = format!("episode {}", record.episode);
            self.keep(&record.choices, measured, &origin);
        }
        self.log = log;
    }

    /// Remembers an allocation, and that it is the best if it fits and diverges least.
    pub(crate) fn keep(&mut self, choices: &[usize], measured: Measured, origin: &str) {
        self.seen.insert(choices.to_vec(), measured);
        let Some((kld, _)) = measured else { return };
        if self.best.as_ref().is_none_or(|best| kld < best.kld) && self.problem.fits(choices) {
            self.best = Some(Best { choices: choices.to_vec(), kld, origin: origin.to_owned() });
        }
    }

    /// The measurement of an allocation; the model runs only for one that was not seen before.
    pub(crate) fn measure(&self, evaluator: &mut Evaluator<'_>, choices: &[usize]) -> Result<Measured> {
        match self.seen.get(choices) {
            Some(&known) => Ok(known),
            None => measure(evaluator, choices),
        }
    }
}

/// Scores an allocation. One that makes the model overflow has no number, which is no reason to end a search.
fn measure(evaluator: &mut Evaluator<'_>, choices: &[usize]) -> Result<Measured> {
    match evaluator.score(choices) {
        Ok(score) if score.kld.is_finite() && score.perplexity.is_finite() => {
            Ok(Some((score.kld, score.perplexity)))
        }
        Ok(_) => Ok(None),
        Err(Error::Eval(ramp_eval::Error::NonFinite { .. } | ramp_eval::Error::NonFiniteAt { .. })) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// An agent with what it needs between episodes.
#[derive(Clone, Debug)]
pub(crate) struct Trainer {
    pub(crate) config: WalkSearchConfig,
    pub(crate) learner: Learner,
    pub(crate) rng: ChaCha8Rng,
    /// Episodes stored since the last update of an on-policy agent.
    pub(crate) gathered: usize,
}

impl Trainer {
    pub(crate) fn new(config: &WalkSearchConfig, task: &Task, device: &Device) -> Result<Self> {
        let actions = task.walk(true).actions();
        Ok(Self {
            learner: Learner::new(&config.agent, task.table.state_len(), actions, device)?,
            rng: ChaCha8Rng::seed_from_u64(config.agent.seed() ^ WALK_STREAM),
            config: config.clone(),
            gathered: 0,
        })
    }

    fn masked(&self) -> bool {
        self.config.budget == BudgetHandling::Projection
    }

    /// Teaches what is known before the first episode: critics from single measurements and measured allocations, the
    /// actor from knapsacks.
    pub(crate) fn warm_start(&mut self, tasks: &[&Task], progress: &mut ProgressFn<'_>) -> Result<()> {
        if self.config.warm_start == WarmStart::Cold || matches!(self.learner, Learner::Ppo(_)) {
            return Ok(());
        }
        let mut shown: Vec<Decided> = Vec::new();
        for task in tasks {
            shown.extend(self.demonstrate(task)?);
        }
        let total = self.config.pretraining_updates + self.config.cloning_steps;
        for done in 1..=self.config.pretraining_updates {
            self.learner.update(1, &mut MeanLearning::default())?;
            report(progress, Stage::WarmStart, done, total, None)?;
        }
        // Critics first: an actor that follows untrained ones forgets what it was cloned from.
        let states: Vec<Vec<f32>> = shown.iter().map(|shown| shown.step.state.clone()).collect();
        let masks: Vec<Vec<bool>> = shown.iter().map(|shown| shown.step.mask.clone()).collect();
        let actions: Vec<usize> = shown.iter().map(|shown| shown.step.action).collect();
        let raw: Vec<Vec<f32>> = shown.iter().map(|shown| vec![shown.raw as f32]).collect();
        for done in (0..self.config.cloning_steps).step_by(CLONING_CHUNK) {
            let steps = CLONING_CHUNK.min(self.config.cloning_steps - done);
            let lr = self.config.cloning_lr * (1.0 - done as f64 / self.config.cloning_steps as f64);
            match &mut self.learner {
                Learner::Continuous(agent) => {
                    agent.clone_behaviour(&states, &raw, steps, lr)?;
                }
                Learner::Discrete(agent) => {
                    agent.clone_behaviour(&states, &masks, &actions, steps, lr)?;
                }
                Learner::Ppo(_) => {}
            }
            report(progress, Stage::WarmStart, self.config.pretraining_updates + done + steps, total, None)?;
        }
        Ok(())
    }

    /// Stores every measurement of a task as a transition, and the allocations that were measured as episodes. Gives the
    /// knapsack's steps at several budgets.
    fn demonstrate(&mut self, task: &Task) -> Result<Vec<Decided>> {
        let Some(shaping) = &task.shaping else { return Ok(Vec::new()) };
        let (floor, ceiling) =
            (task.problem.cost(&task.problem.floor()), task.problem.cost(&task.problem.ceiling()));
        let n = self.config.demonstrations as u64;
        // Widened before the product: a file of many gigabytes times a few budgets.
        let between =
            (1..=n).map(|at| floor + ((ceiling - floor) as u128 * at as u128 / (n as u128 + 1)) as u64);
        let mut shown = Vec::new();
        for capacity in between.chain([task.problem.capacity()]) {
            let problem = task.problem.with_capacity(capacity);
            let shaping = shaping.at(&problem);
            let choices = knapsack(&problem, shaping.sensitivity());
            let walk = WideWalk { problem: &problem, ..task.walk(self.masked()) };
            let steps = walk.replay(&choices)?;
            // Between two formats the best action of a continuous agent is a place, not the middle of a bin.
            let best = Relaxation::new(&problem, shaping.sensitivity().clone()).actions_for(&choices);
            for step in steps.into_iter().filter(|step| task.is_open(step.slot)) {
                let mut own = Vec::new();
                for action in (0..walk.actions()).filter(|&action| step.mask[action]) {
                    let choice = walk.choice(step.slot, action).unwrap_or(0);
                    let reward =
                        shaping.own(&problem, step.slot, choice, &self.config.reward, &task.reference);
                    let tried = Decided::shown(WideStep { action, ..step.clone() }, &walk);
                    // The rest of the walk follows the knapsack and loses nothing.
                    self.learner.remember(std::slice::from_ref(&tried), &[reward])?;
                    own.push((tried, reward));
                }
                let raw = best[step.slot];
                match &self.learner {
                    Learner::Discrete(_) if self.config.cloning_temperature > 0.0 => {
                        shown.extend(tempered(own, self.config.cloning_temperature));
                    }
                    _ => shown.push(Decided { raw, step, log_prob: 0.0 }),
                }
            }
        }
        let mut measured: Vec<(&Choices, &Measured)> = task.seen.iter().collect();
        measured.sort_by(|a, b| a.0.cmp(b.0));
        for (choices, &measured) in measured {
            let steps: Vec<Decided> = task
                .walk(self.masked())
                .replay(choices)?
                .into_iter()
                .filter(|step| task.is_open(step.slot))
                .map(|step| Decided::shown(step, &task.walk(self.masked())))
                .collect();
            let rewards = self.rewards(task, &steps, choices, self.episode_reward(task, choices, measured));
            self.learner.remember(&steps, &rewards)?;
        }
        Ok(shown)
    }

    /// One episode on a task. `offset` are the tokens that were spent elsewhere.
    pub(crate) fn episode(
        &mut self,
        episode: usize,
        task: &mut Task,
        evaluator: &mut Evaluator<'_>,
        tokens: &mut dyn FnMut(&Evaluator<'_>) -> usize,
    ) -> Result<()> {
        let (mut steps, mut choices) = self.gather(episode, task)?;
        for _ in 1..self.config.tries {
            if !task.seen.contains_key(&choices) {
                break;
            }
            (steps, choices) = self.gather(episode, task)?;
        }
        let measured = task.measure(evaluator, &choices)?;
        task.keep(&choices, measured, &format!("episode {episode}"));
        let reward = self.episode_reward(task, &choices, measured);
        let random = episode <= self.config.warmup_episodes;
        let mut learning = MeanLearning::default();
        // What random walks chose is nothing that an on-policy agent may learn from.
        if !(random && matches!(self.learner, Learner::Ppo(_))) {
            let rewards = self.rewards(task, &steps, &choices, reward);
            self.learner.remember(&steps, &rewards)?;
            self.gathered += 1;
            if matches!(self.learner, Learner::Discrete(_))
                || self.gathered >= self.config.episodes_per_update
            {
                let times = self.config.updates_per_episode.unwrap_or(choices.len());
                self.learner.update(times, &mut learning)?;
                self.gathered = 0;
            }
        }

        let fits = task.problem.fits(&choices);
        let before = task.log.episodes.last().and_then(|record| record.best_perplexity);
        let perplexity = measured.map(|(_, perplexity)| perplexity);
        task.log.episodes.push(EpisodeRecord {
            episode,
            tokens: tokens(evaluator),
            reward,
            kld: measured.map(|(kld, _)| kld),
            perplexity,
            mean_bits: task.problem.allocation(&choices).mean_bits(),
            bytes: task.problem.file_bytes(&choices),
            fits,
            best_kld: task.best.as_ref().map(|best| best.kld),
            best_perplexity: before.into_iter().chain(perplexity.filter(|_| fits)).reduce(f64::min),
            alpha: self.learner.alpha(),
            learning: learning.get(),
            choices,
        });
        Ok(())
    }

    /// Walks once; gives the agent's decisions and the allocation, which uses the whole budget if the budget is held.
    fn gather(&mut self, episode: usize, task: &Task) -> Result<(Vec<Decided>, Choices)> {
        let random = episode <= self.config.warmup_episodes;
        let masked = self.masked() && !(random && self.config.warm_up == WarmUp::Uniform);
        let walk = task.walk(masked);
        let n = task.problem.slots().len();
        let mut reserved = task.problem.floor();
        let mut free: Vec<bool> = (0..n).map(|slot| task.is_open(slot)).collect();
        let incumbent = task.best.as_ref().map(|best| &best.choices);
        if let (Behaviour::Incumbent { resampled }, Some(incumbent), false) =
            (self.config.behaviour, incumbent, random)
        {
            free = vec![false; n];
            for slot in rand::seq::index::sample(&mut self.rng, n, resampled.min(n)) {
                free[slot] = task.is_open(slot);
            }
            // A layer that is decided again may be asked to give one step away, not everything.
            for slot in 0..n {
                reserved[slot] = incumbent[slot].saturating_sub(usize::from(free[slot]));
            }
        }
        let (learner, rng) = (&mut self.learner, &mut self.rng);
        let mut drawn = Vec::new();
        let steps = walk.run(&reserved, |slot, state, mask| {
            let action = match incumbent {
                Some(incumbent) if !free[slot] => walk.action(slot, incumbent[slot]),
                None if !free[slot] => walk.action(slot, 0),
                _ if random => {
                    let allowed: Vec<usize> = (0..mask.len()).filter(|&action| mask[action]).collect();
                    let action = allowed[rng.random_range(0..allowed.len())];
                    let choices = task.problem.slots()[slot].choices.len();
                    let raw = bin_centre(walk.choice(slot, action).unwrap_or(0), choices);
                    drawn.push((-(allowed.len() as f64).ln(), raw));
                    action
                }
                _ => {
                    let (action, log_prob, raw) = learner.sample(&walk, slot, state, mask)?;
                    drawn.push((log_prob, raw));
                    action
                }
            };
            Ok(action)
        })?;
        let mut choices = walk.choices(&steps);
        if masked {
            match &task.shaping {
                Some(shaping) => {
                    fill(&task.problem, &mut choices, |slot, choice| {
                        -shaping.sensitivity().get(slot, choice)
                    });
                }
                None => fill(&task.problem, &mut choices, |_, choice| choice as f64),
            }
        }
        let decided = steps.into_iter().filter(|step| free[step.slot]).zip(drawn);
        Ok((decided.map(|(step, (log_prob, raw))| Decided { step, log_prob, raw }).collect(), choices))
    }

    fn episode_reward(&self, task: &Task, choices: &[usize], measured: Measured) -> f64 {
        let mean_bits = task.problem.allocation(choices).mean_bits();
        let outcome = measured.map(|(kld, perplexity)| Outcome { kld, perplexity, mean_bits });
        self.config.reward.reward(outcome, &task.reference)
    }

    /// One reward for each decision.
    fn rewards(&self, task: &Task, steps: &[Decided], choices: &[usize], episode_reward: f64) -> Vec<f64> {
        let last = steps.len().saturating_sub(1);
        let config = &self.config.reward;
        let terminal = |total: f64| (0..steps.len()).map(|at| if at == last { total } else { 0.0 }).collect();
        let (Some(shaping), Credit::Lagrangian | Credit::Shaped) = (&task.shaping, self.config.credit) else {
            return terminal(episode_reward);
        };
        let walk = task.walk(true);
        let mut rewards: Vec<f64> = steps
            .iter()
            .map(|Decided { step, .. }| {
                let choice = walk.choice(step.slot, step.action).unwrap_or(0);
                shaping.own(&task.problem, step.slot, choice, config, &task.reference)
            })
            .collect();
        let residual = shaping.residual(&task.problem, choices, episode_reward, config, &task.reference);
        if self.config.credit == Credit::Lagrangian {
            let share = residual / choices.len() as f64;
            rewards.iter_mut().for_each(|reward| *reward += share);
        } else if let Some(last) = rewards.last_mut() {
            *last += residual;
        }
        rewards
    }

    /// The policy's own allocation.
    pub(crate) fn policy_choices(&self, task: &Task) -> Result<Choices> {
        self.learner.body()?.place(&task.walk(true))
    }
}

/// Decisions repeated in proportion to the softmax of their rewards.
fn tempered(decisions: Vec<(Decided, f64)>, temperature: f64) -> Vec<Decided> {
    let best = decisions.iter().map(|(_, reward)| *reward).fold(f64::NEG_INFINITY, f64::max);
    let weight = |reward: f64| ((reward - best) / temperature).exp();
    let total: f64 = decisions.iter().map(|(_, reward)| weight(*reward)).sum();
    let copies = |reward: f64| (COPIES * weight(reward) / total).round() as usize;
    decisions.into_iter().flat_map(|(decided, reward)| std::iter::repeat_n(decided, copies(reward))).collect()
}
