//! Algorithm 1: Soft Actor-Critic walks over the layers, one episode after the other.

use burn::tensor::Device;
use ramp_embed::{FeatureTable, N_STATIC, Scaler};
use ramp_sac::{ActMode, Agent, Transition};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{
    allocator::{Allocator, Found, SearchContext},
    error::Result,
    evaluator::Score,
    history::{EpisodeRecord, Learning, LogHeader, MeanLearning, TrainingLog},
    knapsack::knapsack,
    mode::{Behaviour, BudgetHandling, Credit, SacSearchConfig, StoredAction, WarmStart, WarmUp},
    policy::{Policy, Provenance},
    problem::{Choices, Problem},
    progress::{ProgressFn, Stage, report},
    projection::{bin_centre, project},
    relaxation::Relaxation,
    reward::{Outcome, Reference},
    rollout::{Trajectory, Walk},
    uniform::uniform,
};

/// Bound of one layer's reward under [`Credit::Lagrangian`]: a hopeless choice need not be told apart from a
/// disastrous one.
const MAX_LAYER_REWARD: f64 = 5.0;

/// Steps of behaviour cloning between two reports; the learning rate falls from one such chunk to the next.
const CLONING_CHUNK: usize = 50;

/// Keeps the walk's random numbers apart from the agent's, which has the same seed.
const WALK_STREAM: u64 = 0x9E37_79B9_7F4A_7C15;

/// Soft Actor-Critic as an allocator.
#[derive(Clone, Debug)]
pub struct Sac {
    /// Every decision.
    pub config: SacSearchConfig,
    /// Where the networks live; they are small, the CPU is usually fastest.
    pub device: Device,
    /// Name of the model, kept with the policy.
    pub model_name: String,
    log: Option<TrainingLog>,
}

impl Sac {
    /// A search with these decisions. `device` is where the networks live.
    #[must_use]
    pub const fn new(config: SacSearchConfig, device: Device, model_name: String) -> Self {
        Self { config, device, model_name, log: None }
    }
}

impl Allocator for Sac {
    fn name(&self) -> &'static str {
        "sac"
    }

    fn allocate(&mut self, context: &mut SearchContext<'_>, progress: &mut ProgressFn<'_>) -> Result<Found> {
        self.config.validate()?;
        let features = context.features.table(self.config.feature_config())?;
        let scaler = Scaler::fit(&features);
        let mut run = Run::new(self, context, &features, &scaler, progress)?;
        run.warm_start(progress)?;
        for episode in 1..=self.config.episodes {
            run.episode(episode)?;
            let best = run.best.as_ref().map(|best| best.score.kld);
            report(progress, Stage::Episodes, episode, self.config.episodes, best)?;
        }
        let (found, log) = run.finish()?;
        self.log = Some(log);
        Ok(found)
    }

    fn take_log(&mut self) -> Option<TrainingLog> {
        self.log.take()
    }
}

/// The best allocation so far that fits the budget.
struct Best {
    choices: Choices,
    score: Score,
    origin: String,
}

/// What the Lagrangian rewards are computed from.
struct Lagrangian<'r> {
    relaxation: Relaxation<'r>,
    /// Rewards are in units of the mean layer's share of the uniform allocation's divergence.
    scale: f64,
}

struct Run<'r, 'c> {
    config: &'r SacSearchConfig,
    model_name: &'r str,
    context: &'r mut SearchContext<'c>,
    walk: Walk<'r>,
    agent: Agent,
    rng: ChaCha8Rng,
    reference: Reference,
    lagrangian: Option<Lagrangian<'r>>,
    best: Option<Best>,
    /// The best allocation as actions.
    incumbent: Vec<f64>,
    log: TrainingLog,
    alpha: f64,
}

