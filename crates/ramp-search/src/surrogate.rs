//! An additive model of the divergence, fitted to whole allocations, and the knapsack that it gives, in turns.
//!
//! # Source
//! Linearity theorem of HIGGS, Malinovskii et al., arXiv 2411.17525: `KL(c) ≈ Σ_i α_i e_i(c_i)`, with the relative
//! squared error of a matrix times its share of all weights as `e_i`, which is known, and one unknown `α_i` a layer. The `α` have a Gaussian prior with a
//! part common to all layers, one by role, a slope over depth by role, and one of each layer's own: ridge regression
//! with structure. New allocations are those of the knapsack under `α`s drawn from the posterior (Thompson sampling,
//! drawn by Matheron's rule, Wilson et al., arXiv 2002.09309) and, every other time, under its mean.

use ramp_model::{LayerId, Role};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{
    allocator::{Allocator, Found, SearchContext},
    bank::WeightBank,
    error::Result,
    knapsack::knapsack,
    moves::{fill_at_random, lower_at_random},
    problem::{Choices, Problem, Slot},
    progress::ProgressFn,
    rounds::Rounds,
    sensitivity::{ProxyError, Sensitivity},
    uniform::uniform,
};

/// Ridge regression with a structured prior.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdditiveSurrogate {
    /// Random allocations around the uniform one before the first fit.
    pub initial: usize,
    /// Allocations in all; with a limit of tokens, as many as fit it.
    pub evaluations: usize,
    /// Standard deviation of what layers of one role have in common, and of its slope over depth, in units of the mean
    /// `α`.
    pub role_sd: f64,
    /// Standard deviation of a layer's own part.
    pub layer_sd: f64,
    /// Standard deviation of what is not additive, as a share of the mean divergence.
    pub noise: f64,
    /// Seed.
    pub seed: u64,
}

impl AdditiveSurrogate {
    /// 100 allocations, 24 of them random.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { initial: 24, evaluations: 100, role_sd: 1.0, layer_sd: 0.7, noise: 0.02, seed }
    }

    fn search(&self, context: &mut SearchContext<'_>, progress: &mut ProgressFn<'_>) -> Result<()> {
        let problem = context.evaluator.problem();
        let errors = Errors::new(problem, context.evaluator.bank())?;
        let prior = Prior::new(problem, self);
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        let mut seen: Vec<(Choices, f64)> = Vec::new();
        let mut rounds = Rounds::new(self.evaluations);
        while rounds.go_on(context) {
            let round = seen.len();
            let choices = if round == 0 {
                uniform(problem)
            } else if round < self.initial {
                scattered(problem, &mut rng)
            } else {
                let sampled = (round - self.initial).is_multiple_of(2);
                let alpha = prior.posterior(&errors, &seen, sampled.then_some(&mut rng));
                let proposed = knapsack(problem, &errors.costs(&alpha));
                let known = seen.iter().any(|(choices, _)| *choices == proposed);
                // The mean's own knapsack comes once; then a neighbour of it tells more.
                if known { neighbour(problem, proposed, &mut rng) } else { proposed }
            };
            let kld = context.evaluator.score(&choices)?.kld;
            seen.push((choices, kld));
            rounds.report(context, progress)?;
        }
        Ok(())
    }
}

/// `e_i(c)`: what the proxy says of every choice, so that the prior's mean is the proxy itself.
struct Errors(Vec<Vec<f64>>);

impl Errors {
    fn new(problem: &Problem, bank: &WeightBank) -> Result<Self> {
        let proxy = Sensitivity::proxy(problem, bank, ProxyError::Weights)?;
        let row = |(slot, options): (usize, &Slot)| {
            (0..options.choices.len()).map(|choice| proxy.get(slot, choice)).collect()
        };
        Ok(Self(problem.slots().iter().enumerate().map(row).collect()))
    }

    fn of(&self, choices: &[usize]) -> Vec<f64> {
        self.0.iter().zip(choices).map(|(row, &choice)| row[choice]).collect()
    }

    fn costs(&self, alpha: &[f64]) -> Sensitivity {
        let rows = self.0.iter().zip(alpha);
        Sensitivity::from_costs(rows.map(|(row, alpha)| row.iter().map(|e| alpha * e).collect()).collect())
    }
}

/// The prior of `α`, in units of its mean.
struct Prior<'p> {
    config: &'p AdditiveSurrogate,
    /// Role, with numbers for embedding and head, and depth from -1 to 1.
    places: Vec<(usize, f64)>,
}

impl<'p> Prior<'p> {
    fn new(problem: &Problem, config: &'p AdditiveSurrogate) -> Self {
        let last = problem.slots().iter().filter_map(|slot| slot.id.block()).max().unwrap_or(0).max(1) as f64;
        let place = |id: LayerId| match id {
            LayerId::TokenEmbd => (Role::ALL.len(), 0.0),
            LayerId::Output => (Role::ALL.len() + 1, 0.0),
            LayerId::Block { block, role } => (role as usize, 2.0 * block as f64 / last - 1.0),
        };
        Self { config, places: problem.slots().iter().map(|slot| place(slot.id)).collect() }
    }

    /// `Cov(α) x`.
    fn covariance_times(&self, x: &[f64]) -> Vec<f64> {
        let n_roles = Role::ALL.len() + 2;
        let (mut sums, mut slopes) = (vec![0.0; n_roles], vec![0.0; n_roles]);
        for (&(role, depth), x) in self.places.iter().zip(x) {
            sums[role] += x;
            slopes[role] += depth * x;
        }
        let (role_var, layer_var) = (self.config.role_sd.powi(2), self.config.layer_sd.powi(2));
        let places = self.places.iter().zip(x);
        places
            .map(|(&(role, depth), x)| role_var * (sums[role] + depth * slopes[role]) + layer_var * x)
            .collect()
    }

