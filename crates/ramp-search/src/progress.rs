//! How a long run tells its caller where it is.

use crate::error::{Error, Result};

/// The parts of a run that take time, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// Encoding every matrix in every format; units are matrices.
    Encode,
    /// Measuring the sensitivity of every matrix; units are evaluations.
    Sensitivity,
    /// Teaching the agent what is known before it walks; units are gradient steps.
    WarmStart,
    /// Reinforcement learning; units are episodes.
    Episodes,
    /// Any other search; units are rounds of it, or whole evaluations where a limit of tokens ends it.
    Search,
}

/// One report of progress.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Which part.
    pub stage: Stage,
    /// Units done.
    pub done: usize,
    /// Units in all.
    pub total: usize,
    /// Best KL divergence so far in nats, while there is one.
    pub best_kld: Option<f64>,
}

/// Receives progress and may stop the run by returning `false`.
pub type ProgressFn<'a> = dyn FnMut(Progress) -> bool + 'a;

pub(crate) fn report(
    progress: &mut ProgressFn<'_>,
    stage: Stage,
    done: usize,
    total: usize,
    best_kld: Option<f64>,
) -> Result<()> {
    if progress(Progress { stage, done, total, best_kld }) { Ok(()) } else { Err(Error::Interrupted) }
}
