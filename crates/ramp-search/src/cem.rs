//! The cross-entropy method over independent categorical distributions, one for each layer.
//!
//! # Source
//! Rubinstein and Kroese, "The Cross-Entropy Method", 2004, Algorithm 2.2 with the smoothed update of Remark 2.4:
//! `N` samples, elite share `ρ`, smoothing `α`.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::{
    allocator::{Allocator, Found, SearchContext},
    error::Result,
    moves::draw_masked,
    problem::Choices,
    progress::ProgressFn,
    rounds::Rounds,
};

/// The cross-entropy method. Samples hold the budget by masking.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cem {
    /// Samples of a generation, `N`.
    pub samples: usize,
    /// Share of a generation that the distributions are fitted to, `ρ`.
    pub elite: f64,
    /// Weight of the fitted distributions against the old ones, `α`.
    pub smoothing: f64,
    /// Generations; with a limit of tokens, as many as fit it.
    pub generations: usize,
    /// Seed.
    pub seed: u64,
}

impl Cem {
    /// 10 generations of 40, of which 8 are the elite.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { samples: 40, elite: 0.2, smoothing: 0.7, generations: 10, seed }
    }

    fn search(&self, context: &mut SearchContext<'_>, progress: &mut ProgressFn<'_>) -> Result<()> {
        let problem = context.evaluator.problem();
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        let mut v: Vec<Vec<f64>> = problem
            .slots()
            .iter()
            .map(|slot| vec![1.0 / slot.choices.len() as f64; slot.choices.len()])
            .collect();
        let elite = ((self.elite * self.samples as f64) as usize).max(1);
        let mut rounds = Rounds::new(self.generations);
        while rounds.go_on(context) {
            let mut samples: Vec<(f64, Choices)> = Vec::with_capacity(self.samples);
            for _ in 0..self.samples {
                let x = draw_masked(problem, &v, &mut rng);
                samples.push((context.evaluator.score(&x)?.kld, x));
            }
            samples.sort_by(|(s, _), (t, _)| s.total_cmp(t));
            let elites = &samples[..elite.min(samples.len())];
            for (slot, v) in v.iter_mut().enumerate() {
                for (choice, v) in v.iter_mut().enumerate() {
                    let share = elites.iter().filter(|(_, x)| x[slot] == choice).count() as f64
                        / elites.len().max(1) as f64;
                    *v = self.smoothing * share + (1.0 - self.smoothing) * *v;
                }
            }
            rounds.report(context, progress)?;
        }
        Ok(())
    }
}

impl Allocator for Cem {
    fn name(&self) -> &'static str {
        "cem"
    }

    fn allocate(&mut self, context: &mut SearchContext<'_>, progress: &mut ProgressFn<'_>) -> Result<Found> {
        let ended = self.search(context, progress);
        context.settle(self.name(), ended)
    }
}
