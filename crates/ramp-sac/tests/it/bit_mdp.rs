//! A synthetic allocation problem the size of Llama-2-7B, whose optimum is known: 224 layers, four formats each.
//!
//! The excess of ln PPL is a sum over layers, with a random coupling of pairs on top, so that measurements of single
//! layers do not say everything. Totals of the formats are those of AWQ at 3 to 6 bits.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;

/// Blocks, and layers of a block.
const BLOCKS: usize = 32;
const ROLES: usize = 7;
pub(crate) const LAYERS: usize = BLOCKS * ROLES;

/// The formats are of 3, 4, 5 and 6 bits; choice c has c + 3.
pub(crate) const FORMATS: usize = 4;
pub(crate) const MIN_BITS: usize = 3;

/// Excess of ln PPL in nats with all layers in one format.
const TOTALS: [f64; FORMATS] = [0.132, 0.0235, 0.0055, 0.0014];
/// Relative sensitivity of q, k, v, o, gate, up, down.
const BY_ROLE: [f64; ROLES] = [0.6, 0.5, 1.4, 1.1, 0.7, 0.8, 1.6];
/// Perplexity of the unquantized model.
const BASE: f64 = 5.47;
/// Mean bits that a budget allows.
const TARGET_BITS: f64 = 4.0;
/// Strength of the coupling between two layers, relative to the geometric mean of their own excess.
const COUPLING: f64 = 0.3;

pub(crate) type Choices = Vec<usize>;

pub(crate) struct Landscape {
    /// Excess of a layer alone in a format.
    own: Vec<[f64; FORMATS]>,
    /// Pairs of layers with the sign and strength of their coupling.
    pairs: Vec<(usize, usize, f64)>,
    /// What a policy may see of a layer's sensitivity: its logarithm with noise, correlated to about 0.7.
    hints: Vec<f64>,
}

