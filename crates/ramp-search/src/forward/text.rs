//! The windows of an evaluation in parts, and how much of a pass each costs.

use std::{ops::Range, sync::Arc};

use ramp_eval::{Windows, rows::batches};
use ramp_model::LayerId;

/// What every device knows of the text and the model.
#[derive(Debug)]
pub(crate) struct Text {
    pub(crate) windows: Windows,
    /// Ranges of windows.
    pub(crate) parts: Vec<Range<usize>>,
    /// Tokens of each part.
    pub(crate) sizes: Vec<usize>,
    pub(crate) n_blocks: usize,
    /// Streams are kept in front of blocks 0, `stride`, `2 stride`, ...
    pub(crate) stride: usize,
    /// The matrix of each slot.
    pub(crate) ids: Arc<[LayerId]>,
}

/// Where a forward pass begins; the first place is the least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Start {
    Tokens,
    Block(usize),
}

impl Text {
    /// In front of a matrix.
    fn at(&self, slot: usize) -> Start {
        match self.ids[slot] {
            LayerId::TokenEmbd => Start::Tokens,
            LayerId::Block { block, .. } => Start::Block(block),
            LayerId::Output => Start::Block(self.n_blocks),
        }
    }

    /// The last kept stream in front of a slot's matrix.
    pub(crate) fn in_front_of(&self, slot: usize) -> Start {
        self.kept(self.at(slot))
    }

    /// Where a pass of `choices` may begin if the streams of `reference` are kept: at the first block that differs.
    pub(crate) fn start(&self, reference: Option<&[usize]>, choices: &[usize]) -> Start {
        let Some(reference) = reference else { return Start::Tokens };
        let differs = (0..choices.len()).find(|&slot| choices[slot] != reference[slot]);
        self.kept(differs.map_or(Start::Block(self.n_blocks), |slot| self.at(slot)))
    }

    const fn kept(&self, start: Start) -> Start {
        match start {
            Start::Tokens => Start::Tokens,
            Start::Block(block) => Start::Block(block / self.stride * self.stride),
        }
    }

    /// Whether a pass that begins there reads a slot's matrix. The embedding may be the head, too.
    pub(crate) fn reads(&self, start: Start, slot: usize) -> bool {
        match (start, self.ids[slot]) {
            (Start::Block(first), LayerId::Block { block, .. }) => block >= first,
            _ => true,
        }
    }

    /// Tokens of a pass, with or without the head; a pass through half of the blocks counts half.
    pub(crate) fn cost(&self, part: usize, start: Start, head: bool) -> usize {
        let ran = match start {
            Start::Tokens => self.n_blocks,
            Start::Block(block) => self.n_blocks - block,
        };
        (self.sizes[part] * (ran + usize::from(head))).div_ceil(self.n_blocks + 1)
    }
}

/// Groups of windows that fit one forward pass, cut where a race may stop: after an eighth, a quarter and a half.
pub(crate) fn parts(windows: &Windows, tokens: usize) -> Vec<Range<usize>> {
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
