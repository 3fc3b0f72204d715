//! Quantities that follow from a log's episodes.

use serde::Serialize;

use super::TrainingLog;

/// How often a layer went from one format to another between consecutive episodes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Transitions {
    /// The formats, cheapest first: rows (from) and columns (to).
    pub formats: Vec<String>,
    /// `[from, to]`.
    pub counts: Vec<Vec<u64>>,
    /// `[from, to]`: share of a row; 0 in the row of a format that nothing ever left.
    pub probabilities: Vec<Vec<f64>>,
}

/// Mean nominal bits of the layers of one role.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RoleBits {
    /// The role, as in [`LoggedSlot::role`](super::LoggedSlot::role).
    pub role: String,
    /// Unweighted mean of nominal bits over its layers.
    pub mean_bits: f64,
    /// Number of its layers.
    pub layers: usize,
}

impl TrainingLog {
    /// Nominal bits of each slot in an allocation.
    ///
    /// # Panics
    /// When the choices are not those of this log's slots.
    #[must_use]
    pub fn bits(&self, choices: &[usize]) -> Vec<f64> {
        self.slots.iter().zip(choices).map(|(slot, &choice)| slot.choices[choice].bits).collect()
    }

    /// The allocation found, or that of the last episode while the run goes on.
    #[must_use]
    pub fn last_choices(&self) -> &[usize] {
        if self.found.is_empty() {
            self.episodes.last().map_or(&[], |record| record.choices.as_slice())
        } else {
            &self.found
        }
    }

    /// How often each slot's choice differed from that of the episode before.
    #[must_use]
    pub fn flips(&self) -> Vec<usize> {
        let mut flips = vec![0; self.slots.len()];
        for pair in self.episodes.windows(2) {
            for (flips, (before, after)) in flips.iter_mut().zip(pair[0].choices.iter().zip(&pair[1].choices))
            {
                *flips += usize::from(before != after);
            }
        }
        flips
    }

    /// How formats followed each other between consecutive episodes, over all slots.
    #[must_use]
    pub fn transitions(&self) -> Transitions {
        let n = self.formats.len();
        let place = |slot: usize, choice: usize| {
            let format = &self.slots[slot].choices[choice].format;
            self.formats.iter().position(|name| name == format)
        };
        let mut counts = vec![vec![0u64; n]; n];
        for pair in self.episodes.windows(2) {
            for (slot, (&before, &after)) in pair[0].choices.iter().zip(&pair[1].choices).enumerate() {
                if let (Some(from), Some(to)) = (place(slot, before), place(slot, after)) {
                    counts[from][to] += 1;
                }
            }
        }
        let probabilities = counts
            .iter()
            .map(|row| {
                let total: u64 = row.iter().sum();
                row.iter().map(|&count| count as f64 / total.max(1) as f64).collect()
            })
            .collect();
        Transitions { formats: self.formats.clone(), counts, probabilities }
    }

    /// Mean nominal bits of each role, in the order in which roles first appear.
    #[must_use]
    pub fn mean_bits_by_role(&self, choices: &[usize]) -> Vec<RoleBits> {
        let mut roles: Vec<RoleBits> = Vec::new();
        for (slot, bits) in self.slots.iter().zip(self.bits(choices)) {
            let known = roles.iter().position(|role| role.role == slot.role);
            let at = known.unwrap_or_else(|| {
                roles.push(RoleBits { role: slot.role.clone(), mean_bits: 0.0, layers: 0 });
                roles.len() - 1
            });
            roles[at].mean_bits += bits;
            roles[at].layers += 1;
        }
        for role in &mut roles {
            role.mean_bits /= role.layers as f64;
        }
        roles
    }

    /// Mean nominal bits of each block's matrices, from the first block to the last.
    #[must_use]
    pub fn mean_bits_by_block(&self, choices: &[usize]) -> Vec<f64> {
        let blocks = self.slots.iter().filter_map(|slot| slot.block).max().map_or(0, |last| last + 1);
        let mut sums = vec![(0.0, 0usize); blocks];
        for (slot, bits) in self.slots.iter().zip(self.bits(choices)) {
            if let Some(block) = slot.block {
                sums[block].0 += bits;
                sums[block].1 += 1;
            }
        }
        sums.into_iter().map(|(sum, layers)| sum / layers.max(1) as f64).collect()
    }

    /// Indices of the first and of the last `n` slots inside blocks, without overlap if there are fewer than `2 n`.
    #[must_use]
    pub fn first_and_last(&self, n: usize) -> (Vec<usize>, Vec<usize>) {
        let inside: Vec<usize> =
            (0..self.slots.len()).filter(|&slot| self.slots[slot].block.is_some()).collect();
        let first = n.min(inside.len());
        let last = inside.len().saturating_sub(n).max(first);
        (inside[..first].to_vec(), inside[last..].to_vec())
    }
}

/// Centred moving average over `window` values; fewer at the ends. A window of 0 or 1 changes nothing.
#[must_use]
pub fn smoothed(values: &[f64], window: usize) -> Vec<f64> {
    let reach = window / 2;
    (0..values.len())
        .map(|at| {
            let near = &values[at.saturating_sub(reach)..(at + reach + 1).min(values.len())];
            if window <= 1 { values[at] } else { near.iter().sum::<f64>() / near.len() as f64 }
        })
        .collect()
}
