//! One walk over the layers (the inner loop of Algorithm 1).

use ramp_embed::{Context, FeatureTable, Scaler};

use crate::{
    error::Result,
    mode::{ContextUpdate, FirstContext, Mapping},
    problem::{Choices, Problem},
    projection::{equal_bins, nearest},
};

/// What the agent sees while it walks: static features, the scaler, and how actions become choices.
#[derive(Debug)]
pub struct Walk<'a> {
    /// The problem.
    pub problem: &'a Problem,
    /// Features of the problem's slots, in their order.
    pub features: &'a FeatureTable,
    /// Normalisation of the features.
    pub scaler: &'a Scaler,
    /// Actions to choices.
    pub mapping: Mapping,
    /// What stands for the bits in front of the first layer.
    pub first_context: FirstContext,
    /// Which contextual features a step updates.
    pub context_update: ContextUpdate,
}

/// States, actions and choices of one episode.
#[derive(Clone, Debug, Default)]
pub struct Trajectory {
    /// The state in front of each layer.
    pub states: Vec<Vec<f32>>,
    /// The action taken.
    pub actions: Vec<f64>,
    /// The choice it stands for, before any projection.
    pub choices: Choices,
}

impl Walk<'_> {
    /// Asks `act` for an action in front of every layer. The running mean and the previous bit width of the
    /// next state follow from the choices so far (both are updated; Algorithm 1 forgets the second).
    ///
    /// # Errors
    /// When `act` fails.
    pub fn run(&self, mut act: impl FnMut(usize, &[f32]) -> Result<f64>) -> Result<Trajectory> {
        let mut trajectory = Trajectory::default();
        let bits =
            |slot: usize, choice: usize| self.problem.slots()[slot].choices[choice].format.nominal_bits();
        let all = || {
            let slots = self.problem.slots().iter().enumerate();
            slots.flat_map(|(slot, options)| (0..options.choices.len()).map(move |choice| bits(slot, choice)))
        };
        let (min_bits, max_bits) = (all().fold(f64::MAX, f64::min), all().fold(f64::MIN, f64::max));
        let target_bits = self.target_bits();
        let (mut prev_bits, mut sum_bits) = (0.0, 0.0);
        for slot in 0..self.problem.slots().len() {
            let first = match self.first_context {
                FirstContext::Zero => 0.0,
                FirstContext::Target => target_bits,
            };
            let known = slot > 0;
            let avg_bits = if known { sum_bits / slot as f64 } else { first };
            let remembered = known && self.context_update == ContextUpdate::Both;
            let context = Context {
                prev_bits: if remembered { prev_bits } else { first },
                avg_bits,
                is_first: false,
                min_bits,
                max_bits,
                target_bits,
            };
            let state = self.features.state(slot, context, self.scaler).to_vec();
            let action = act(slot, &state)?;
            let n = self.problem.slots()[slot].choices.len();
            let choice = match self.mapping {
                Mapping::Nearest => nearest(action, n),
                Mapping::EqualBins => equal_bins(action, n),
            };
            prev_bits = bits(slot, choice);
            sum_bits += prev_bits;
            trajectory.states.push(state);
            trajectory.actions.push(action);
            trajectory.choices.push(choice);
        }
        Ok(trajectory)
    }

    /// Mean nominal bits that the budget allows if every layer had the same share of it.
    fn target_bits(&self) -> f64 {
        let uniform = crate::uniform::uniform(self.problem);
        let total: f64 = uniform
            .iter()
            .zip(self.problem.slots())
            .map(|(&choice, slot)| slot.choices[choice].format.nominal_bits())
            .sum();
        total / uniform.len().max(1) as f64
    }
}
