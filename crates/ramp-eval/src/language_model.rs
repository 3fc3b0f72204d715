//! What an evaluation asks of a model.

use burn::tensor::Tensor;
use ramp_model::{CausalLm, LayerId, NoTap, Role, Tap};

use crate::{error::Result, rows::to_host};

/// A model that gives each token a distribution over the next one. Implement it to evaluate a model of your own.
///
/// There are two steps, because a table of logits for a whole window is larger than everything else that an
/// evaluation needs: [`states`](Self::states) runs the model, and [`logits_of`](Self::logits_of) is asked for the
/// positions that count, some at a time. A model without such a seam gives its logits as states and leaves the
/// second step as it is.
pub trait LanguageModel {
    /// Number of tokens: the length of a row of logits.
    fn vocab_size(&self) -> usize;

    /// Runs a batch of equally long rows, none of them empty, and gives a state for every position,
    /// `[batch, seq, width]`. A state must not depend on tokens behind its position nor on other rows.
    ///
    /// # Errors
    /// When the model cannot run the batch, such as for an id that it does not know or a row that is too long;
    /// [`Error::custom`](crate::Error::custom) takes any error.
    fn states(&self, batch: &[&[u32]]) -> Result<Tensor<3>>;

    /// Logits of the token that follows, `[rows, vocab_size]`, from some of the states, `[rows, width]`. They need
    /// not be normalised.
    ///
    /// # Errors
    /// When the model fails.
    fn logits_of(&self, states: Tensor<2>) -> Result<Tensor<2>> {
        Ok(states)
    }

    /// How much is computed at once: what the caches hold, for a CPU.
    fn pace(&self) -> Pace {
        Pace::default()
    }

    /// Where in the model NaN or infinity comes up first when it reads `tokens`, in words for a message such as "the
    /// input of blk.2.ffn_down.weight". Asked only after a result was not finite.
    fn first_non_finite(&self, tokens: &[u32]) -> Option<String> {
        let _ = tokens;
        None
    }
}

/// How much of an evaluation exists at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Tokens run through the blocks at once, at most; a longer window runs alone.
    pub tokens: usize,
    /// Logits that exist at once, about: rows times tokens of the vocabulary.
    pub logits: usize,
}

impl Default for Pace {
    /// For a CPU: 2048 tokens and 8 MiB of logits, what a core's cache holds, and a buffer that is used again.
    fn default() -> Self {
        Self { tokens: 2048, logits: 1 << 21 }
    }
}

impl Pace {
    /// For a GPU, which is busy only with large products: 8192 tokens and 256 MiB of logits.
    pub const GPU: Self = Self { tokens: 8192, logits: 1 << 26 };
}

/// States are the residual stream behind the last block; the final norm and the head follow row by row.
impl LanguageModel for CausalLm {
    fn vocab_size(&self) -> usize {
        self.config().vocab_size
    }

    fn states(&self, batch: &[&[u32]]) -> Result<Tensor<3>> {
        Ok(self.run_blocks(self.embed(batch)?, 0..self.config().n_blocks, &mut NoTap)?)
    }

    fn logits_of(&self, states: Tensor<2>) -> Result<Tensor<2>> {
        Ok(self.head(self.finish(states.unsqueeze())))
    }

    fn pace(&self) -> Pace {
        if self.is_on_host() { Pace::default() } else { Pace::GPU }
    }

    /// Runs the window again, block by block.
    fn first_non_finite(&self, tokens: &[u32]) -> Option<String> {
        let mut hidden = self.embed(&[tokens]).ok()?;
        if !finite(hidden.clone()) {
            return Some(format!("the output of {}", LayerId::TokenEmbd));
        }
        for block in 0..self.config().n_blocks {
            let mut first = First(None);
            hidden = self.run_blocks(hidden, block..block + 1, &mut first).ok()?;
            if let Some(layer) = first.0 {
                return Some(format!("the input of {layer}"));
            }
            if !finite(hidden.clone()) {
                return Some(format!("the output of {}", LayerId::Block { block, role: Role::Down }));
            }
        }
        let normed = self.finish(hidden);
        let head = if self.config().tie_word_embeddings { LayerId::TokenEmbd } else { LayerId::Output };
        let side = if finite(normed) { "output" } else { "input" };
        Some(format!("the {side} of {head} (the head)"))
    }
}

/// The first layer whose input is not finite.
struct First(Option<LayerId>);

impl Tap for First {
    fn observe(&mut self, layers: &[LayerId], input: &Tensor<2>) -> ramp_model::Result<()> {
        if self.0.is_none() && !finite(input.clone()) {
            self.0 = layers.first().copied();
        }
        Ok(())
    }
}

fn finite<const D: usize>(tensor: Tensor<D>) -> bool {
    // A tensor that cannot be read is another error, which the caller has met already.
    to_host(tensor).map_or(true, |values| values.iter().all(|x| x.is_finite()))
}
