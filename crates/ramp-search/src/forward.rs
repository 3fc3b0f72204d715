//! Forward passes of quantized models over parts of a text.

mod crew;
mod guard;
mod lane;
mod model;
mod replica;
mod text;

use std::{fmt, ops::Range};

use ramp_eval::Moments;
use serde::{Deserialize, Serialize};

pub(crate) use self::model::{Lanes, STREAM_BYTES};
pub use self::{crew::LostDevice, guard::panic_is_caught, replica::Replica};
#[cfg(test)]
pub(crate) use self::{
    crew::{Crew, Worker},
    lane::{Done, Order},
    model::ModelForward,
};
use crate::error::{Error, Result};

/// What runs allocations. Windows come in parts, which do not depend on each other, so that several devices may run them
/// side by side; nothing that is asked here tells how many there are.
pub(crate) trait Forward: fmt::Debug {
    /// Windows of each part.
    fn windows(&self) -> Vec<usize>;

    /// Perplexity of the unquantized model.
    fn base_perplexity(&self) -> f64;

    /// Tokens of all parts.
    fn n_tokens(&self) -> usize;

    /// Tokens that [`Forward::allocation`] would forward.
    fn cost(&self, part: usize, choices: &[usize]) -> usize;

    /// What the tokens of each part lose, in the order of the parts. The list ends behind the first error, which is
    /// [`Error::Eval`] with a number that is not finite where the model gives one: as if the parts ran one by one.
    fn allocation(&mut self, parts: Range<usize>, choices: &[usize]) -> Vec<Result<Losses>>;

    /// Tokens that [`Forward::single`] forwards.
    fn single_cost(&self, part: usize, slot: usize) -> usize;

    /// As [`Forward::allocation`] with one matrix quantized.
    fn single(&mut self, parts: Range<usize>, slot: usize, choice: usize) -> Vec<Result<Losses>>;

    /// Keeps the streams of these choices from now on, or of whatever ran last.
    fn pin(&mut self, choices: Option<&[usize]>);

    /// Tokens that [`Forward::fetch`] would forward.
    fn fetch_cost(&self) -> usize;

    /// Runs the pinned choices where their streams are not known yet.
    fn fetch(&mut self) -> Result<()>;

    /// The devices that failed so far.
    fn lost(&self) -> Vec<LostDevice> {
        Vec::new()
    }

    /// The same without anything remembered of allocations.
    fn fresh<'f>(&self) -> Box<dyn Forward + 'f>
    where
        Self: 'f;
}

/// What the tokens of a part lose, in their order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Losses {
    /// Divergences in nats.
    pub(crate) kld: Vec<f64>,
    /// Negative log-likelihoods in nats.
    pub(crate) nll: Vec<f64>,
}

/// Sums over tokens.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Sums {
    pub(crate) kld: Moments,
    pub(crate) nll: Moments,
}

impl Sums {
    /// With the tokens of one more part, added one by one, so that the sum does not depend on who ran the part.
    pub(crate) fn with(mut self, Losses { kld, nll }: Losses) -> Self {
        self.kld.extend(kld);
        self.nll.extend(nll);
        self
    }
}

/// Whether a model gave NaN or infinity.
pub(crate) const fn is_non_finite(error: &Error) -> bool {
    matches!(error, Error::Eval(ramp_eval::Error::NonFinite { .. } | ramp_eval::Error::NonFiniteAt { .. }))
}
