//! One device: a copy of the model, its bank, and what the unquantized model gives on the parts that the device has.

use std::{ops::Deref, sync::Arc};

use burn::tensor::Tensor;
use ramp_eval::rows::{BaseRows, for_each_rows_of};
use ramp_model::{CausalLm, NoTap};

use super::{
    Losses,
    crew::Worker,
    text::{Start, Text},
};
use crate::{bank::WeightBank, error::Result, problem::Choices};

/// A device and what it needs to run parts.
#[derive(Debug)]
pub(crate) struct Lane<B> {
    /// Unquantized.
    model: CausalLm,
    bank: B,
    text: Arc<Text>,
    /// By part; of those that this device has run before.
    bases: Vec<Option<Base>>,
}

/// What is known of the unquantized model on a part.
#[derive(Debug)]
struct Base {
    streams: Streams,
    /// Next-token distributions of the scored rows, chunk by chunk.
    rows: Vec<BaseRows>,
}

/// Residual streams, `[batch, ctx, hidden]`, in front of blocks 0, `stride`, `2 stride`, ...; that behind the last
/// block is in front of block `n_blocks`.
#[derive(Clone, Debug)]
pub(crate) struct Streams(Vec<Tensor<3>>);

/// The streams of an allocation on a part.
#[derive(Clone, Debug)]
pub(crate) struct Reference {
    pub(crate) choices: Choices,
    streams: Streams,
}

/// Work for a device.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    /// What of, with the streams that the device has of them.
    pub(crate) parts: Vec<(usize, Option<Reference>)>,
    pub(crate) task: Task,
}

impl Order {
    /// Of parts that need no streams.
    pub(crate) fn new(parts: &[usize], task: Task) -> Self {
        Self { parts: parts.iter().map(|&part| (part, None)).collect(), task }
    }
}

/// What is done with each part.
#[derive(Clone, Debug)]
pub(crate) enum Task {
    /// The unquantized model.
    Base,
    /// An allocation. Its streams come back if they are to be remembered, and its losses if it is to be scored.
    Allocation { choices: Choices, remember: bool, score: bool },
    /// The unquantized model with one choice.
    Single { slot: usize, choice: usize },
}

/// What came of a part.
#[derive(Debug)]
pub(crate) struct Done {
    /// Nothing where nothing was scored.
    pub(crate) losses: Result<Losses>,
    pub(crate) reference: Option<Reference>,
}

impl<B: Deref<Target = WeightBank>> Lane<B> {
    pub(crate) fn new(model: CausalLm, bank: B, text: Arc<Text>) -> Self {
        let bases = text.parts.iter().map(|_| None).collect();
        Self { model, bank, text, bases }
    }

    /// Runs the unquantized model on a part, unless that was done.
    fn base(&mut self, part: usize) -> Result<Losses> {
        let mut losses = Losses::default();
        if self.bases[part].is_none() {
            let mut streams = Streams(Vec::new());
            let last = self.walk(&self.model, self.embed(&self.model, part)?, 0, Some(&mut streams.0))?;
            let mut rows = Vec::new();
            let range = self.text.parts[part].clone();
            for_each_rows_of(&self.model, last, &self.text.windows, range, |chunk| {
                losses.nll.extend(chunk.nll()?);
                rows.push(chunk.into_base()?);
                Ok(())
            })?;
            self.bases[part] = Some(Base { streams, rows });
        }
        Ok(losses)
    }

    /// The model with these choices, but for what a pass that begins there does not read.
    fn quantized(&self, start: Start, choices: &[usize]) -> Result<CausalLm> {
        let mut model = self.model.clone();
        for (slot, &choice) in choices.iter().enumerate().filter(|&(slot, _)| self.text.reads(start, slot)) {
            model.set_weight(self.text.ids[slot], self.bank.weight(slot, choice)?)?;
        }
        Ok(model)
    }

    fn allocation(
        &mut self,
        model: &CausalLm,
        part: usize,
        choices: &Choices,
        reference: Option<&Reference>,
        (remember, score): (bool, bool),
    ) -> Result<Done> {
        let (first, hidden, mut streams) = match (self.start(choices, reference), reference) {
            (Start::Block(block), Some(Reference { streams, .. })) => {
                let kept = Streams(streams.0[..=block / self.text.stride].to_vec());
                (block, kept.at(block, self.text.stride), kept)
            }
            _ => (0, self.embed(model, part)?, Streams(Vec::new())),
        };
        let last = self.walk(model, hidden, first, remember.then_some(&mut streams.0))?;
        let losses = if score { self.score(model, part, last) } else { Ok(Losses::default()) };
        let reference = remember.then(|| Reference { choices: choices.clone(), streams });
        Ok(Done { losses, reference })
    }

