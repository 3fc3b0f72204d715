//! From an allocation to its score, on fixed windows of text, with a ledger of what was spent.

use std::{collections::HashMap, path::Path, time::Instant};

use ramp_eval::Windows;
use ramp_model::CausalLm;
use serde::{Deserialize, Serialize};

use crate::{
    bank::WeightBank,
    error::{Error, Result},
    forward::{Forward, Lanes, Losses, LostDevice, Replica, STREAM_BYTES, Sums, is_non_finite},
    journal::{Journal, Of},
    ledger::Ledger,
    problem::{Choices, Problem},
};

/// Significant bits of a divergence: three decimal digits. Its standard error is some percent of it, and what is smaller than a
/// thousandth differs between devices, which add up in other orders. Without those digits devices of different kinds agree
/// in nearly every score, and a search that reads the same scores takes the same steps.
const KLD_BITS: u32 = 10;
/// Significant bits of a single matrix' divergence: two decimal digits. It is much smaller, the devices' rounding a larger share
/// of it, and a search takes a sum of dozens of them for what it is, an estimate.
const SINGLE_BITS: u32 = 7;
/// Significant bits of a perplexity, whose standard error is some percent, too; allocations differ in it by much less.
const PERPLEXITY_BITS: u32 = 17;

/// To the nearest number of so many significant bits, at most 52.
fn rounded(x: f64, bits: u32) -> f64 {
    let dropped = 53 - bits;
    let bits = x.to_bits().wrapping_add(1 << (dropped - 1));
    if x.is_finite() { f64::from_bits(bits & !((1 << dropped) - 1)) } else { x }
}

/// What an allocation costs in quality. Numbers are rounded to what two kinds of devices agree in.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Mean KL divergence to the unquantized model in nats, to 10 significant bits.
    pub kld: f64,
    /// Standard error of `kld`.
    pub kld_se: f64,
    /// Perplexity, to 17 significant bits.
    pub perplexity: f64,
    /// Tokens forwarded for this score.
    pub tokens: usize,
}

impl Score {
    /// What an allocation gets with which the model gives NaN or infinity: worse than every model that says anything,
    /// but a number that means, comparisons and files can hold.
    pub const FLOOR: Self = Self { kld: 1e3, kld_se: 0.0, perplexity: 1e30, tokens: 0 };

    /// Whether the model gave NaN or infinity.
    #[must_use]
    pub fn is_floor(&self) -> bool {
        self.kld >= Self::FLOOR.kld
    }
}

/// An allocation that was better than all before it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TracePoint {
    /// Tokens spent up to it.
    pub tokens: usize,
    /// Evaluations up to it.
    pub evaluations: usize,
    /// Its KL divergence in nats.
    pub kld: f64,
}

/// Scores allocations against the unquantized model on the same tokens.
///
/// The base model's next-token distributions stay on the device, `4 * vocab` bytes for each scored token, and so do
/// the residual streams of one allocation, so that the next one starts at the first block that differs.
#[derive(Debug)]
pub struct Evaluator<'a> {
    problem: &'a Problem,
    bank: &'a WeightBank,
    forward: Box<dyn Forward + 'a>,
    /// Windows up to the end of each part.
    ends: Vec<usize>,
    memo: HashMap<Choices, Known>,
    /// Single matrices of an earlier run.
    singles: HashMap<(usize, usize), Known>,
    journal: Option<Journal>,
    ledger: Ledger,
    limit: Option<usize>,
    best: Option<(Choices, Score)>,
    trace: Vec<TracePoint>,
}

/// What is known of an allocation.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Known {
    /// Over the parts up to each one.
    sums: Vec<Sums>,
    tokens: usize,
    /// The model gave NaN or infinity in the part behind the last of `sums`.
    broken: bool,
}

impl<'a> Evaluator<'a> {
    /// Runs the unquantized model once and keeps what every evaluation needs.
    ///
    /// # Errors
    /// When the unquantized model fails or gives NaN or infinity.
    pub fn new(
        base: &CausalLm,
        problem: &'a Problem,
        bank: &'a WeightBank,
        windows: Windows,
    ) -> Result<Self> {
        Self::with_replicas(base, problem, bank, windows, &[])
    }

