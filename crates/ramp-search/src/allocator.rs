//! One trait for every way to find an allocation, and the baselines.

use ramp_embed::{FeatureConfig, FeatureTable, WideTable};
use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    evaluator::{Evaluator, Score},
    history::TrainingLog,
    knapsack::knapsack,
    ledger::Ledger,
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
    /// Measured before or here, and what that cost. What was measured before is charged when it is asked for.
    shared: Option<(Sensitivity, Ledger)>,
}

/// Gives the features of the problem's layers.
pub trait Features: std::fmt::Debug {
    /// The table of eleven slots.
    ///
    /// # Errors
    /// When the model's weights cannot be read.
    fn table(&self, config: FeatureConfig) -> Result<FeatureTable>;

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
        Self { evaluator, features, measurements: Measurements::Cheapest, sensitivity: None, shared: None }
    }

    /// Sensitivities that were measured before, on the same windows, and what that cost. A search that asks for them
    /// pays for them, as if it had measured them itself.
    #[must_use]
    pub fn with_sensitivity(self, sensitivity: Sensitivity, spent: Ledger) -> Self {
        Self { shared: Some((sensitivity, spent)), ..self }
    }

    /// Sensitivities, and what they cost, for [`SearchContext::with_sensitivity`] of another search.
    #[must_use]
    pub const fn measurement(&self) -> Option<&(Sensitivity, Ledger)> {
        self.shared.as_ref()
    }

    /// The sensitivities, if somebody asked for them.
    #[must_use]
    pub const fn measured(&self) -> Option<&Sensitivity> {
        self.sensitivity.as_ref()
    }

    /// The measured sensitivities; measured once and kept.
    ///
    /// # Errors
    /// When an evaluation fails, or `progress` stops the run.
    pub fn sensitivity(&mut self, progress: &mut ProgressFn<'_>) -> Result<Sensitivity> {
        if let Some(known) = &self.sensitivity {
            return Ok(known.clone());
        }
        let measured = match &self.shared {
            Some((shared, spent)) => {
                self.evaluator.charge(spent)?;
                shared.clone()
            }
            None => {
                let before = *self.evaluator.ledger();
                let measured = Sensitivity::measure(&mut self.evaluator, self.measurements, progress)?;
                self.shared = Some((measured.clone(), self.evaluator.ledger().since(&before)));
                measured
            }
        };
        self.sensitivity = Some(measured.clone());
        Ok(measured)
    }
}

impl SearchContext<'_> {
    /// Least divergence so far, for reports of progress.
    pub(crate) fn best_kld(&self) -> Option<f64> {
        self.evaluator.best().map(|(_, score)| score.kld)
    }

    /// Scores the one allocation of a search that looks at no other.
    pub(crate) fn found(&mut self, choices: Choices, origin: &str) -> Result<Found> {
        let score = self.evaluator.score(&choices)?;
        Ok(Found { choices, score, origin: origin.into(), curve: Vec::new(), policy: None, own: None })
    }

    /// The best allocation that the evaluator has seen, for a search that came to its end or to its limit.
    pub(crate) fn settle(&self, name: &str, ended: Result<()>) -> Result<Found> {
        match ended {
            Ok(()) | Err(Error::TokenLimit { .. }) => {}
            Err(error) => return Err(error),
        }
        let Some((choices, score)) = self.evaluator.best() else {
            return Err(self
                .evaluator
                .limit()
                .map_or(Error::NothingScored, |limit| Error::TokenLimit { limit }));
        };
        let at = self.evaluator.trace().last().map_or(0, |point| point.evaluations);
        let origin = format!("{name}, evaluation {at}");
        Ok(Found { choices: choices.clone(), score, origin, curve: Vec::new(), policy: None, own: None })
    }
}

/// Runs an allocator until it ends or has forwarded `limit` tokens, whichever comes first, and gives the best allocation
/// that was scored until then. Allocators that could go on forever go on until the limit.
///
/// # Errors
/// As [`Allocator::allocate`]; [`Error::TokenLimit`] when not one allocation within the budget could be scored.
pub fn allocate_within(
    allocator: &mut dyn Allocator,
    limit: Option<usize>,
    context: &mut SearchContext<'_>,
    progress: &mut ProgressFn<'_>,
) -> Result<Found> {
    context.evaluator.set_limit(limit);
    match allocator.allocate(context, progress) {
        Err(error @ Error::TokenLimit { .. }) => context.settle(allocator.name(), Err(error)),
        other => other,
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
    /// The trained policy, for agents.
    pub policy: Option<Policy>,
    /// What that policy allocates by itself, without the best that the search happened to see, with its score.
    pub own: Option<(Choices, Score)>,
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
        context.found(choices, "uniform")
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
        context.found(choices, "knapsack")
    }
}