    fn single(&mut self, part: usize, slot: usize, choice: usize) -> Result<Done> {
        self.base(part)?;
        let mut model = self.model.clone();
        model.set_weight(self.text.ids[slot], self.bank.weight(slot, choice)?)?;
        let (first, hidden) = match (self.text.in_front_of(slot), &self.bases[part]) {
            (Start::Block(block), Some(base)) => (block, base.streams.at(block, self.text.stride)),
            _ => (0, self.embed(&model, part)?),
        };
        let last = self.walk(&model, hidden, first, None)?;
        Ok(Done { losses: self.score(&model, part, last), reference: None })
    }

    fn start(&self, choices: &[usize], reference: Option<&Reference>) -> Start {
        self.text.start(reference.map(|reference| &reference.choices[..]), choices)
    }

    fn embed(&self, model: &CausalLm, part: usize) -> Result<Tensor<3>> {
        Ok(model.embed(&self.text.windows.tokens()[self.text.parts[part].clone()])?)
    }

    /// Runs the blocks from `first` on. `streams` holds those in front of it, and gets the following ones.
    fn walk(
        &self,
        model: &CausalLm,
        mut hidden: Tensor<3>,
        first: usize,
        streams: Option<&mut Vec<Tensor<3>>>,
    ) -> Result<Tensor<3>> {
        let n_blocks = self.text.n_blocks;
        let Some(streams) = streams else {
            return Ok(model.run_blocks(hidden, first..n_blocks, &mut NoTap)?);
        };
        if streams.is_empty() {
            streams.push(hidden.clone());
        }
        for block in first..n_blocks {
            hidden = model.run_blocks(hidden, block..block + 1, &mut NoTap)?;
            if (block + 1).is_multiple_of(self.text.stride) {
                streams.push(hidden.clone());
            }
        }
        Ok(hidden)
    }

    fn score(&mut self, model: &CausalLm, part: usize, hidden: Tensor<3>) -> Result<Losses> {
        self.base(part)?;
        let mut base = self.bases[part].iter().flat_map(|base| &base.rows);
        let mut losses = Losses::default();
        let range = self.text.parts[part].clone();
        for_each_rows_of(model, hidden, &self.text.windows, range, |rows| {
            if let Some(base) = base.next() {
                losses.kld.extend(rows.kl_from(base)?);
            }
            losses.nll.extend(rows.nll()?);
            Ok(())
        })?;
        Ok(losses)
    }
}

impl Streams {
    /// The stream in front of a block where one is kept.
    fn at(&self, block: usize, stride: usize) -> Tensor<3> {
        self.0[block / stride].clone()
    }
}

impl<B: Deref<Target = WeightBank> + std::fmt::Debug> Worker for Lane<B> {
    fn run(&mut self, Order { parts, task }: &Order) -> Vec<Done> {
        let model = match task {
            Task::Allocation { choices, .. } => {
                // Of all parts, the one that begins first.
                let starts = parts.iter().map(|(_, reference)| self.start(choices, reference.as_ref()));
                let first = starts.min().unwrap_or(Start::Tokens);
                match self.quantized(first, choices) {
                    Ok(model) => model,
                    Err(error) => return vec![Done { losses: Err(error), reference: None }],
                }
            }
            Task::Base | Task::Single { .. } => self.model.clone(),
        };
        let mut done = Vec::new();
        for (part, reference) in parts {
            let outcome = match task {
                Task::Base => Ok(Done { losses: self.base(*part), reference: None }),
                Task::Allocation { choices, remember, score } => {
                    self.allocation(&model, *part, choices, reference.as_ref(), (*remember, *score))
                }
                &Task::Single { slot, choice } => self.single(*part, slot, choice),
            };
            let outcome = outcome.unwrap_or_else(|error| Done { losses: Err(error), reference: None });
            let ended = outcome.losses.is_err();
            done.push(outcome);
            if ended {
                break;
            }
        }
        done
    }

    fn is_host(&self) -> bool {
        self.model.is_on_host()
    }
}
