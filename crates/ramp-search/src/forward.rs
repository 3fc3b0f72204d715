//! Forward passes of quantized models over parts of a text, with the beginning of a pass reused where it is known.

use std::{fmt, ops::Range, sync::Arc};

use burn::tensor::Tensor;
use ramp_eval::{
    LanguageModel, Moments, Windows,
    rows::{BaseRows, batches, for_each_rows_of},
};
use ramp_model::{CausalLm, LayerId, NoTap};

use crate::{
    bank::WeightBank,
    error::{Error, Result},
    problem::{Choices, Problem},
};

/// Bytes that the kept residual streams of one model may take. Beyond it, not every block's is kept.
const STREAM_BYTES: usize = 1 << 30;

/// What runs allocations. Windows come in parts, which are run one by one.
pub(crate) trait Forward: fmt::Debug {
    /// Windows of each part.
    fn windows(&self) -> Vec<usize>;

    /// Perplexity of the unquantized model.
    fn base_perplexity(&self) -> f64;

    /// Tokens of all parts.
    fn n_tokens(&self) -> usize;

    /// Tokens that [`Forward::allocation`] would forward.
    fn cost(&self, problem: &Problem, part: usize, choices: &[usize]) -> usize;

    /// Adds the divergences and losses of a part's tokens. [`Error::Eval`] with a number that is not finite when the
    /// model gives one.
    fn allocation(
        &mut self,
        problem: &Problem,
        part: usize,
        choices: &[usize],
        into: &mut Sums,
    ) -> Result<()>;

    /// Tokens that [`Forward::single`] forwards.
    fn single_cost(&self, problem: &Problem, part: usize, slot: usize) -> usize;

    /// As [`Forward::allocation`] with one matrix quantized.
    fn single(
        &mut self,
        problem: &Problem,
        part: usize,
        slot: usize,
        choice: usize,
        into: &mut Sums,
    ) -> Result<()>;

    /// Keeps the streams of these choices from now on, or of whatever ran last.
    fn pin(&mut self, choices: Option<&[usize]>);

    /// Tokens that [`Forward::fetch`] would forward.
    fn fetch_cost(&self, problem: &Problem) -> usize;

    /// Runs the pinned choices where their streams are not known yet.
    fn fetch(&mut self, problem: &Problem) -> Result<()>;

    /// The same without anything remembered of allocations.
    fn fresh<'f>(&self) -> Box<dyn Forward + 'f>
    where
        Self: 'f;
}

/// Sums over tokens.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sums {
    pub(crate) kld: Moments,
    pub(crate) nll: Moments,
}

/// The real model.
///
/// For each part it keeps the residual stream in front of every block of the unquantized model, for single matrices,
/// and of one allocation, the last one that ran or a pinned one: another that differs only from some block on starts
/// there. Each of both takes at most `4 * tokens * hidden_size * (n_blocks + 1)` bytes, and no more than 1 GiB: where
/// that would be more, streams of every second, third, ... block are kept and a pass starts at the last one kept.
#[derive(Debug)]
pub(crate) struct ModelForward<'a> {
    base: Arc<Base>,
    bank: &'a WeightBank,
    /// By part.
    references: Vec<Option<Reference>>,
    pinned: Option<Choices>,
}

/// What is known of the unquantized model.
#[derive(Debug)]
struct Base {
    model: CausalLm,
    windows: Windows,
    parts: Vec<Part>,
    stride: usize,
    perplexity: f64,
}

#[derive(Debug)]
struct Part {
    range: Range<usize>,
    tokens: usize,
    streams: Streams,
    /// Next-token distributions of the scored rows, chunk by chunk.
    rows: Vec<BaseRows>,
}

/// Residual streams, `[batch, ctx, hidden]`, in front of blocks 0, `stride`, `2 stride`, ...; that behind the last
/// block is in front of block `n_blocks`.
#[derive(Clone, Debug)]
struct Streams(Vec<Tensor<3>>);

#[derive(Debug)]
struct Reference {
    choices: Choices,
    streams: Streams,
}

/// Where a forward pass begins.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Start {
    Tokens,
    Block(usize),
}

impl Start {
    /// In front of a matrix.
    const fn at(id: LayerId, n_blocks: usize) -> Self {
        match id {
            LayerId::TokenEmbd => Self::Tokens,
            LayerId::Block { block, .. } => Self::Block(block),
            LayerId::Output => Self::Block(n_blocks),
        }
    }
}

impl<'a> ModelForward<'a> {
    /// Runs the unquantized model once and keeps what every evaluation needs.
    pub(crate) fn new(model: &CausalLm, bank: &'a WeightBank, windows: Windows) -> Result<Self> {
        Self::within(STREAM_BYTES, model, bank, windows)
    }

