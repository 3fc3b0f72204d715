//! From an allocation to its score, on fixed windows of text, with a meter of the tokens spent.

use std::{collections::HashMap, ops::Range};

use burn::tensor::Tensor;
use ramp_eval::{
    LanguageModel, Moments, Windows,
    rows::{BaseRows, batches, for_each_rows_of},
};
use ramp_model::{CausalLm, LayerId, NoTap};
use serde::{Deserialize, Serialize};

use crate::{bank::WeightBank, error::Result, problem::Problem};

/// What an allocation costs in quality.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Mean KL divergence to the unquantized model in nats.
    pub kld: f64,
    /// Standard error of `kld`.
    pub kld_se: f64,
    /// Perplexity.
    pub perplexity: f64,
    /// Tokens forwarded for this score.
    pub tokens: usize,
}

/// Scores allocations against the unquantized model on the same tokens.
///
/// The base model's next-token distributions stay on the device, `4 * vocab` bytes for each scored token.
#[derive(Debug)]
pub struct Evaluator<'a> {
    problem: &'a Problem,
    bank: &'a WeightBank,
    base: CausalLm,
    windows: Windows,
    batches: Vec<Batch>,
    base_perplexity: f64,
    memo: HashMap<Vec<usize>, Score>,
    tokens_forwarded: usize,
    evaluations: usize,
}

/// What is known of the base model on some windows.
#[derive(Debug)]
struct Batch {
    range: Range<usize>,
    /// The residual stream in front of each block, `[batch, ctx, hidden]`, and behind the last.
    hidden: Vec<Tensor<3>>,
    /// Next-token distributions of the scored rows, chunk by chunk.
    rows: Vec<BaseRows>,
}

impl<'a> Evaluator<'a> {
    /// Runs the unquantized model once and keeps what every evaluation needs.
    ///
    /// # Errors
    /// When the model fails or gives NaN or infinity.
    pub fn new(
        base: &CausalLm,
        problem: &'a Problem,
        bank: &'a WeightBank,
        windows: Windows,
    ) -> Result<Self> {
        let mut nll = Moments::default();
        let mut cached = Vec::new();
        for range in batches(&windows, base.pace().tokens) {
            let mut hidden = vec![base.embed(&windows.tokens()[range.clone()])?];
            for block in 0..base.config().n_blocks {
                let next = base.run_blocks(hidden[block].clone(), block..block + 1, &mut NoTap)?;
                hidden.push(next);
            }
            let mut kept = Vec::new();
            let last = hidden[base.config().n_blocks].clone();
            for_each_rows_of(base, last, &windows, range.clone(), |rows| {
                nll.extend(rows.nll()?);
                kept.push(rows.into_base()?);
                Ok(())
            })?;
            cached.push(Batch { range, hidden, rows: kept });
        }
        let tokens_forwarded = windows.n_tokens();
        Ok(Self {
            problem,
            bank,
            base: base.clone(),
            windows,
            batches: cached,
            base_perplexity: nll.mean().exp(),
            memo: HashMap::new(),
            tokens_forwarded,
            evaluations: 0,
        })
    }

    /// Perplexity of the unquantized model on the same tokens.
    #[must_use]
    pub const fn base_perplexity(&self) -> f64 {
        self.base_perplexity
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

    /// Tokens forwarded so far; a pass through half of the blocks counts half.
    #[must_use]
    pub const fn tokens_forwarded(&self) -> usize {
        self.tokens_forwarded
    }

    /// Evaluations so far, repeated allocations not counted.
    #[must_use]
    pub const fn evaluations(&self) -> usize {
        self.evaluations
    }

    /// Scores an allocation; one that was scored before costs nothing.
    ///
    /// # Errors
    /// When the model fails or gives NaN or infinity.
    pub fn score(&mut self, choices: &[usize]) -> Result<Score> {
        if let Some(score) = self.memo.get(choices) {
            return Ok(*score);
        }
        let mut model = self.base.clone();
        self.bank.apply(self.problem, choices, &mut model)?;
        let score = self.run(&model, Start::Tokens)?;
        self.memo.insert(choices.to_vec(), score);
        Ok(score)
    }

    /// Scores the model with a single matrix quantized. Blocks in front of it are not run again.
    ///
    /// # Errors
    /// When the model fails or gives NaN or infinity.
    pub fn score_single(&mut self, slot: usize, choice: usize) -> Result<Score> {
        let id = self.problem.slots()[slot].id;
        let mut model = self.base.clone();
        model.set_weight(id, self.bank.weight(slot, choice)?)?;
        let start = match id {
            LayerId::TokenEmbd => Start::Tokens,
            LayerId::Block { block, .. } => Start::Block(block),
            LayerId::Output => Start::Block(model.config().n_blocks),
        };
        self.run(&model, start)
    }

    fn run(&mut self, model: &CausalLm, start: Start) -> Result<Score> {
        let n_blocks = model.config().n_blocks;
        let (mut kld, mut nll) = (Moments::default(), Moments::default());
        for batch in &self.batches {
            let hidden = match start {
                Start::Tokens => {
                    let tokens = &self.windows.tokens()[batch.range.clone()];
                    model.run_blocks(model.embed(tokens)?, 0..n_blocks, &mut NoTap)?
                }
                Start::Block(block) => {
                    model.run_blocks(batch.hidden[block].clone(), block..n_blocks, &mut NoTap)?
                }
            };
            let mut base = batch.rows.iter();
            for_each_rows_of(model, hidden, &self.windows, batch.range.clone(), |rows| {
                if let Some(base) = base.next() {
                    kld.extend(rows.kl_from(base)?);
                }
                nll.extend(rows.nll()?);
                Ok(())
            })?;
        }
        let blocks_run = match start {
            Start::Tokens => n_blocks,
            Start::Block(block) => n_blocks - block,
        };
        // The head counts as one block.
        let tokens = self.windows.n_tokens() * (blocks_run + 1) / (n_blocks + 1);
        self.tokens_forwarded += tokens;
        self.evaluations += 1;
        Ok(Score { kld: kld.mean(), kld_se: kld.standard_error(), perplexity: nll.mean().exp(), tokens })
    }
}

/// Where a forward pass begins.
#[derive(Clone, Copy)]
enum Start {
    Tokens,
    Block(usize),
}
