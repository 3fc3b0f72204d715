//! One walk over the layers of a categorical agent: wide states, and only choices that leave room for the rest.

#[cfg(test)]
mod tests;

use ramp_embed::{WideContext, WideScaler, WideTable};

use crate::{
    error::Result,
    problem::{Choices, Problem},
};

/// Features that agents do not look at: within one model sizes only tell roles apart, which the roles do better, and in
/// another model of other proportions the same sizes mean other roles.
pub(crate) const SIZES: [&str; 3] = ["ln_in", "ln_out", "ln_size_share"];

/// What a categorical agent sees while it walks.
#[derive(Clone, Copy, Debug)]
pub struct WideWalk<'a> {
    /// The problem.
    pub problem: &'a Problem,
    /// Features of the problem's slots, in their order.
    pub features: &'a WideTable,
    /// Normalisation of the features.
    pub scaler: &'a WideScaler,
    /// Whether actions that the budget has no room for are forbidden.
    pub masked: bool,
}

/// One decision of an episode.
#[derive(Clone, Debug, PartialEq)]
pub struct WideStep {
    /// The slot.
    pub slot: usize,
    /// The state in front of it.
    pub state: Vec<f32>,
    /// Which formats of the action set were allowed.
    pub mask: Vec<bool>,
    /// Index of the format in the action set.
    pub action: usize,
}

impl WideWalk<'_> {
    /// Number of actions: the formats of the action set.
    #[must_use]
    pub fn actions(&self) -> usize {
        self.problem.actions().types().len()
    }

    /// The choice of a slot that an action stands for; `None` if the slot has no such format, or if a cheaper action
    /// stands for the same one, as fallbacks make it. A slot with one option that no action stands for, as a fixed type may
    /// be, has it under the first action.
    #[must_use]
    pub fn choice(&self, slot: usize, action: usize) -> Option<usize> {
        choice_of(self.problem, slot, action)
    }

    /// The action that a choice stands for.
    #[must_use]
    pub fn action(&self, slot: usize, choice: usize) -> usize {
        (0..self.actions()).find(|&action| self.choice(slot, action) == Some(choice)).unwrap_or(0)
    }

    /// Walks over all slots. `decide` is asked for a choice: it gets the slot, the state, the mask over the action set,
    /// and gives an action. A choice is allowed if the slots behind can still have what `reserved` says for them.
    ///
    /// # Errors
    /// When `decide` fails or the scaler is of other features.
    ///
    /// # Panics
    /// When `reserved` does not fit the budget.
    pub fn run(
        &self,
        reserved: &[usize],
        mut decide: impl FnMut(usize, &[f32], &[bool]) -> Result<usize>,
    ) -> Result<Vec<WideStep>> {
        let problem = self.problem;
        let n = problem.slots().len();
        let capacity = problem.capacity();
        let (weights, range, target_bits) = (self.weights(), self.range(), self.target_bits());
        let mut behind: u64 = problem.cost(reserved);
        let mut weights_behind: f64 = weights.iter().sum();
        let (mut spent, mut bits_so_far, mut weights_so_far) = (0u64, 0.0, 0.0);
        let mut prev_bits = None;
        let mut steps = Vec::with_capacity(n);
        for slot in 0..n {
            behind -= problem.choice_cost(slot, reserved[slot]);
            let room = capacity.saturating_sub(spent);
            let context = WideContext {
                prev_bits,
                avg_bits: (slot > 0).then(|| bits_so_far / f64::max(weights_so_far, 1.0)),
                remaining_bits: self.bits_of(room) / weights_behind.max(1.0),
                range,
                target_bits,
            };
            let mut state = self.features.state(slot, context, self.scaler)?;
            for (value, name) in state.iter_mut().zip(self.features.names()) {
                if SIZES.contains(&name.as_str()) {
                    *value = 0.0;
                }
            }
            let allowed = |choice: usize| {
                !self.masked || spent + problem.choice_cost(slot, choice) + behind <= capacity
            };
            let mask: Vec<bool> =
                (0..self.actions()).map(|action| self.choice(slot, action).is_some_and(allowed)).collect();
            let action = decide(slot, &state, &mask)?;
            let choice = self.choice(slot, action).unwrap_or(0);
            let bits = problem.slots()[slot].choices[choice].format.bits_per_weight();
            prev_bits = Some(bits);
            spent += problem.choice_cost(slot, choice);
            bits_so_far += bits * weights[slot];
            weights_so_far += weights[slot];
            weights_behind -= weights[slot];
            steps.push(WideStep { slot, state, mask, action });
        }
        Ok(steps)
    }

    /// The steps of a walk that ends with these choices.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn replay(&self, choices: &[usize]) -> Result<Vec<WideStep>> {
        self.run(&self.problem.floor(), |slot, _, _| Ok(self.action(slot, choices[slot])))
    }

    /// The choices of a walk.
    #[must_use]
    pub fn choices(&self, steps: &[WideStep]) -> Choices {
        steps.iter().map(|step| self.choice(step.slot, step.action).unwrap_or(0)).collect()
    }

    fn weights(&self) -> Vec<f64> {
        self.problem.slots().iter().map(|slot| slot.weights as f64).collect()
    }

    /// Bits per weight of the cheapest and the dearest format of the set.
    fn range(&self) -> [f64; 2] {
        let bits = || self.problem.actions().types().iter().map(|ty| ty.bits_per_weight());
        [bits().fold(f64::INFINITY, f64::min), bits().fold(0.0, f64::max)]
    }

    /// Bits per weight that the budget allows on average.
    fn target_bits(&self) -> f64 {
        self.bits_of(self.problem.capacity()) / self.weights().iter().sum::<f64>().max(1.0)
    }

    /// Budget as bits over weights. Under a budget in mean bits a unit is a thousandth of a bit of one layer; it is spread
    /// over the weights as if all layers had the mean size.
    fn bits_of(&self, units: u64) -> f64 {
        let bytes: u64 = self.problem.slots().iter().map(|slot| slot.choices[0].bytes).sum();
        let cost = self.problem.cost(&self.problem.floor()).max(1);
        8.0 * units as f64 * (bytes as f64 / cost as f64)
    }
}

/// The choice of a slot that an action stands for, as [`WideWalk::choice`].
pub(crate) fn choice_of(problem: &Problem, slot: usize, action: usize) -> Option<usize> {
    let slot = &problem.slots()[slot];
    let types = problem.actions().types();
    let format_of = |action: usize| ramp_gguf::fallback(types[action], slot.columns as u64);
    let format = format_of(action);
    if let [only] = slot.choices.as_slice()
        && (0..types.len()).all(|action| only.format.ggml() != Some(format_of(action)))
    {
        return (action == 0).then_some(0);
    }
    if (0..action).any(|cheaper| format_of(cheaper) == format) {
        return None;
    }
    slot.choices.iter().position(|choice| choice.format.ggml() == Some(format))
}
