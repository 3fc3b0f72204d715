//! Whether a policy carries over to a model that it was not trained on, beside everything that could explain it away.

mod groups;
mod lookup;
#[cfg(test)]
mod tests;

use ramp_embed::{FeatureConfig, FeatureTable, WideTable};
use rand::{Rng, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

pub use groups::TransferGroup;
pub use lookup::LookupTable;

use crate::{
    allocator::{Features, SearchContext},
    error::Result,
    evaluator::Evaluator,
    history::role_name,
    knapsack::knapsack,
    policy::Policy,
    problem::{Choices, Problem},
    progress::{ProgressFn, Stage, report},
    projection::project,
    sensitivity::Sensitivity,
    uniform::uniform,
    wide_walk::choice_of,
};

/// How a transfer is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct TransferOptions {
    /// Random allocations that fill the budget, for the null distribution. At least 30 say something.
    pub random: usize,
    /// Permutations of the features within each role.
    pub shuffles: usize,
    /// Seed of both.
    pub seed: u64,
}

impl Default for TransferOptions {
    fn default() -> Self {
        Self { random: 30, shuffles: 5, seed: 0 }
    }
}

/// One allocation, or the mean of several.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TransferRow {
    /// What allocated.
    pub name: String,
    /// Mean KL divergence to the unquantized model in nats, on text that nothing was measured on.
    pub kld: f64,
    /// Standard deviation over the allocations; 0 for one.
    pub kld_sd: f64,
    /// Allocations.
    pub count: usize,
    /// Size of the file in bytes, the mean of several.
    pub bytes: f64,
    /// `(kld - knapsack) / (uniform - knapsack)`: 0 is as good as measuring the target, 1 is uniform.
    pub regret: f64,
}

/// Policies on a model that they were not trained on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Transfer {
    /// The model.
    pub model: String,
    /// Names of the models that each policy was trained on.
    pub sources: Vec<String>,
    /// The budget.
    pub budget: String,
    /// The policies first, then the controls.
    pub rows: Vec<TransferRow>,
    /// The policies once more, seeds together.
    pub groups: Vec<TransferGroup>,
    /// Spearman's rank correlation of predicted and measured sensitivities, by policy; `None` where nothing is predicted.
    pub rank_correlations: Vec<Option<f64>>,
    /// Share of the random allocations that are better than each policy's.
    pub random_better: Vec<f64>,
}

impl Transfer {
    /// The first policy's regret.
    #[must_use]
    pub fn regret(&self) -> f64 {
        self.rows.first().map_or(f64::NAN, |row| row.regret)
    }
}