impl Landscape {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut normal = || -> f64 { rng.sample(StandardNormal) };
        let mut shares: Vec<f64> = (0..LAYERS)
            .map(|layer| {
                let depth = (layer / ROLES) as f64 / (BLOCKS - 1) as f64;
                // Ends of a model are more sensitive than its middle.
                BY_ROLE[layer % ROLES] * (1.0 + 2.0 * (2.0 * depth - 1.0).powi(4)) * (0.6 * normal()).exp()
            })
            .collect();
        let total: f64 = shares.iter().sum();
        shares.iter_mut().for_each(|share| *share /= total);
        let own = shares
            .iter()
            .map(|share| TOTALS.map(|total| total * share * (1.0 + 0.1 * normal()).max(0.5)))
            .collect();
        let hints = shares.iter().map(|share| (share * LAYERS as f64).ln() + 0.7 * normal()).collect();
        let pairs = (0..LAYERS)
            .map(|layer| (layer, rng.random_range(0..LAYERS), rng.random_range(-1.0..1.0)))
            .filter(|(a, b, _)| a != b)
            .collect();
        Self { own, pairs, hints }
    }

    /// Excess of ln PPL of an allocation in nats. One call is one evaluation.
    pub(crate) fn excess(&self, choices: &[usize]) -> f64 {
        let own = |layer: usize| self.own[layer][choices[layer]];
        let alone: f64 = (0..LAYERS).map(own).sum();
        let together: f64 =
            self.pairs.iter().map(|&(a, b, sign)| sign * COUPLING * (own(a) * own(b)).sqrt()).sum();
        alone + together
    }

    /// What each format of each layer adds to the uniform allocation, and the evaluations that took.
    pub(crate) fn measure(&self) -> (Vec<[f64; FORMATS]>, usize) {
        let mut choices = uniform();
        let base = self.excess(&choices);
        let measured = (0..LAYERS)
            .map(|layer| {
                let costs = std::array::from_fn(|choice| {
                    choices[layer] = choice;
                    self.excess(&choices) - base
                });
                choices[layer] = 1;
                costs
            })
            .collect();
        (measured, 1 + LAYERS * (FORMATS - 1))
    }

    /// The best allocation: the knapsack of the layers' own excess, then moves and exchanges of bits, judged by the
    /// whole excess, until none helps.
    pub(crate) fn optimum(&self) -> f64 {
        let mut choices = knapsack(&self.own);
        let mut best = self.excess(&choices);
        loop {
            let before = best;
            for up in 0..LAYERS {
                for down in (0..LAYERS).filter(|&down| down != up) {
                    if choices[up] + 1 == FORMATS || choices[down] == 0 {
                        continue;
                    }
                    choices[up] += 1;
                    choices[down] -= 1;
                    let excess = self.excess(&choices);
                    if excess < best - 1e-12 {
                        best = excess;
                    } else {
                        choices[up] -= 1;
                        choices[down] += 1;
                    }
                }
            }
            if best > before - 1e-9 {
                return best;
            }
        }
    }

    /// What the policy sees in front of a layer: depth, role, a logarithm of its measured costs, bits of the layer
    /// before, mean bits so far, and the bits left for each remaining layer.
    pub(crate) fn state(measured: &[[f64; FORMATS]], before: &[usize]) -> Vec<f32> {
        let layer = before.len();
        let bits = |choice: usize| choice as f64 / (FORMATS - 1) as f64;
        let spent: usize = before.iter().map(|choice| choice + MIN_BITS).sum();
        let (prev, mean) = match before.last() {
            None => (1.0 / 3.0, 1.0 / 3.0),
            Some(&last) => (bits(last), (spent as f64 / layer as f64 - MIN_BITS as f64) / 3.0),
        };
        let left = (budget() as f64 - spent as f64) / (LAYERS - layer).max(1) as f64 - TARGET_BITS;
        let typical = (TOTALS[0] - TOTALS[1]) / LAYERS as f64;
        let hint = (measured[layer][0] / typical).max(1e-3).ln();
        let mut state = vec![(layer / ROLES) as f64 / (BLOCKS - 1) as f64, hint, prev, mean, left];
        state.extend((0..ROLES).map(|role| f64::from(u8::from(role == layer % ROLES))));
        state.into_iter().map(|x| x as f32).collect()
    }

    /// The same as the paper has it (Table 24): one number for the role, bits divided by 8, 0 in front of the first
    /// layer, and nothing about the budget.
    pub(crate) fn paper_state(&self, before: &[usize]) -> Vec<f32> {
        const BY_TYPE: [f64; ROLES] = [0.0, 0.0, 0.0, 0.25, 0.5, 0.6, 0.75];
        let layer = before.len();
        let depth = (layer / ROLES) as f64 / (BLOCKS - 1) as f64;
        let bits = |choice: usize| (choice + MIN_BITS) as f64 / 8.0;
        let prev = before.last().map_or(0.0, |&choice| bits(choice));
        let mean = before.iter().map(|&choice| bits(choice)).sum::<f64>() / layer.max(1) as f64;
        let state = [depth, self.hints[layer], BY_TYPE[layer % ROLES], prev, mean];
        state.map(|x| x as f32).to_vec()
    }

    /// The paper's reward (Eqs. 19 to 21, as printed) of an allocation.
    pub(crate) fn paper_reward(&self, choices: &[usize]) -> f64 {
        let ratio = (BASE.ln() + self.excess(choices)).exp() / BASE;
        let quality = if ratio <= 1.0 { 10.0 * (1.0 - ratio) } else { -5.0 * (ratio - 1.0) };
        let over = mean_bits(choices) - TARGET_BITS;
        let budget = match over {
            over if over <= 0.0 => 0.0,
            over if over <= 0.25 => -2.0 * over,
            over => -20.0 * (over - 0.25).powi(2),
        };
        quality + budget
    }
}

/// Elements of a state, and of the paper's.
pub(crate) const STATE: usize = 5 + ROLES;
pub(crate) const PAPER_STATE: usize = 5;

/// Bits that all layers may have together.
pub(crate) const fn budget() -> usize {
    4 * LAYERS
}

pub(crate) fn uniform() -> Choices {
    vec![1; LAYERS]
}

