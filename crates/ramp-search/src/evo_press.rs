//! An evolutionary search with one parent, level-switch mutation and selection in stages.
//!
//! # Source
//! Sieberling, Kuznedelev, Kurtic and Alistarh, "EvoPress", arXiv 2410.14649, Algorithm 1 and Section 3.2: λ offspring
//! of the parent, each with `min(U, U')` levels raised for levels lowered elsewhere, `U, U' ~ {1, 2, 3}`; survivors are
//! chosen in stages on more and more tokens, and the parent takes part in the last one. Fitness is the KL divergence.
//! There, a switch is between layers of equal size; here sizes differ, and as many levels are lowered as it takes.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{
    allocator::{Allocator, Found, SearchContext},
    error::Result,
    moves::{fill_at_random, lower_at_random, step_up},
    problem::{Choices, Problem},
    progress::ProgressFn,
    rounds::Rounds,
    uniform::uniform,
};

/// Most levels that a mutation raises.
const MAX_SWITCHES: usize = 3;
/// Draws for one offspring before a parent that has no other neighbour is believed.
const MAX_DRAWS: usize = 100;

/// One selection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SelectionStage {
    /// Share of the windows that is scored.
    pub windows: f64,
    /// Offspring that survive.
    pub survivors: usize,
}

/// EvoPress. Starts at the uniform allocation.
#[derive(Clone, Debug, PartialEq)]
pub struct EvoPress {
    /// Offspring of a generation, λ.
    pub offspring: usize,
    /// Selections, the last one on all windows with one survivor.
    pub stages: Vec<SelectionStage>,
    /// Generations; with a limit of tokens, as many as fit it.
    pub generations: usize,
    /// Seed.
    pub seed: u64,
}

impl EvoPress {
    /// 40 generations of 16, of which 4 are scored on half of the windows and 2 on all; the original has 128, 16 and 4,
    /// on 1/64, 1/8 and all of its tokens.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let stages = [(0.125, 4), (0.5, 2), (1.0, 1)];
        let stages = stages.map(|(windows, survivors)| SelectionStage { windows, survivors });
        Self { offspring: 16, stages: stages.into(), generations: 40, seed }
    }

    /// What all generations cost at most, in evaluations on all windows.
    #[must_use]
    pub fn full_evaluations(&self) -> usize {
        let (mut enter, mut scored, mut cost) = (self.offspring, 0.0, 0.0);
        for stage in &self.stages {
            cost += enter as f64 * (stage.windows - scored).max(0.0);
            scored = stage.windows;
            enter = enter.min(stage.survivors);
        }
        1 + (self.generations as f64 * cost).ceil() as usize
    }

    fn search(&self, context: &mut SearchContext<'_>, progress: &mut ProgressFn<'_>) -> Result<()> {
        let problem = context.evaluator.problem();
        let all = context.evaluator.n_windows();
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        let mut parent = uniform(problem);
        let mut fitness = context.evaluator.score(&parent)?.kld;
        context.evaluator.pin(Some(&parent))?;
        let mut rounds = Rounds::new(self.generations);
        while rounds.go_on(context) {
            let mut offspring: Vec<Choices> = Vec::with_capacity(self.offspring);
            for _ in 0..self.offspring {
                let fresh = |child: &Choices| *child != parent && !offspring.contains(child);
                if let Some(child) =
                    (0..MAX_DRAWS).map(|_| switch_levels(problem, &parent, &mut rng)).find(fresh)
                {
                    offspring.push(child);
                }
            }
            let mut best = f64::INFINITY;
            for stage in &self.stages {
                let windows = (stage.windows * all as f64).ceil() as usize;
                let mut scored = Vec::with_capacity(offspring.len());
                for child in offspring {
                    scored.push((context.evaluator.score_on(&child, windows)?.kld, child));
                }
                scored.sort_by(|(a, _), (b, _)| a.total_cmp(b));
                scored.truncate(stage.survivors);
                best = scored.first().map_or(f64::INFINITY, |(kld, _)| *kld);
                offspring = scored.into_iter().map(|(_, child)| child).collect();
            }
            if let Some(child) = offspring.into_iter().next().filter(|_| best < fitness) {
                (parent, fitness) = (child, best);
                context.evaluator.pin(Some(&parent))?;
            }
            rounds.report(context, progress)?;
        }
        Ok(())
    }
}

/// Raises a few random levels, lowers others until it fits again, and raises what is left.
fn switch_levels(problem: &Problem, parent: &[usize], rng: &mut impl Rng) -> Choices {
    let mut child = parent.to_vec();
    let switches = rng.random_range(1..=MAX_SWITCHES).min(rng.random_range(1..=MAX_SWITCHES));
    let mut raised = Vec::with_capacity(switches);
    for _ in 0..switches {
        let open: Vec<usize> = (0..child.len())
            .filter(|&slot| step_up(problem, slot, child[slot]).is_some() && !raised.contains(&slot))
            .collect();
        if open.is_empty() {
            break;
        }
        let slot = open[rng.random_range(0..open.len())];
        child[slot] += 1;
        raised.push(slot);
    }
    lower_at_random(problem, &mut child, &raised, rng);
    fill_at_random(problem, &mut child, rng);
    child
}

impl Allocator for EvoPress {
    fn name(&self) -> &'static str {
        "evopress"
    }

    fn allocate(&mut self, context: &mut SearchContext<'_>, progress: &mut ProgressFn<'_>) -> Result<Found> {
        let ended = self.search(context, progress);
        // What comes after it in this context has another incumbent.
        context.evaluator.pin(None)?;
        context.settle(self.name(), ended)
    }
}