    /// As [`Evaluator::new`], on several devices. Parts of the windows run side by side, each on the device that has it;
    /// neither a score nor what it counts as spent depends on how many devices there are, as far as they compute alike.
    ///
    /// A device that fails is lost: the others evaluate its parts, and [`Evaluator::lost`] tells. The caller's own device
    /// is one of them.
    ///
    /// # Errors
    /// As [`Evaluator::new`]; [`Error::DevicesLost`] when the last device fails, here and in everything that evaluates.
    pub fn with_replicas(
        base: &CausalLm,
        problem: &'a Problem,
        bank: &'a WeightBank,
        windows: Windows,
        others: &[Replica],
    ) -> Result<Self> {
        let start = Instant::now();
        let forward = Lanes::new(STREAM_BYTES, base, problem, bank, windows, others).forward()?;
        let mut evaluator = Self::of(problem, bank, Box::new(forward));
        evaluator.ledger.seconds = start.elapsed().as_secs_f64();
        Ok(evaluator)
    }

    pub(crate) fn of(problem: &'a Problem, bank: &'a WeightBank, forward: Box<dyn Forward + 'a>) -> Self {
        let mut end = 0;
        let ends = forward.windows().into_iter().map(|windows| {
            end += windows;
            end
        });
        let ends = ends.collect();
        let ledger = Ledger { tokens: forward.n_tokens(), ..Ledger::default() };
        Self {
            problem,
            bank,
            forward,
            ends,
            memo: HashMap::new(),
            singles: HashMap::new(),
            journal: None,
            ledger,
            limit: None,
            best: None,
            trace: Vec::new(),
        }
    }

    /// An evaluator for another budget, with the same windows and the same unquantized model, which is not run again.
    /// It knows nothing of what this one evaluated, and its ledger begins as if it had run the unquantized model
    /// itself, so that what it finds and spends does not depend on what ran before it.
    ///
    /// # Errors
    /// When the problem has other slots.
    pub fn for_problem(&self, problem: &'a Problem) -> Result<Self> {
        if problem.slots() != self.problem.slots() {
            return Err(Error::OtherProblem);
        }
        Ok(Self::of(problem, self.bank, self.forward.fresh()))
    }

    /// Writes every score to a file, and takes those that are there from an earlier run of the same model, text and formats on
    /// the same kind of device: they cost nothing. A run that is repeated after it was cut short ends as if it had not been,
    /// but for its ledger. `windows` are those that are evaluated. Evaluators for other budgets have files of their own.
    ///
    /// # Errors
    /// [`Error::Journal`] when the file cannot be read or written, or belongs to another run.
    pub fn keep_scores(&mut self, path: &Path, windows: &Windows) -> Result<()> {
        let (journal, scores) = Journal::open(path, self.problem, self.bank, windows, &self.ends)?;
        self.memo.extend(scores.choices);
        self.singles.extend(scores.singles);
        self.journal = Some(journal);
        Ok(())
    }

    /// Perplexity of the unquantized model on the same tokens.
    #[must_use]
    pub fn base_perplexity(&self) -> f64 {
        self.forward.base_perplexity()
    }