pub(crate) fn mean_bits(choices: &[usize]) -> f64 {
    choices.iter().map(|choice| choice + MIN_BITS).sum::<usize>() as f64 / choices.len() as f64
}

/// The exact minimum of a sum over layers within the budget, by dynamic programming over the bits spent.
pub(crate) fn knapsack(costs: &[[f64; FORMATS]]) -> Choices {
    let room = budget() - MIN_BITS * LAYERS;
    let mut best = vec![0.0; room + 1];
    let mut picks = Vec::with_capacity(costs.len());
    for cost in costs {
        let choose = |spent: usize| {
            (0..FORMATS.min(spent + 1))
                .map(|choice| (best[spent - choice] + cost[choice], choice))
                .min_by(|a, b| a.0.total_cmp(&b.0))
                .unwrap_or((f64::INFINITY, 0))
        };
        let (values, picked): (Vec<f64>, Vec<usize>) = (0..=room).map(choose).unzip();
        best = values;
        picks.push(picked);
    }
    let mut spent = room;
    let mut choices: Choices = picks
        .iter()
        .rev()
        .map(|picked| {
            let choice = picked[spent];
            spent -= choice;
            choice
        })
        .collect();
    choices.reverse();
    choices
}

/// Nats per bit at which the sum of costs and prices has the knapsack's bits.
pub(crate) fn shadow_price(costs: &[[f64; FORMATS]]) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..60 {
        let price = 0.5 * (low + high);
        let bits: usize = costs.iter().map(|cost| cheapest(cost, price) + MIN_BITS).sum();
        if bits > budget() { low = price } else { high = price }
    }
    high
}

/// The choice of least cost and price.
pub(crate) fn cheapest(cost: &[f64; FORMATS], price: f64) -> usize {
    let loss = |choice: &usize| cost[*choice] + price * *choice as f64;
    (0..FORMATS).min_by(|a, b| loss(a).total_cmp(&loss(b))).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uniform_four_bits_cost_what_awq_costs() {
        for seed in 0..3 {
            let excess = Landscape::new(seed).excess(&uniform());
            assert!((excess - 0.0235).abs() < 0.003, "{excess}");
        }
    }

    /// The exact knapsack against every allocation of a problem that has few.
    #[test]
    fn the_knapsack_is_exact_and_fits() {
        let landscape = Landscape::new(1);
        let choices = knapsack(&landscape.own);
        let cost = |choices: &[usize]| -> f64 {
            choices.iter().zip(&landscape.own).map(|(&choice, cost)| cost[choice]).sum()
        };
        let bits: usize = choices.iter().map(|choice| choice + MIN_BITS).sum();
        assert!(bits <= budget());
        // No exchange of a bit between two layers is better.
        for up in 0..LAYERS {
            for down in (0..LAYERS).filter(|&down| down != up) {
                let mut other = choices.clone();
                if other[up] + 1 < FORMATS && other[down] > 0 {
                    other[up] += 1;
                    other[down] -= 1;
                    assert!(cost(&other) >= cost(&choices) - 1e-12);
                }
            }
        }
        let price = shadow_price(&landscape.own);
        let bound: f64 = landscape
            .own
            .iter()
            .map(|cost| cost[cheapest(cost, price)] + price * (cheapest(cost, price) as f64 - 1.0))
            .sum();
        assert!(cost(&choices) >= bound - 1e-12 && cost(&choices) - bound < 1e-4, "dual bound {bound}");
    }

    #[test]
    fn the_paper_pays_most_just_above_its_ceiling() {
        let landscape = Landscape::new(1);
        // One layer of 224 more is 0.0045 bits.
        let with_mean =
            |steps: usize| -> Choices { (0..LAYERS).map(|layer| 1 + usize::from(layer < steps)).collect() };
        let reward = |steps| landscape.paper_reward(&with_mean(steps));
        assert!(reward(57) > reward(56) + 0.4, "{} {}", reward(57), reward(56));
        assert!(mean_bits(&with_mean(56)) == 4.25);
    }
}
