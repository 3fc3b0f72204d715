//! The real model, on one device or on several.

use std::{
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ramp_eval::{LanguageModel, Moments, Windows};
use ramp_model::CausalLm;

use super::{
    Forward, Losses,
    crew::{Crew, LostDevice},
    lane::{Lane, Order, Reference, Task},
    replica::Replica,
    text::{Start, Text, parts},
};
use crate::{
    bank::WeightBank,
    error::Result,
    problem::{Choices, Problem},
};

/// Bytes that the kept residual streams of one model may take. Beyond it, not every block's is kept.
pub(crate) const STREAM_BYTES: usize = 1 << 30;

/// The real model.
///
/// For each part it keeps the residual stream in front of every block of the unquantized model, for single matrices,
/// and of one allocation, the last one that ran or a pinned one: another that differs only from some block on starts
/// there. Each of both takes at most `4 * tokens * hidden_size * (n_blocks + 1)` bytes, and no more than 1 GiB: where
/// that would be more, streams of every second, third, ... block are kept and a pass starts at the last one kept.
///
/// With several devices each keeps those of its own parts. What a pass costs is what it would cost on one device, whoever
/// runs it and whatever was lost.
#[derive(Debug)]
pub(crate) struct ModelForward<'a> {
    text: Arc<Text>,
    perplexity: f64,
    /// Shared with the evaluators of other budgets.
    crew: Arc<Mutex<Crew<'a>>>,
    /// By part.
    references: Vec<Option<Kept>>,
    pinned: Option<Choices>,
}

/// Streams and the device that has them.
#[derive(Debug)]
struct Kept {
    device: usize,
    reference: Reference,
}

/// The devices of a model before they work together.
#[derive(Debug)]
pub(crate) struct Lanes<'a> {
    pub(crate) text: Arc<Text>,
    pub(crate) first: Lane<&'a WeightBank>,
    /// With their names.
    pub(crate) others: Vec<(String, Lane<Arc<WeightBank>>)>,
}

impl<'a> Lanes<'a> {
    /// What the first device and the others need. Streams take at most `bytes`, but for the one in front of the first block.
    pub(crate) fn new(
        bytes: usize,
        model: &CausalLm,
        problem: &Problem,
        bank: &'a WeightBank,
        windows: Windows,
        others: &[Replica],
    ) -> Self {
        let config = model.config();
        let stream_bytes = 4 * windows.n_tokens() * config.hidden_size;
        let kept = (bytes / stream_bytes.max(1)).max(1);
        // Those of the first device, so that every number is what it would be on it alone.
        let parts = parts(&windows, model.pace().tokens);
        let tokens = windows.tokens();
        let size = |part: &Range<usize>| tokens[part.clone()].iter().map(|window| window.len()).sum();
        let text = Arc::new(Text {
            sizes: parts.iter().map(size).collect(),
            parts,
            windows,
            n_blocks: config.n_blocks,
            stride: (config.n_blocks + 1).div_ceil(kept),
            ids: problem.slots().iter().map(|slot| slot.id).collect(),
        });
        let first = Lane::new(model.clone(), bank, text.clone());
        let others = others.iter().map(|Replica { name, model, bank }| {
            (name.clone(), Lane::new(model.clone(), bank.clone(), text.clone()))
        });
        let others = others.collect();
        Self { text, first, others }
    }

    /// Runs the unquantized model once and keeps what every evaluation needs.
    pub(crate) fn forward(self) -> Result<ModelForward<'a>> {
        let Self { text, first, others } = self;
        let mut crew = Crew::new("the first".into(), Box::new(first), text.sizes.clone());
        for (name, lane) in others {
            crew = crew.with(name, Box::new(lane));
        }
        ModelForward::of(text, crew)
    }
}

impl<'a> ModelForward<'a> {
    /// Has the crew run the unquantized model.
    pub(crate) fn of(text: Arc<Text>, mut crew: Crew<'a>) -> Result<Self> {
        let mut nll = Moments::default();
        let all: Vec<usize> = (0..text.parts.len()).collect();
        for (_, done) in crew.run(&all, |_, parts| Order::new(parts, Task::Base)) {
            nll.extend(done.losses?.nll);
        }
        let references = all.iter().map(|_| None).collect();
        let crew = Arc::new(Mutex::new(crew));
        Ok(Self { text, perplexity: nll.mean().exp(), crew, references, pinned: None })
    }

    fn start(&self, part: usize, choices: &[usize]) -> Start {
        self.text.start(self.references[part].as_ref().map(|kept| &kept.reference.choices[..]), choices)
    }

