//! One trait for every way to find an allocation, and the baselines.

use ramp_embed::{FeatureTable, WideTable};
use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    evaluator::{Evaluator, Score},
    history::TrainingLog,
    knapsack::knapsack,
    policy::Policy,
    problem::Choices,
    progress::ProgressFn,
    sensitivity::{Measurements, Sensitivity},
    uniform::uniform,
};

/// What an allocator works with.
#[derive(Debug)]
pub struct SearchContext<'a> {
    /// Scores allocations; holds the problem and the weight bank.
    pub evaluator: Evaluator<'a>,
    /// Features for agents, one table for each mode that was asked for.
    pub features: &'a dyn Features,
    /// How many choices of a slot the sensitivities are measured on.
    pub measurements: Measurements,
    sensitivity: Option<Sensitivity>,
}

/// Gives the features of the problem's layers.
pub trait Features: std::fmt::Debug {
    /// The table for a mode.
    ///
    /// # Errors
    /// When the model's weights cannot be read.
    fn table(&self, mode: ramp_embed::FeatureMode) -> Result<FeatureTable>;

    /// The wide features, with an error for each format of the action set.
    ///
    /// # Errors
    /// When the model's weights cannot be read, or there are no wide features.
    fn wide(&self) -> Result<WideTable> {
        Err(Error::NoWideFeatures)
    }
}

impl<'a> SearchContext<'a> {
    /// A context without measurements yet.
    #[must_use]
    pub const fn new(evaluator: Evaluator<'a>, features: &'a dyn Features) -> Self {
        Self { evaluator, features, measurements: Measurements::Cheapest, sensitivity: None }
    }

    /// The measured sensitivities; measured once and kept.
    ///
    /// # Errors
    /// When an evaluation fails, or `progress` stops the run.
    pub fn sensitivity(&mut self, progress: &mut ProgressFn<'_>) -> Result<Sensitivity> {
        if let Some(known) = &self.sensitivity {
            return Ok(known.clone());
        }
        let measured = Sensitivity::measure(&mut self.evaluator, self.measurements, progress)?;
        self.sensitivity = Some(measured.clone());
        Ok(measured)
    }
}

/// One point of a search's history.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// Episode, from 1.
    pub episode: usize,
    /// Tokens forwarded by the whole search up to here.
    pub tokens: usize,
    /// KL divergence of this episode's allocation in nats.
    pub kld: f64,
    /// Perplexity of this episode's allocation on the search windows.
    pub perplexity: f64,
    /// Mean nominal bits over the block matrices.
    pub mean_bits: f64,
    /// The episode's reward.
    pub reward: f64,
    /// Least KL divergence so far.
    pub best_kld: f64,
    /// The agent's temperature.
    pub alpha: f64,
}

/// What an allocator found.
#[derive(Clone, Debug)]
pub struct Found {
    /// The allocation, within the budget.
    pub choices: Choices,
    /// Its score on the search windows.
    pub score: Score,
    /// Where it comes from, such as `episode 12`.
    pub origin: String,
    /// History, for searches that have one.
    pub curve: Vec<CurvePoint>,
    /// The trained policy and its own allocation, for agents.
    pub policy: Option<Policy>,
}

/// A way to find an allocation. All are given the same problem, evaluator and meter.
pub trait Allocator {
    /// A short name for tables.
    fn name(&self) -> &'static str;

    /// Finds an allocation within the budget.
    ///
    /// # Errors
    /// When an evaluation fails, or `progress` stops the run.
    fn allocate(&mut self, context: &mut SearchContext<'_>, progress: &mut ProgressFn<'_>) -> Result<Found>;

    /// The history of the last [`allocate`](Self::allocate), for searches that have one; it is taken.
    fn take_log(&mut self) -> Option<TrainingLog> {
        None
    }
}

/// The same density of bits everywhere.
#[derive(Clone, Copy, Debug, Default)]
pub struct Uniform;

impl Allocator for Uniform {
    fn name(&self) -> &'static str {
        "uniform"
    }

    fn allocate(&mut self, context: &mut SearchContext<'_>, _progress: &mut ProgressFn<'_>) -> Result<Found> {
        let choices = uniform(context.evaluator.problem());
        let score = context.evaluator.score(&choices)?;
        Ok(Found { choices, score, origin: "uniform".into(), curve: Vec::new(), policy: None })
    }
}

/// Measured sensitivities and an exact knapsack.
#[derive(Clone, Copy, Debug, Default)]
pub struct MeasuredKnapsack;

impl Allocator for MeasuredKnapsack {
    fn name(&self) -> &'static str {
        "knapsack"
    }

    fn allocate(&mut self, context: &mut SearchContext<'_>, progress: &mut ProgressFn<'_>) -> Result<Found> {
        let sensitivity = context.sensitivity(progress)?;
        let choices = knapsack(context.evaluator.problem(), &sensitivity);
        let score = context.evaluator.score(&choices)?;
        Ok(Found { choices, score, origin: "knapsack".into(), curve: Vec::new(), policy: None })
    }
}