impl<'r, 'c> Run<'r, 'c> {
    fn new(
        sac: &'r Sac,
        context: &'r mut SearchContext<'c>,
        features: &'r FeatureTable,
        scaler: &'r Scaler,
        progress: &mut ProgressFn<'_>,
    ) -> Result<Self>
    where
        'c: 'r,
    {
        let config = &sac.config;
        let problem = context.evaluator.problem();
        let uniform = uniform(problem);
        let uniform_score = context.evaluator.score(&uniform)?;
        let uniform_kld = uniform_score.kld;
        let lagrangian = match config.credit {
            Credit::Terminal => None,
            Credit::Lagrangian | Credit::Shaped => {
                let sensitivity = context.sensitivity(progress)?;
                let scale = (uniform_kld / problem.slots().len() as f64).max(1e-9);
                Some(Lagrangian { relaxation: Relaxation::new(problem, sensitivity), scale })
            }
        };
        let reference = Reference {
            base_perplexity: context.evaluator.base_perplexity(),
            uniform_kld,
            uniform_perplexity: uniform_score.perplexity,
            target_bits: problem.allocation(&uniform).mean_bits(),
        };
        let header = LogHeader {
            model: sac.model_name.clone(),
            agent: "sac".into(),
            seed: config.agent.seed,
            config: serde_json::to_value(config).unwrap_or_default(),
            base_perplexity: context.evaluator.base_perplexity(),
            uniform_kld,
            uniform_perplexity: uniform_score.perplexity,
            feature_names: features.mode().names()[..N_STATIC].iter().map(ToString::to_string).collect(),
            features: (0..features.len()).map(|layer| features.raw(layer).to_vec()).collect(),
        };
        Ok(Self {
            config,
            model_name: &sac.model_name,
            walk: Walk {
                problem,
                features,
                scaler,
                mapping: config.mapping,
                first_context: config.first_context,
                context_update: config.context_update,
            },
            agent: Agent::new(config.agent.clone(), &sac.device)?,
            rng: ChaCha8Rng::seed_from_u64(config.agent.seed ^ WALK_STREAM),
            reference,
            lagrangian,
            best: None,
            incumbent: Vec::new(),
            log: TrainingLog::new(problem, header),
            alpha: config.agent.init_alpha,
            context,
        })
    }