    fn holds(&self, part: usize, choices: &[usize]) -> bool {
        self.references[part].as_ref().is_some_and(|kept| kept.reference.choices == choices)
    }

    fn crew(&self) -> MutexGuard<'_, Crew<'a>> {
        self.crew.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs an allocation on some parts from where their streams are known, and keeps the streams that come back.
    fn run(
        &mut self,
        parts: &[usize],
        choices: &[usize],
        remember: bool,
        score: bool,
    ) -> Vec<Result<Losses>> {
        let task = Task::Allocation { choices: choices.to_vec(), remember, score };
        let results = {
            let references = &self.references;
            self.crew().run(parts, |device, parts| Order {
                parts: parts
                    .iter()
                    .map(|&part| {
                        let kept = references[part].as_ref().filter(|kept| kept.device == device);
                        (part, kept.map(|kept| kept.reference.clone()))
                    })
                    .collect(),
                task: task.clone(),
            })
        };
        let mut losses = Vec::with_capacity(results.len());
        for (&part, (device, done)) in parts.iter().zip(results) {
            if let Some(reference) = done.reference {
                self.references[part] = Some(Kept { device, reference });
            }
            losses.push(done.losses);
        }
        losses
    }

    /// Has streams that went with their device run again by the devices that got the parts.
    fn restore(&mut self) -> Result<()> {
        let (mut lost, crew) = (Vec::new(), self.crew());
        for (part, kept) in self.references.iter().enumerate() {
            if let Some(kept) = kept.as_ref().filter(|kept| kept.device != crew.owner(part)) {
                lost.push((part, kept.reference.choices.clone()));
            }
        }
        drop(crew);
        for (part, choices) in lost {
            self.run(&[part], &choices, true, false).into_iter().try_for_each(|result| result.map(drop))?;
        }
        Ok(())
    }
}

impl Forward for ModelForward<'_> {
    fn windows(&self) -> Vec<usize> {
        self.text.parts.iter().map(Range::len).collect()
    }

    fn base_perplexity(&self) -> f64 {
        self.perplexity
    }

    fn n_tokens(&self) -> usize {
        self.text.windows.n_tokens()
    }

    fn cost(&self, part: usize, choices: &[usize]) -> usize {
        self.text.cost(part, self.start(part, choices), true)
    }

    fn allocation(&mut self, parts: Range<usize>, choices: &[usize]) -> Vec<Result<Losses>> {
        if let Err(error) = self.restore() {
            return vec![Err(error)];
        }
        let remember = self.pinned.as_deref().is_none_or(|pinned| pinned == choices);
        self.run(&parts.collect::<Vec<_>>(), choices, remember, true)
    }

    fn single_cost(&self, part: usize, slot: usize) -> usize {
        self.text.cost(part, self.text.in_front_of(slot), true)
    }

    fn single(&mut self, parts: Range<usize>, slot: usize, choice: usize) -> Vec<Result<Losses>> {
        let parts: Vec<usize> = parts.collect();
        let task = Task::Single { slot, choice };
        let results = self.crew().run(&parts, |_, parts| Order::new(parts, task.clone()));
        results.into_iter().map(|(_, done)| done.losses).collect()
    }

    fn pin(&mut self, choices: Option<&[usize]>) {
        self.pinned = choices.map(<[usize]>::to_vec);
    }

    fn fetch_cost(&self) -> usize {
        let Some(pinned) = &self.pinned else { return 0 };
        let parts = (0..self.references.len()).filter(|&part| !self.holds(part, pinned));
        parts.map(|part| self.text.cost(part, self.start(part, pinned), false)).sum()
    }

    fn fetch(&mut self) -> Result<()> {
        let Some(pinned) = self.pinned.clone() else { return Ok(()) };
        self.restore()?;
        let missing: Vec<usize> =
            (0..self.references.len()).filter(|&part| !self.holds(part, &pinned)).collect();
        self.run(&missing, &pinned, true, false).into_iter().try_for_each(|result| result.map(drop))
    }

    fn lost(&self) -> Vec<LostDevice> {
        self.crew().lost()
    }

    fn fresh<'f>(&self) -> Box<dyn Forward + 'f>
    where
        Self: 'f,
    {
        Box::new(Self {
            text: self.text.clone(),
            perplexity: self.perplexity,
            crew: self.crew.clone(),
            references: self.references.iter().map(|_| None).collect(),
            pinned: None,
        })
    }
}
