//! What a policy must beat to be worth its features: the source's own allocation, averaged by role and depth.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    history::role_name,
    problem::{Choices, Problem, Slot},
    projection::project,
};

/// Depth classes of a model.
const DECILES: usize = 10;

/// Mean bits per weight of an allocation by role and depth decile.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LookupTable {
    cells: BTreeMap<String, BTreeMap<usize, f64>>,
    /// Over all layers.
    mean: f64,
}

impl LookupTable {
    /// Averages an allocation.
    #[must_use]
    pub fn new(problem: &Problem, choices: &[usize]) -> Self {
        let mut sums: BTreeMap<String, BTreeMap<usize, (f64, usize)>> = BTreeMap::new();
        let mut all = 0.0;
        for (slot, &choice) in problem.slots().iter().zip(choices) {
            let bits = slot.choices[choice].format.bits_per_weight();
            let cell = sums.entry(role_name(slot.id)).or_default().entry(decile(problem, slot)).or_default();
            *cell = (cell.0 + bits, cell.1 + 1);
            all += bits;
        }
        let cells = sums.into_iter().map(|(role, depths)| {
            (role, depths.into_iter().map(|(depth, (sum, n))| (depth, sum / n as f64)).collect())
        });
        Self { cells: cells.collect(), mean: all / choices.len().max(1) as f64 }
    }

    /// Bits per weight for a layer: those of its role at the nearest depth, or the mean for a role that the source lacks.
    #[must_use]
    pub fn bits(&self, problem: &Problem, slot: &Slot) -> f64 {
        let at = decile(problem, slot);
        let depths = self.cells.get(&role_name(slot.id));
        let nearest = depths.and_then(|depths| depths.iter().min_by_key(|(depth, _)| depth.abs_diff(at)));
        nearest.map_or(self.mean, |(_, bits)| *bits)
    }

    /// The table on another model, moved into its budget by one offset.
    #[must_use]
    pub fn allocate(&self, problem: &Problem) -> Choices {
        let actions: Vec<f64> = problem
            .slots()
            .iter()
            .map(|slot| {
                let wanted = self.bits(problem, slot);
                let bits: Vec<f64> = slot.choices.iter().map(|c| c.format.bits_per_weight()).collect();
                // The place among the choices: the middle of a bin is the format itself.
                let above = bits.iter().position(|&b| b >= wanted).unwrap_or(bits.len() - 1);
                let below = above.saturating_sub(1);
                let span = bits[above] - bits[below];
                let share = if span > 0.0 { ((wanted - bits[below]) / span).clamp(0.0, 1.0) } else { 0.0 };
                (below as f64 + share + 0.5) / bits.len() as f64
            })
            .collect();
        project(problem, &actions)
    }
}

/// Depth of a layer's block in tenths of the model; embedding first, head last.
fn decile(problem: &Problem, slot: &Slot) -> usize {
    let last = problem.slots().iter().filter_map(|slot| slot.id.block()).max().unwrap_or(0);
    match slot.id.block() {
        Some(block) => (block * DECILES / (last + 1)).min(DECILES - 1),
        None => 0,
    }
}