    fn problem(&self) -> &'r Problem {
        self.walk.problem
    }

    /// Clones the relaxed problem's minimum into the actor, shows the critics what actions cost, and takes the
    /// knapsack's allocation as the first incumbent.
    fn warm_start(&mut self, progress: &mut ProgressFn<'_>) -> Result<()> {
        if self.config.warm_start == WarmStart::Cold {
            return Ok(());
        }
        let sensitivity = self.context.sensitivity(progress)?;
        let problem = self.problem();
        let relaxation = Relaxation::new(problem, sensitivity);
        let target = relaxation.best_actions();
        let demonstration = self.walk.run(|slot, _| Ok(target[slot]))?;
        let actions: Vec<Vec<f32>> = target.iter().map(|&a| vec![a as f32]).collect();
        let Trajectory { states, .. } = &demonstration;
        let total = self.config.cloning_steps + self.config.pretraining_updates;
        for done in (0..self.config.cloning_steps).step_by(CLONING_CHUNK) {
            let steps = CLONING_CHUNK.min(self.config.cloning_steps - done);
            let lr = self.config.cloning_lr * (1.0 - done as f64 / self.config.cloning_steps as f64);
            self.agent.clone_behaviour(states, &actions, steps, lr)?;
            report(progress, Stage::WarmStart, done + steps, total, None)?;
        }

        let choices = knapsack(problem, relaxation.sensitivity());
        let score = self.context.evaluator.score(&choices)?;
        self.keep(&choices, score, "warm start (measured knapsack)");

        // Every measurement is a transition that was never walked: this layer, that format, this cost.
        if let Some(lagrangian) = &self.lagrangian {
            for (slot, options) in problem.slots().iter().enumerate() {
                let n = options.choices.len();
                for action in (0..n).map(|choice| bin_centre(choice, n)).chain([target[slot]]) {
                    self.agent.push_episode(vec![Transition {
                        state: states[slot].clone(),
                        action: vec![action as f32],
                        reward: lagrangian.layer_reward(slot, action) as f32,
                        next_state: states[slot].clone(),
                        terminated: true,
                        truncated: false,
                    }])?;
                }
            }
        }
        for done in 1..=self.config.pretraining_updates {
            self.update(1)?;
            report(progress, Stage::WarmStart, self.config.cloning_steps + done, total, None)?;
        }
        Ok(())
    }

    /// Walks once as [`Behaviour`] says.
    fn gather(&mut self, episode: usize) -> Result<Trajectory> {
        let Self { agent, rng, walk, incumbent, .. } = self;
        if episode <= self.config.warmup_episodes {
            let problem = walk.problem;
            let mut room = problem.capacity().saturating_sub(problem.cost(&problem.floor()));
            return walk.run(|slot, _| {
                if self.config.warm_up == WarmUp::Uniform {
                    return Ok(rng.random::<f64>());
                }
                let extra = |choice: usize| problem.choice_cost(slot, choice) - problem.choice_cost(slot, 0);
                let n = problem.slots()[slot].choices.len();
                let allowed: Vec<usize> = (0..n).filter(|&choice| extra(choice) <= room).collect();
                let choice = allowed[rng.random_range(0..allowed.len())];
                room -= extra(choice);
                Ok(bin_centre(choice, n))
            });
        }
        let mut sample =
            |state: &[f32]| -> Result<f64> { Ok(f64::from(agent.act(state, ActMode::Sample)?[0])) };
        match self.config.behaviour {
            Behaviour::Incumbent { resampled } if !incumbent.is_empty() => {
                let drawn = rand::seq::index::sample(rng, incumbent.len(), resampled.min(incumbent.len()));
                let drawn: Vec<usize> = drawn.into_vec();
                walk.run(
                    |slot, state| if drawn.contains(&slot) { sample(state) } else { Ok(incumbent[slot]) },
                )
            }
            _ => walk.run(|_, state| sample(state)),
        }
    }

    /// One episode: walk, evaluate, remember, learn.
    fn episode(&mut self, episode: usize) -> Result<()> {
        let trajectory = self.gather(episode)?;
        let choices = self.place(&trajectory);
        let score = self.context.evaluator.score(&choices)?;
        self.keep(&choices, score, &format!("episode {episode}"));

        let transitions = self.transitions(&trajectory, &choices, score)?;
        let reward = self.episode_reward(&choices, score);
        self.agent.push_episode(transitions)?;
        let learning = self.update(self.config.updates_per_episode.unwrap_or(trajectory.states.len()))?;

        let (problem, fits) = (self.problem(), self.problem().fits(&choices));
        let before = self.log.episodes.last().and_then(|record| record.best_perplexity);
        let best_perplexity =
            if fits { before.into_iter().chain([score.perplexity]).reduce(f64::min) } else { before };
        self.log.episodes.push(EpisodeRecord {
            episode,
            tokens: self.context.evaluator.tokens_forwarded(),
            reward,
            kld: Some(score.kld),
            perplexity: Some(score.perplexity),
            mean_bits: problem.allocation(&choices).mean_bits(),
            bytes: problem.file_bytes(&choices),
            fits,
            best_kld: self.best.as_ref().map(|best| best.score.kld),
            best_perplexity,
            alpha: self.alpha,
            learning,
            choices,
        });
        Ok(())
    }

    /// The allocation that an episode is evaluated with.
    fn place(&self, trajectory: &Trajectory) -> Choices {
        match self.config.budget {
            BudgetHandling::Penalty => trajectory.choices.clone(),
            BudgetHandling::Projection => project(self.problem(), &trajectory.actions),
        }
    }

    /// Remembers an allocation if it fits and diverges least.
    fn keep(&mut self, choices: &[usize], score: Score, origin: &str) {
        let better = self.best.as_ref().is_none_or(|best| score.kld < best.score.kld);
        if better && self.problem().fits(choices) {
            if let Some(lagrangian) = &self.lagrangian {
                self.incumbent = lagrangian.relaxation.actions_for(choices);
            }
            self.best = Some(Best { choices: choices.to_vec(), score, origin: origin.to_owned() });
        }
    }

    /// The whole episode's reward.
    fn episode_reward(&self, choices: &[usize], score: Score) -> f64 {
        let mean_bits = self.problem().allocation(choices).mean_bits();
        let Score { kld, perplexity, .. } = score;
        self.config.reward.reward(Some(Outcome { kld, perplexity, mean_bits }), &self.reference)
    }

    /// The episode as transitions, complete before the first is stored: Algorithm 1 writes the terminal reward
    /// into a transition that the buffer may already have moved.
    fn transitions(
        &self,
        trajectory: &Trajectory,
        placed: &[usize],
        score: Score,
    ) -> Result<Vec<Transition>> {
        let last = trajectory.states.len().saturating_sub(1);
        let rewards: Vec<f64> = match &self.lagrangian {
            None => {
                let reward = self.episode_reward(placed, score);
                (0..=last).map(|slot| if slot == last { reward } else { 0.0 }).collect()
            }
            Some(lagrangian) if self.config.credit == Credit::Shaped => {
                // In units in which a layer's own reward is of order one.
                let layers = (last + 1) as f64;
                let predicted = lagrangian.relaxation.sensitivity().predict(placed);
                let unit = self.reference.uniform_kld * self.config.reward.slope(predicted, &self.reference);
                let mut rewards: Vec<f64> = (0..=last)
                    .map(|slot| unit * lagrangian.layer_reward(slot, trajectory.actions[slot]))
                    .collect();
                let missing = layers * self.episode_reward(placed, score) - rewards.iter().sum::<f64>();
                rewards[last] += missing;
                rewards
            }
            Some(lagrangian) => {
                let surplus = lagrangian.surplus_reward(placed, score.kld);
                let own = |slot: usize| lagrangian.layer_reward(slot, trajectory.actions[slot]);
                (0..=last).map(|slot| own(slot) + surplus).collect()
            }
        };
        let states = &trajectory.states;
        Ok((0..=last)
            .map(|slot| Transition {
                state: states[slot].clone(),
                action: vec![match self.config.stored_action {
                    StoredAction::Continuous => trajectory.actions[slot] as f32,
                    StoredAction::BinCentre => {
                        bin_centre(trajectory.choices[slot], self.problem().slots()[slot].choices.len())
                            as f32
                    }
                }],
                reward: rewards[slot] as f32,
                // Behind the last layer there is nothing; zeros are finite and masked.
                next_state: states.get(slot + 1).cloned().unwrap_or_else(|| vec![0.0; states[slot].len()]),
                terminated: slot == last,
                truncated: false,
            })
            .collect())
    }

    fn update(&mut self, times: usize) -> Result<Option<Learning>> {
        let mut mean = MeanLearning::default();
        for _ in 0..times {
            if let Some(metrics) = self.agent.update()? {
                self.alpha = f64::from(metrics.alpha as f32);
                mean.add(metrics.actor_loss, metrics.critic_loss, metrics.entropy);
            }
        }
        Ok(mean.get())
    }

    /// Walks once without noise, then gives the best allocation and the policy.
    fn finish(mut self) -> Result<(Found, TrainingLog)> {
        let agent = &mut self.agent;
        let trajectory =
            self.walk.run(|_, state| Ok(f64::from(agent.act(state, ActMode::Deterministic)?[0])))?;
        // A policy that leaves the budget to a penalty may exceed it; a file may not.
        let choices = project(self.problem(), &trajectory.actions);
        let score = self.context.evaluator.score(&choices)?;
        self.keep(&choices, score, "policy");
        let own = (choices.clone(), score);

        let problem = self.problem();
        let provenance = Provenance {
            model: self.model_name.to_owned(),
            budget: problem.budget().to_string(),
            mode: self.config.mode,
            seed: self.config.agent.seed,
            episodes: self.config.episodes,
            tokens: self.context.evaluator.tokens_forwarded(),
            kld: score.kld,
        };
        let policy =
            Policy::continuous(&self.agent, self.config, self.walk.scaler.clone(), problem, provenance)?;
        // Without an episode within the budget the projected policy is the answer, and it was kept above.
        let Best { choices, score, origin } =
            self.best.unwrap_or(Best { choices, score, origin: "policy".into() });
        self.log.found.clone_from(&choices);
        let (curve, policy) = (self.log.curve(), Some(policy));
        let found = Found { choices, score, origin, curve, policy, own: Some(own) };
        Ok((found, self.log))
    }
}

impl Lagrangian<'_> {
    /// What an action loses against its layer's best one, negative.
    fn layer_reward(&self, slot: usize, action: f64) -> f64 {
        (-self.relaxation.regret(slot, action) / self.scale).max(-MAX_LAYER_REWARD)
    }

    /// What an episode lost beyond the sum of its layers, shared by all of them.
    fn surplus_reward(&self, placed: &[usize], kld: f64) -> f64 {
        let surplus = kld - self.relaxation.sensitivity().predict(placed);
        let share = surplus / (self.scale * placed.len() as f64);
        -share.clamp(-MAX_LAYER_REWARD, MAX_LAYER_REWARD)
    }
}