    /// As [`ModelForward::new`] with streams of at most `bytes`, but for the one in front of the first block.
    pub(crate) fn within(
        bytes: usize,
        model: &CausalLm,
        bank: &'a WeightBank,
        windows: Windows,
    ) -> Result<Self> {
        let config = model.config();
        let stream_bytes = 4 * windows.n_tokens() * config.hidden_size;
        let kept = (bytes / stream_bytes.max(1)).max(1);
        let stride = (config.n_blocks + 1).div_ceil(kept);
        let mut base =
            Base { model: model.clone(), windows, parts: Vec::new(), stride, perplexity: f64::NAN };
        let mut nll = Moments::default();
        for range in parts(&base.windows, base.model.pace().tokens) {
            let tokens = &base.windows.tokens()[range.clone()];
            let mut streams = Streams(Vec::new());
            let last = base.walk(model, model.embed(tokens)?, 0, Some(&mut streams.0))?;
            let mut rows = Vec::new();
            for_each_rows_of(model, last, &base.windows, range.clone(), |part| {
                nll.extend(part.nll()?);
                rows.push(part.into_base()?);
                Ok(())
            })?;
            let tokens = tokens.iter().map(|window| window.len()).sum();
            base.parts.push(Part { range, tokens, streams, rows });
        }
        base.perplexity = nll.mean().exp();
        let references = base.parts.iter().map(|_| None).collect();
        Ok(Self { base: Arc::new(base), bank, references, pinned: None })
    }

    /// Where a part's pass may begin: at the first block in which the reference differs.
    fn start(&self, problem: &Problem, part: usize, choices: &[usize]) -> Start {
        let n_blocks = self.base.n_blocks();
        let Some(reference) = &self.references[part] else { return Start::Tokens };
        let differs = (0..choices.len()).find(|&slot| choices[slot] != reference.choices[slot]);
        let start =
            differs.map_or(Start::Block(n_blocks), |slot| Start::at(problem.slots()[slot].id, n_blocks));
        self.base.kept(start)
    }

    /// The model with these choices.
    fn quantized(&self, problem: &Problem, choices: &[usize]) -> Result<CausalLm> {
        let mut model = self.base.model.clone();
        self.bank.apply(problem, choices, &mut model)?;
        Ok(model)
    }

    /// Runs a part's blocks, and remembers their streams if it should.
    fn hidden(
        &mut self,
        problem: &Problem,
        part: usize,
        choices: &[usize],
        model: &CausalLm,
    ) -> Result<Tensor<3>> {
        let start = self.start(problem, part, choices);
        let base = &self.base;
        let remember = self.pinned.as_deref().is_none_or(|pinned| pinned == choices);
        let (first, hidden, mut streams) = match (start, &self.references[part]) {
            (Start::Block(block), Some(Reference { streams, .. })) => {
                let kept = Streams(streams.0[..=block / base.stride].to_vec());
                (block, kept.0[block / base.stride].clone(), kept)
            }
            _ => {
                let tokens = &base.windows.tokens()[base.parts[part].range.clone()];
                (0, model.embed(tokens)?, Streams(Vec::new()))
            }
        };
        let last = base.walk(model, hidden, first, remember.then_some(&mut streams.0))?;
        if remember {
            self.references[part] = Some(Reference { choices: choices.to_vec(), streams });
        }
        Ok(last)
    }
}

impl Base {
    const fn n_blocks(&self) -> usize {
        self.model.config().n_blocks
    }

    /// The last kept stream in front of a place.
    const fn kept(&self, start: Start) -> Start {
        match start {
            Start::Tokens => Start::Tokens,
            Start::Block(block) => Start::Block(block / self.stride * self.stride),
        }
    }

    /// Runs the blocks from `first` on. `streams` holds those in front of it, and gets the following ones.
    fn walk(
        &self,
        model: &CausalLm,
        mut hidden: Tensor<3>,
        first: usize,
        streams: Option<&mut Vec<Tensor<3>>>,
    ) -> Result<Tensor<3>> {
        let n_blocks = self.n_blocks();
        let Some(streams) = streams else {
            return Ok(model.run_blocks(hidden, first..n_blocks, &mut NoTap)?);
        };
        if streams.is_empty() {
            streams.push(hidden.clone());
        }
        for block in first..n_blocks {
            hidden = model.run_blocks(hidden, block..block + 1, &mut NoTap)?;
            if (block + 1).is_multiple_of(self.stride) {
                streams.push(hidden.clone());
            }
        }
        Ok(hidden)
    }

    /// Tokens of a pass, with or without the head.
    fn tokens(&self, part: usize, start: Start, head: bool) -> usize {
        let n_blocks = self.n_blocks();
        let ran = match start {
            Start::Tokens => n_blocks,
            Start::Block(block) => n_blocks - block,
        };
        (self.parts[part].tokens * (ran + usize::from(head))).div_ceil(n_blocks + 1)
    }

    fn score(&self, model: &CausalLm, part: usize, hidden: Tensor<3>, into: &mut Sums) -> Result<()> {
        let Part { range, rows, .. } = &self.parts[part];
        let mut base = rows.iter();
        Ok(for_each_rows_of(model, hidden, &self.windows, range.clone(), |rows| {
            if let Some(base) = base.next() {
                into.kld.extend(rows.kl_from(base)?);
            }
            into.nll.extend(rows.nll()?);
            Ok(())
        })?)
    }
}