    /// One draw of `α - mean`.
    fn draw(&self, rng: &mut impl Rng) -> Vec<f64> {
        let n_roles = Role::ALL.len() + 2;
        let common: Vec<(f64, f64)> = (0..n_roles).map(|_| (normal(rng), normal(rng))).collect();
        let place = |&(role, depth): &(usize, f64)| {
            let (level, slope) = common[role];
            self.config.role_sd * (level + depth * slope) + self.config.layer_sd * normal(rng)
        };
        self.places.iter().map(place).collect()
    }

    /// `α` given the divergences of some allocations: the posterior's mean, or a draw from it.
    fn posterior<R: Rng>(
        &self,
        errors: &Errors,
        seen: &[(Choices, f64)],
        sample: Option<&mut R>,
    ) -> Vec<f64> {
        let x: Vec<Vec<f64>> = seen.iter().map(|(choices, _)| errors.of(choices)).collect();
        let sums = x.iter().map(|x| x.iter().sum::<f64>());
        let y: Vec<f64> = seen.iter().map(|(_, y)| *y).collect();
        // The mean of α is the one that explains the sum of all divergences; everything is in its units.
        let mean = y.iter().sum::<f64>() / sums.sum::<f64>().max(f64::MIN_POSITIVE);
        let level = y.iter().sum::<f64>() / y.len().max(1) as f64 / mean.max(f64::MIN_POSITIVE);
        let noise = self.config.noise * level;

        let mut start = vec![1.0; self.places.len()];
        let mut residual_noise = vec![0.0; y.len()];
        if let Some(rng) = sample {
            start.iter_mut().zip(self.draw(rng)).for_each(|(start, drawn)| *start += drawn);
            residual_noise.iter_mut().for_each(|e| *e = noise * normal(rng));
        }
        let covariant: Vec<Vec<f64>> = x.iter().map(|x| self.covariance_times(x)).collect();
        let k: Vec<Vec<f64>> = (0..y.len())
            .map(|i| {
                let diagonal = |j: usize| if i == j { noise * noise } else { 0.0 };
                (0..y.len()).map(|j| dot(&x[i], &covariant[j]) + diagonal(j)).collect()
            })
            .collect();
        let residual: Vec<f64> = (0..y.len())
            .map(|i| y[i] / mean.max(f64::MIN_POSITIVE) - dot(&x[i], &start) - residual_noise[i])
            .collect();
        let weights = solve(k, residual);
        for (row, weight) in covariant.iter().zip(weights) {
            start.iter_mut().zip(row).for_each(|(alpha, c)| *alpha += weight * c);
        }
        // No error makes a model better; a small α still prefers the larger format.
        start.iter().map(|alpha| mean * alpha.max(0.02)).collect()
    }
}

/// An allocation some steps away from the uniform one.
fn scattered(problem: &Problem, rng: &mut impl Rng) -> Choices {
    let mut choices = uniform(problem);
    for (slot, choice) in choices.iter_mut().enumerate() {
        let top = problem.slots()[slot].choices.len() - 1;
        match rng.random_range(0..4) {
            0 => *choice = choice.saturating_sub(1),
            1 => *choice = (*choice + 1).min(top),
            _ => {}
        }
    }
    lower_at_random(problem, &mut choices, &[], rng);
    fill_at_random(problem, &mut choices, rng);
    choices
}

/// An allocation with two slots changed.
fn neighbour(problem: &Problem, mut choices: Choices, rng: &mut impl Rng) -> Choices {
    let raised = rng.random_range(0..choices.len());
    choices[raised] = (choices[raised] + 1).min(problem.slots()[raised].choices.len() - 1);
    lower_at_random(problem, &mut choices, &[raised], rng);
    fill_at_random(problem, &mut choices, rng);
    choices
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// A standard normal number, by Box and Muller.
fn normal(rng: &mut impl Rng) -> f64 {
    let (u, v): (f64, f64) = (1.0 - rng.random::<f64>(), rng.random());
    (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

/// Solves `K w = r` for a symmetric positive definite `K` by Cholesky's factorisation. A pivot that rounding made zero
/// counts as infinite: its row says nothing new.
fn solve(mut k: Vec<Vec<f64>>, mut r: Vec<f64>) -> Vec<f64> {
    let n = r.len();
    for i in 0..n {
        for j in 0..=i {
            let sum = k[i][j] - dot(&k[i][..j], &k[j][..j]);
            k[i][j] = if i == j { if sum > 0.0 { sum.sqrt() } else { f64::INFINITY } } else { sum / k[j][j] };
        }
    }
    for i in 0..n {
        r[i] = (r[i] - dot(&k[i][..i], &r[..i])) / k[i][i];
    }
    for i in (0..n).rev() {
        let below: f64 = (i + 1..n).map(|j| k[j][i] * r[j]).sum();
        r[i] = (r[i] - below) / k[i][i];
    }
    r
}

impl Allocator for AdditiveSurrogate {
    fn name(&self) -> &'static str {
        "surrogate"
    }

    fn allocate(&mut self, context: &mut SearchContext<'_>, progress: &mut ProgressFn<'_>) -> Result<Found> {
        let ended = self.search(context, progress);
        context.settle(self.name(), ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cholesky_solves() {
        let k = vec![vec![4.0, 2.0, 0.6], vec![2.0, 5.0, 1.0], vec![0.6, 1.0, 3.0]];
        let w = solve(k.clone(), vec![1.0, -2.0, 0.5]);
        for (row, r) in k.iter().zip([1.0, -2.0, 0.5]) {
            assert!((dot(row, &w) - r).abs() < 1e-12);
        }
    }
}