/// Measures named policies on a target, with the six controls: uniform, a table of the source's bits by role and depth, a
/// knapsack over errors of formats, a knapsack over measured sensitivities, each policy with shuffled features, and random
/// allocations. All have the same budget.
///
/// `context` measures the sensitivities; `judge` scores all allocations, and should look at another text.
///
/// # Errors
/// When the policy reads other features or chooses from other formats, an evaluation fails, or `progress` stops the run.
pub fn transfer(
    policies: &[(String, &Policy)],
    model: &str,
    lookup: &LookupTable,
    context: &mut SearchContext<'_>,
    judge: &mut Evaluator<'_>,
    options: &TransferOptions,
    progress: &mut ProgressFn<'_>,
) -> Result<Transfer> {
    let problem = context.evaluator.problem();
    let features = context.features;
    let table = features.wide()?;
    let mut own = Vec::new();
    let mut shuffled = Vec::new();
    let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
    let orders: Vec<Vec<usize>> =
        (0..options.shuffles).map(|_| shuffle_within_roles(problem, &mut rng)).collect();
    let random: Vec<Choices> = (0..options.random)
        .map(|_| {
            let actions: Vec<f64> = problem.slots().iter().map(|_| rng.random()).collect();
            project(problem, &actions)
        })
        .collect();
    for (name, policy) in policies {
        own.push((name.clone(), vec![policy.allocate(problem, features)?]));
        let dealt = orders
            .iter()
            .map(|order| policy.allocate(problem, &Shuffled { inner: features, order: order.clone() }))
            .collect::<Result<Vec<_>>>()?;
        shuffled.push((format!("{name}, features shuffled"), dealt));
    }
    // Before anything is measured: a policy that does not fit is told at once.
    let sensitivity = context.sensitivity(progress)?;
    let n = policies.len();
    let mut candidates = own;
    candidates.extend([
        ("uniform".to_owned(), vec![uniform(problem)]),
        ("lookup table of the source".to_owned(), vec![lookup.allocate(problem)]),
        ("knapsack on errors".to_owned(), vec![knapsack(problem, &proxy(problem, &table))]),
        ("knapsack on measurements".to_owned(), vec![knapsack(problem, &sensitivity)]),
    ]);
    candidates.extend(shuffled);
    candidates.push(("random".to_owned(), random));

    let total = candidates.iter().map(|(_, allocations)| allocations.len()).sum();
    let mut done = 0;
    let mut measured: Vec<(&String, Vec<f64>, f64)> = Vec::new();
    for (name, allocations) in &candidates {
        let mut klds = Vec::with_capacity(allocations.len());
        for choices in allocations {
            klds.push(judge.score(choices)?.kld);
            done += 1;
            report(progress, Stage::Episodes, done, total, None)?;
        }
        let bytes: u64 = allocations.iter().map(|choices| problem.file_bytes(choices)).sum();
        measured.push((name, klds, bytes as f64 / allocations.len().max(1) as f64));
    }
    let (uniform, best) = (mean(&measured[n].1), mean(&measured[n + 3].1));
    let row = |(name, klds, bytes): &(&String, Vec<f64>, f64)| {
        let kld = mean(klds);
        let variance = klds.iter().map(|x| (x - kld).powi(2)).sum::<f64>();
        TransferRow {
            name: (*name).clone(),
            kld,
            kld_sd: (variance / klds.len().saturating_sub(1).max(1) as f64).sqrt(),
            count: klds.len(),
            bytes: *bytes,
            regret: (kld - best) / (uniform - best),
        }
    };
    let own: Vec<TransferRow> = measured[..n].iter().map(row).collect();
    let dealt = measured[n + 4..n + 4 + n].iter().filter(|(_, klds, _)| !klds.is_empty()).map(row);
    let dealt: Vec<TransferRow> = dealt.collect();
    let drawn = measured[measured.len() - 1].1.clone();
    let better =
        |kld: f64| drawn.iter().filter(|&&other| other < kld).count() as f64 / drawn.len().max(1) as f64;
    let first_choices = |costs: &Sensitivity| -> Vec<f64> {
        (0..problem.slots().len()).map(|slot| costs.get(slot, 0)).collect()
    };
    let rank = |policy: &Policy| -> Result<Option<f64>> {
        let predicted = policy.predicted(problem, &table)?;
        Ok(predicted.and_then(|predicted| {
            crate::regressor::rank_correlation(&first_choices(&predicted), &first_choices(&sensitivity))
        }))
    };
    Ok(Transfer {
        model: model.to_owned(),
        sources: policies.iter().map(|(_, policy)| policy.provenance().model.clone()).collect(),
        budget: problem.budget().to_string(),
        random_better: measured[..n].iter().map(|(_, klds, _)| better(mean(klds))).collect(),
        rank_correlations: policies.iter().map(|(_, policy)| rank(policy)).collect::<Result<_>>()?,
        groups: groups::groups(policies, &own, &dealt),
        rows: measured.iter().filter(|(_, klds, _)| !klds.is_empty()).map(row).collect(),
    })
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// Relative output errors as costs, every layer as important as every other.
fn proxy(problem: &Problem, table: &WideTable) -> Sensitivity {
    let actions = problem.actions().types().len();
    let first = table.names().len() - actions;
    let costs = problem.slots().iter().enumerate().map(|(slot, options)| {
        let of = |choice: usize| {
            let action = (0..actions).find(|&action| choice_of(problem, slot, action) == Some(choice));
            f64::from(table.raw(slot)[first + action.unwrap_or(actions - 1)]).exp()
        };
        (0..options.choices.len()).map(of).collect()
    });
    Sensitivity::from_costs(costs.collect())
}

/// A permutation of the slots that gives each the place of one of the same role.
fn shuffle_within_roles(problem: &Problem, rng: &mut ChaCha8Rng) -> Vec<usize> {
    let roles: Vec<String> = problem.slots().iter().map(|slot| role_name(slot.id)).collect();
    let mut order: Vec<usize> = (0..roles.len()).collect();
    let mut seen: Vec<&String> = Vec::new();
    for role in &roles {
        if seen.contains(&role) {
            continue;
        }
        seen.push(role);
        let members: Vec<usize> = (0..roles.len()).filter(|&slot| roles[slot] == *role).collect();
        let mut drawn = members.clone();
        drawn.shuffle(rng);
        for (&slot, &other) in members.iter().zip(&drawn) {
            order[slot] = other;
        }
    }
    order
}

/// Features that were dealt anew among the layers.
#[derive(Debug)]
struct Shuffled<'a> {
    inner: &'a dyn Features,
    order: Vec<usize>,
}

impl Features for Shuffled<'_> {
    fn table(&self, config: FeatureConfig) -> Result<FeatureTable> {
        Ok(self.inner.table(config)?.permuted(&self.order))
    }

    fn wide(&self) -> Result<WideTable> {
        Ok(self.inner.wide()?.permuted(&self.order))
    }
}