    /// The problem that the choices belong to.
    #[must_use]
    pub const fn problem(&self) -> &'a Problem {
        self.problem
    }

    /// The weights that are evaluated.
    #[must_use]
    pub const fn bank(&self) -> &'a WeightBank {
        self.bank
    }

    /// The devices that failed so far, evaluators of other budgets with the same devices included.
    #[must_use]
    pub fn lost(&self) -> Vec<LostDevice> {
        self.forward.lost()
    }

    /// What was spent so far.
    #[must_use]
    pub const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Tokens forwarded so far; a pass through half of the blocks counts half.
    #[must_use]
    pub const fn tokens_forwarded(&self) -> usize {
        self.ledger.tokens
    }

    /// Evaluations so far, repeated allocations not counted.
    #[must_use]
    pub const fn evaluations(&self) -> usize {
        self.ledger.evaluations
    }

    /// Windows of a full evaluation.
    #[must_use]
    pub fn n_windows(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    /// Tokens of a full evaluation from the first block on.
    #[must_use]
    pub fn n_tokens(&self) -> usize {
        self.forward.n_tokens()
    }

    /// Tokens that may be forwarded in all; what would exceed it is refused with [`Error::TokenLimit`]. `None` is no
    /// limit.
    pub const fn set_limit(&mut self, tokens: Option<usize>) {
        self.limit = tokens;
    }

    /// The limit of tokens.
    #[must_use]
    pub const fn limit(&self) -> Option<usize> {
        self.limit
    }

    /// The best allocation within the budget that was scored on all windows.
    #[must_use]
    pub fn best(&self) -> Option<(&Choices, Score)> {
        self.best.as_ref().map(|(choices, score)| (choices, *score))
    }

    /// The best KL divergence over the tokens spent: one point for each allocation that was better than all before it.
    #[must_use]
    pub fn trace(&self) -> &[TracePoint] {
        &self.trace
    }

    /// Adds what was spent elsewhere for this search, such as sensitivities that several searches share.
    ///
    /// # Errors
    /// [`Error::TokenLimit`] when that is more than the limit.
    pub fn charge(&mut self, spent: &Ledger) -> Result<()> {
        self.afford(spent.tokens)?;
        self.ledger.add(spent);
        Ok(())
    }

    /// Scores an allocation; one that was scored before costs nothing.
    ///
    /// An allocation with which the model gives NaN or infinity gets [`Score::FLOOR`] and is counted.
    ///
    /// # Errors
    /// When the model fails, or the limit of tokens would be exceeded.
    pub fn score(&mut self, choices: &[usize]) -> Result<Score> {
        self.score_on(choices, usize::MAX)
    }

    /// Scores an allocation on the first windows only, at least `windows` of them: the next number at which the parts
    /// that run together end, among them an eighth, a quarter and a half. All allocations see the same tokens, and what
    /// is known of the first windows is not run again for more.
    ///
    /// # Errors
    /// As [`Evaluator::score`].
    pub fn score_on(&mut self, choices: &[usize], windows: usize) -> Result<Score> {
        let parts = self.ends.iter().position(|&end| end >= windows).map_or(self.ends.len(), |at| at + 1);
        let mut known = self.memo.get(choices).cloned().unwrap_or_default();
        let missing = if known.broken { 0..0 } else { known.sums.len()..parts };
        if missing.is_empty() {
            self.ledger.memo_hits += 1;
        } else {
            let costs: Vec<usize> = missing.clone().map(|part| self.forward.cost(part, choices)).collect();
            self.afford(costs.iter().sum())?;
            let start = Instant::now();
            let losses = self.forward.allocation(missing, choices);
            let before = known.tokens;
            let outcome = known.add(costs, losses);
            self.ledger.tokens += known.tokens - before;
            if let Some(error) = outcome? {
                tracing::warn!(%error, "an allocation is not finite");
                self.ledger.non_finite += 1;
            }
            self.ledger.seconds += start.elapsed().as_secs_f64();
            self.ledger.evaluations += 1;
            if let Some(journal) = &mut self.journal {
                journal.add(Of::Choices(choices.to_vec()), &known)?;
            }
            self.memo.insert(choices.to_vec(), known.clone());
        }
        let score = known.score(parts);
        if parts == self.ends.len() {
            self.remember(choices, score);
        }
        Ok(score)
    }

    /// Scores the model with a single matrix quantized. Blocks in front of it are not run again.
    ///
    /// # Errors
    /// As [`Evaluator::score`].
    pub fn score_single(&mut self, slot: usize, choice: usize) -> Result<Score> {
        let parts = 0..self.ends.len();
        if let Some(known) = self.singles.get(&(slot, choice)) {
            self.ledger.memo_hits += 1;
            return Ok(known.single_score(parts.end));
        }
        let costs: Vec<usize> = parts.clone().map(|part| self.forward.single_cost(part, slot)).collect();
        self.afford(costs.iter().sum())?;
        let start = Instant::now();
        let mut known = Known::default();
        let losses = self.forward.single(parts, slot, choice);
        if let Some(error) = known.add(costs, losses)? {
            tracing::warn!(%error, layer = %self.problem.slots()[slot].id, "a single matrix is not finite");
            self.ledger.non_finite += 1;
        }
        self.ledger.tokens += known.tokens;
        self.ledger.evaluations += 1;
        self.ledger.seconds += start.elapsed().as_secs_f64();
        if let Some(journal) = &mut self.journal {
            journal.add(Of::Single(slot, choice), &known)?;
        }
        Ok(known.single_score(self.ends.len()))
    }

    /// Keeps the residual streams of an allocation whose neighbours will be scored, until another is pinned: they start
    /// at the first block that differs from it. `None` keeps those of whatever ran last, as in the beginning.
    ///
    /// Costs up to one pass where the allocation was scored before and other streams were kept since; within a limit
    /// that has no room for it nothing is run, and the streams come with the allocation's next evaluation, if any.
    ///
    /// # Errors
    /// When the model fails.
    pub fn pin(&mut self, choices: Option<&[usize]>) -> Result<()> {
        self.forward.pin(choices);
        let cost = self.forward.fetch_cost();
        if cost > 0 && self.afford(cost).is_ok() {
            let start = Instant::now();
            self.forward.fetch()?;
            self.ledger.tokens += cost;
            self.ledger.seconds += start.elapsed().as_secs_f64();
        }
        Ok(())
    }

    fn afford(&self, tokens: usize) -> Result<()> {
        match self.limit {
            Some(limit) if self.ledger.tokens + tokens > limit => Err(Error::TokenLimit { limit }),
            _ => Ok(()),
        }
    }

    fn remember(&mut self, choices: &[usize], score: Score) {
        let better = self.best.as_ref().is_none_or(|(_, best)| score.kld < best.kld);
        if better && self.problem.fits(choices) {
            self.best = Some((choices.to_vec(), score));
            let Ledger { tokens, evaluations, .. } = self.ledger;
            self.trace.push(TracePoint { tokens, evaluations, kld: score.kld });
        }
    }
}

