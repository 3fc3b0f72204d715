//! Log-likelihoods of many continuations, rows of similar length together.

use burn::tensor::{Int, Tensor, TensorData};

use super::pair::TokenPair;
use crate::{
    error::{Error, Result},
    language_model::LanguageModel,
    rows::{Scored, check_states, check_targets},
};

/// Tokens that [`log_likelihoods`] gives to a model, padding not counted.
#[must_use]
pub fn tokens_of(pairs: &[TokenPair]) -> usize {
    pairs.iter().map(|pair| pair.input().len()).sum()
}

/// Log-likelihood in nats of each pair's continuation, in the order of `pairs`.
///
/// Rows run longest first, as many together as fit the model's [`Pace`](crate::Pace), filled up on the right, where causal attention does
/// not look. So a value depends on the rows beside it by the rounding of f32 at most. Logits exist for the scored
/// positions only, a chunk at a time. `progress` is told the tokens done and may stop by returning `false`.
///
/// # Errors
/// When a token is not in the model's vocabulary, the model fails or gives NaN or infinity, or
/// [`Error::Interrupted`].
pub fn log_likelihoods(
    model: &dyn LanguageModel,
    pairs: &[TokenPair],
    mut progress: impl FnMut(usize) -> bool,
) -> Result<Vec<f64>> {
    let mut order: Vec<usize> = (0..pairs.len()).collect();
    order.sort_by_key(|&index| std::cmp::Reverse(pairs[index].tokens.len()));
    let mut sums = vec![0.0; pairs.len()];
    let mut done = 0;
    let mut rest = order.as_slice();
    while let Some(&longest) = rest.first() {
        let rows = (model.pace().tokens / pairs[longest].input().len().max(1)).clamp(1, rest.len());
        let (batch, after) = rest.split_at(rows);
        rest = after;
        run_batch(model, pairs, batch, &mut sums)?;
        done += batch.iter().map(|&index| pairs[index].input().len()).sum::<usize>();
        if !progress(done) {
            return Err(Error::Interrupted);
        }
    }
    Ok(sums)
}

/// `batch` holds indices of `pairs`, longest first.
fn run_batch(
    model: &dyn LanguageModel,
    pairs: &[TokenPair],
    batch: &[usize],
    sums: &mut [f64],
) -> Result<()> {
    let width = pairs[batch[0]].input().len();
    // Any token does; nothing that is scored sees it.
    let filled: Vec<Vec<u32>> = batch
        .iter()
        .map(|&index| {
            let mut row = pairs[index].input().to_vec();
            row.resize(width, 0);
            row
        })
        .collect();
    let rows: Vec<&[u32]> = filled.iter().map(Vec::as_slice).collect();
    let states = model.states(&rows)?;
    check_states(&states, batch.len(), width)?;
    let [_, _, channels] = states.dims();

    // Only the positions in front of a scored token go on to the head.
    let mut positions: Vec<i32> = Vec::new();
    let mut targets: Vec<u32> = Vec::new();
    let mut owners: Vec<usize> = Vec::new();
    for (row, &index) in batch.iter().enumerate() {
        let pair = &pairs[index];
        let end = row * width + pair.input().len();
        positions.extend((end - pair.scored..end).map(|position| position as i32));
        targets.extend(pair.targets());
        owners.extend(std::iter::repeat_n(index, pair.scored));
    }
    check_targets(&targets, model)?;
    let n = positions.len();
    let positions: Tensor<1, Int> = Tensor::from_data(TensorData::new(positions, [n]), &states.device());
    let states = states.reshape([batch.len() * width, channels]).select(0, positions);
    let scored = Scored::of(states, targets, 0);
    for range in scored.chunks(model) {
        let nll = scored.rows(model, range.clone())?.nll().map_err(|error| match error {
            Error::NonFinite { what, value, .. } => {
                let index = owners[range.start];
                let place = model.first_non_finite(pairs[index].input());
                Error::NonFinite { what, value, window: index }.at(place)
            }
            other => other,
        })?;
        owners[range].iter().zip(nll).for_each(|(&owner, nll)| sums[owner] -= nll);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nano::{log_probs, nano};

    /// f32 sums over the vocabulary against f64.
    const CLOSE: f64 = 1e-4;

    fn pair(n: u32, scored: usize) -> TokenPair {
        TokenPair { tokens: (0..n).map(|i| 300 + (i * 37 + n) % 1500).collect(), scored }
    }

    /// More than fit one batch, of many lengths.
    fn pairs() -> Vec<TokenPair> {
        (0..60).map(|i| pair(4 + (i * 7) % 90, 1 + (i % 3) as usize)).collect()
    }

    #[test]
    fn likelihoods_are_the_definition_whatever_is_beside_them() {
        let pairs = pairs();
        assert!(tokens_of(&pairs) > nano().pace().tokens);
        let mut seen = Vec::new();
        let together = log_likelihoods(nano(), &pairs, |done| {
            seen.push(done);
            true
        })
        .unwrap();
        assert!(seen.len() > 1 && seen.is_sorted() && seen.last() == Some(&tokens_of(&pairs)));
        for (pair, &found) in pairs.iter().zip(&together) {
            let expected: f64 = log_probs(&pair.tokens).iter().rev().take(pair.scored).sum();
            assert!((found - expected).abs() < CLOSE, "{found} and {expected}");
        }
        for index in [0, 17, 59] {
            let alone = log_likelihoods(nano(), &pairs[index..=index], |_| true).unwrap();
            assert!((alone[0] - together[index]).abs() < CLOSE);
        }
        // Once more: the same bits.
        assert_eq!(log_likelihoods(nano(), &pairs, |_| true).unwrap(), together);
        assert!(log_likelihoods(nano(), &[], |_| true).unwrap().is_empty());
    }

    #[test]
    fn ids_out_of_the_vocabulary_are_named() {
        for at in [2, 9] {
            let mut bad = pair(10, 2);
            bad.tokens[at] = 2048;
            let error = log_likelihoods(nano(), &[pair(5, 1), bad], |_| true).unwrap_err().to_string();
            assert!(error.contains("token id 2048 is out of range"), "{error}");
        }
    }

    #[test]
    fn the_caller_can_stop() {
        assert!(matches!(log_likelihoods(nano(), &pairs(), |_| false), Err(Error::Interrupted)));
    }
}