impl Forward for ModelForward<'_> {
    fn windows(&self) -> Vec<usize> {
        self.base.parts.iter().map(|part| part.range.len()).collect()
    }

    fn base_perplexity(&self) -> f64 {
        self.base.perplexity
    }

    fn n_tokens(&self) -> usize {
        self.base.windows.n_tokens()
    }

    fn cost(&self, problem: &Problem, part: usize, choices: &[usize]) -> usize {
        self.base.tokens(part, self.start(problem, part, choices), true)
    }

    fn allocation(
        &mut self,
        problem: &Problem,
        part: usize,
        choices: &[usize],
        into: &mut Sums,
    ) -> Result<()> {
        let model = self.quantized(problem, choices)?;
        let hidden = self.hidden(problem, part, choices, &model)?;
        self.base.score(&model, part, hidden, into)
    }

    fn single_cost(&self, problem: &Problem, part: usize, slot: usize) -> usize {
        let start = Start::at(problem.slots()[slot].id, self.base.n_blocks());
        self.base.tokens(part, self.base.kept(start), true)
    }

    fn single(
        &mut self,
        problem: &Problem,
        part: usize,
        slot: usize,
        choice: usize,
        into: &mut Sums,
    ) -> Result<()> {
        let base = &self.base;
        let id = problem.slots()[slot].id;
        let mut model = base.model.clone();
        model.set_weight(id, self.bank.weight(slot, choice)?)?;
        let start = base.kept(Start::at(id, base.n_blocks()));
        let (first, hidden) = match start {
            Start::Tokens => (0, model.embed(&base.windows.tokens()[base.parts[part].range.clone()])?),
            Start::Block(block) => (block, base.parts[part].streams.0[block / base.stride].clone()),
        };
        let hidden = base.walk(&model, hidden, first, None)?;
        base.score(&model, part, hidden, into)
    }

    fn pin(&mut self, choices: Option<&[usize]>) {
        self.pinned = choices.map(<[usize]>::to_vec);
    }

    fn fetch_cost(&self, problem: &Problem) -> usize {
        let Some(pinned) = &self.pinned else { return 0 };
        let parts = (0..self.references.len()).filter(|&part| !self.holds(part, pinned));
        parts.map(|part| self.base.tokens(part, self.start(problem, part, pinned), false)).sum()
    }

    fn fetch(&mut self, problem: &Problem) -> Result<()> {
        let Some(pinned) = self.pinned.clone() else { return Ok(()) };
        let model = self.quantized(problem, &pinned)?;
        for part in 0..self.references.len() {
            if !self.holds(part, &pinned) {
                self.hidden(problem, part, &pinned, &model)?;
            }
        }
        Ok(())
    }

    fn fresh<'f>(&self) -> Box<dyn Forward + 'f>
    where
        Self: 'f,
    {
        let references = self.references.iter().map(|_| None).collect();
        Box::new(Self { base: self.base.clone(), bank: self.bank, references, pinned: None })
    }
}

impl ModelForward<'_> {
    fn holds(&self, part: usize, choices: &[usize]) -> bool {
        self.references[part].as_ref().is_some_and(|reference| reference.choices == choices)
    }
}

/// Groups of windows that fit one forward pass, cut where a race may stop: after an eighth, a quarter and a half.
fn parts(windows: &Windows, tokens: usize) -> Vec<Range<usize>> {
    let cuts = [8, 4, 2].map(|share| windows.len().div_ceil(share));
    let mut parts = Vec::new();
    for batch in batches(windows, tokens) {
        let mut start = batch.start;
        for cut in cuts {
            if start < cut && cut < batch.end {
                parts.push(start..cut);
                start = cut;
            }
        }
        parts.push(start..batch.end);
    }
    parts
}

/// Whether a model gave NaN or infinity.
pub(crate) const fn is_non_finite(error: &Error) -> bool {
    matches!(error, Error::Eval(ramp_eval::Error::NonFinite { .. } | ramp_eval::Error::NonFiniteAt { .. }))
}

#[cfg(test)]
mod tests {
    use ramp_eval::Protocol;

    use super::*;

    #[test]
    fn parts_are_cut_where_a_race_may_stop() {
        let cut = |n: usize, ctx: usize| {
            let tokens: Vec<u32> = vec![1; n * ctx];
            parts(&Protocol::gptq(ctx).windows(&tokens, None).unwrap(), 2048)
        };
        assert_eq!(cut(8, 512), [0..1, 1..2, 2..4, 4..8]);
        assert_eq!(cut(8, 1024), [0..1, 1..2, 2..4, 4..6, 6..8]);
        assert_eq!(cut(1, 16), vec![0..1; 1]);
        assert_eq!(cut(3, 16), [0..1, 1..2, 2..3]);
    }
}