impl Known {
    /// Adds the next parts and what they cost, up to the first error. That of a model which gave NaN or infinity is
    /// remembered and comes back.
    fn add(&mut self, costs: Vec<usize>, losses: Vec<Result<Losses>>) -> Result<Option<Error>> {
        for (cost, losses) in costs.into_iter().zip(losses) {
            self.tokens += cost;
            match losses {
                Ok(losses) => {
                    let before = self.sums.last().copied().unwrap_or_default();
                    self.sums.push(before.with(losses));
                }
                Err(error) if is_non_finite(&error) => {
                    self.broken = true;
                    return Ok(Some(error));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Whether it can be that of a model, with so many parts.
    pub(crate) fn is_sound(&self, parts: usize) -> bool {
        let finite = |sums: &Sums| sums.kld.mean().is_finite() && sums.nll.mean().is_finite();
        self.sums.len() <= parts && self.sums.iter().all(finite) && (self.broken || !self.sums.is_empty())
    }

    fn single_score(&self, parts: usize) -> Score {
        let score = self.score(parts);
        Score { kld: rounded(score.kld, SINGLE_BITS), ..score }
    }

    fn score(&self, parts: usize) -> Score {
        match parts.checked_sub(1).and_then(|last| self.sums.get(last)) {
            Some(Sums { kld, nll }) => Score {
                kld: rounded(kld.mean(), KLD_BITS),
                kld_se: rounded(kld.standard_error(), KLD_BITS),
                perplexity: rounded(nll.mean().exp(), PERPLEXITY_BITS),
                tokens: self.tokens,
            },
            None => Score { tokens: self.tokens, ..Score::FLOOR },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_their_leading_bits() {
        assert_eq!([1.0, -3.0, 0.0, 512.0, 513.0].map(|x| rounded(x, 10)), [1.0, -3.0, 0.0, 512.0, 513.0]);
        assert_eq!(rounded(1024.9, 10), 1024.0);
        assert_eq!(rounded(1025.0, 10), 1026.0);
        // Up to the next power of two.
        assert_eq!(rounded(2047.5, 10), 2048.0);
        assert_eq!(rounded(-1.0 - 1e-9, 10), -1.0);
        assert!(rounded(f64::NAN, 10).is_nan() && rounded(f64::INFINITY, 10).is_infinite());
        for x in [0.009_293_890_269, 1e-7, 26.123_456] {
            assert!((rounded(x, 10) / x - 1.0).abs() <= 1.0 / 1024.0, "{x}");
        }
    }
}
