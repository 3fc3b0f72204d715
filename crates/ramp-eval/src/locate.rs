//! Where a model first computes NaN or infinity.

use burn::tensor::Tensor;
use ramp_model::{CausalLm, LayerId, Role, Tap};

use crate::{error::Error, rows::to_host};

/// Runs one window again, block by block, and turns a bare [`Error::NonFinite`] into one that says where. The
/// bare error comes back when nothing can be found.
pub(crate) fn locate_non_finite(
    model: &CausalLm,
    tokens: &[u32],
    what: &'static str,
    value: f64,
    window: usize,
) -> Error {
    let unknown = Error::NonFinite { what, value, window };
    match first_non_finite(model, tokens) {
        Some(place) => Error::NonFiniteAt { what, value, window, place },
        None => unknown,
    }
}

fn first_non_finite(model: &CausalLm, tokens: &[u32]) -> Option<String> {
    let mut hidden = model.embed(&[tokens]).ok()?;
    if !finite(hidden.clone()) {
        return Some(format!("the output of {}", LayerId::TokenEmbd));
    }
    for block in 0..model.config().n_blocks {
        let mut first = First(None);
        hidden = model.run_blocks(hidden, block..block + 1, &mut first).ok()?;
        if let Some(layer) = first.0 {
            return Some(format!("the input of {layer}"));
        }
        if !finite(hidden.clone()) {
            return Some(format!("the output of {}", LayerId::Block { block, role: Role::Down }));
        }
    }
    let normed = model.finish(hidden);
    let head = if model.config().tie_word_embeddings { LayerId::TokenEmbd } else { LayerId::Output };
    let side = if finite(normed) { "output" } else { "input" };
    Some(format!("the {side} of {head} (the head)"))
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
