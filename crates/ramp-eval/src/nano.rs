//! The model in `assets/`, for tests.

use std::{path::Path, sync::OnceLock};

use burn::tensor::{Device, Tensor, TensorData};
use ramp_model::{CausalLm, LayerId, ModelFiles, Precision, Role, Tokenizer};

use crate::{Error, Protocol, Windows, compare, perplexity};

fn files() -> ModelFiles {
    ModelFiles::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/nano")).unwrap()
}

pub(crate) fn nano() -> &'static CausalLm {
    static MODEL: OnceLock<CausalLm> = OnceLock::new();
    MODEL.get_or_init(|| files().load(&Device::flex()).unwrap())
}

pub(crate) fn tokenizer() -> Tokenizer {
    files().tokenizer().unwrap()
}

/// `ln p` of each token but the first, by the definition, in f64.
pub(crate) fn log_probs(tokens: &[u32]) -> Vec<f64> {
    let vocab = nano().config().vocab_size;
    let logits: Vec<f32> = nano().logits(&[tokens]).unwrap().try_into_vec_as().unwrap();
    let rows = logits.chunks_exact(vocab).zip(&tokens[1..]);
    rows.map(|(row, &next)| {
        let sum: f64 = row.iter().map(|&x| f64::from(x).exp()).sum();
        f64::from(row[next as usize]) - sum.ln()
    })
    .collect()
}

/// A copy whose matrix is replaced element by element.
fn edited(id: LayerId, edit: impl Fn(usize, f32) -> f32) -> CausalLm {
    let mut model = nano().clone();
    let shape = model.weight(id).unwrap().dims();
    let data = model.weight_data(id).unwrap().into_iter().enumerate().map(|(i, x)| edit(i, x)).collect();
    model.set_weight(id, Tensor::from_data(TensorData::new(data, shape), nano().device())).unwrap();
    model
}

fn text(n: u32) -> Vec<u32> {
    (0..n).map(|i| 300 + (i * 37) % 1500).collect()
}

/// f32 sums over the vocabulary against f64.
const CLOSE: f64 = 1e-4;

#[test]
fn rolling_perplexity_is_the_definition() {
    let document = text(11);
    let windows = Windows::rolling(&[&document], 1, 4).unwrap();
    let found = perplexity(nano(), &windows, |_| true).unwrap();
    assert_eq!(found.tokens, 11);
    let stream: Vec<u32> = [1].into_iter().chain(document).collect();
    // Four, four and three tokens; the last window sees one token more.
    let parts = [(0..5, 4), (4..9, 4), (7..12, 3)];
    let nll: f64 = parts
        .into_iter()
        .map(|(range, scored)| -log_probs(&stream[range]).iter().rev().take(scored).sum::<f64>())
        .sum();
    assert!((found.mean_nll - nll / 11.0).abs() < CLOSE, "{} and {}", found.mean_nll, nll / 11.0);
}

#[test]
fn strided_perplexity_is_the_definition() {
    let stream = text(21);
    let windows = Protocol::strided(8, 5).windows(&stream, None).unwrap();
    let found = perplexity(nano(), &windows, |_| true).unwrap();
    let parts = [(0..8, 7), (5..13, 5), (10..18, 5), (15..21, 3)];
    let nll: f64 = parts
        .into_iter()
        .map(|(range, scored)| -log_probs(&stream[range]).iter().rev().take(scored).sum::<f64>())
        .sum();
    assert!((found.mean_nll - nll / 20.0).abs() < CLOSE);
}

#[test]
fn a_model_against_itself_and_a_worse_one() {
    let windows = Protocol::gptq(32).windows(&text(256), Some(1)).unwrap();
    let same = compare(nano(), nano(), &windows, |_| true).unwrap();
    assert!(same.mean_kld.abs() < 1e-5 && same.ln_ppl_ratio == 0.0 && same.delta_p.rms == 0.0);
    assert!((same.correlation - 1.0).abs() < 1e-9);
    assert_eq!(same.test.unwrap().p_value, 1.0);

    let id = LayerId::Block { block: 1, role: Role::Down };
    let worse = edited(id, |i, x| if i % 3 == 0 { 0.0 } else { x });
    let other = compare(&worse, nano(), &windows, |_| true).unwrap();
    assert_eq!(other.base, same.model);
    assert!((other.ln_ppl_ratio - (other.model.mean_nll - other.base.mean_nll)).abs() < 1e-9);
    assert!(other.mean_kld > 0.01 && other.kld.max > other.kld.points[10].value, "{other:?}");
    assert_eq!(other.max_kld, other.kld.max);
    // Every protocol's tokens are split by windows: 31 each.
    assert_eq!(other.model.tokens, 8 * 31);
}

#[test]
fn a_model_that_overflows_says_where() {
    let id = LayerId::Block { block: 2, role: Role::Up };
    let broken = edited(id, |i, x| if i == 70 { f32::NAN } else { x });
    let windows = Protocol::gptq(16).windows(&text(64), Some(1)).unwrap();
    let message = |error: Error| error.to_string();
    for error in [
        message(perplexity(&broken, &windows, |_| true).unwrap_err()),
        message(compare(&broken, nano(), &windows, |_| true).unwrap_err()),
        message(compare(nano(), &broken, &windows, |_| true).unwrap_err()),
    ] {
        assert!(error.contains("in window 0; the input of blk.2.ffn_down.weight is the first"), "{error}");
    }
    let last = LayerId::Block { block: 3, role: Role::Down };
    let error = perplexity(&edited(last, |_, _| f32::INFINITY), &windows, |_| true).unwrap_err().to_string();
    assert!(error.contains("the output of blk.3.ffn_down.weight"), "{error}");
    let error = perplexity(&edited(LayerId::Output, |_, _| f32::NAN), &windows, |_| true).unwrap_err();
    assert!(error.to_string().contains("the output of output.weight (the head)"), "{error}");
}

#[test]
fn an_id_out_of_the_vocabulary_is_named() {
    let mut tokens = text(64);
    tokens[40] = 5000;
    let windows = Protocol::gptq(16).windows(&tokens, Some(1)).unwrap();
    let error = perplexity(nano(), &windows, |_| true).unwrap_err().to_string();
    assert!(error.contains("token id 5000 is out of range, the embedding has 2048 rows"), "{error}");
}

#[test]
fn the_caller_can_stop() {
    let windows = Protocol::gptq(16).windows(&text(64), Some(1)).unwrap();
    assert!(matches!(perplexity(nano(), &windows, |_| false), Err(Error::Interrupted)));
    assert!(matches!(compare(nano(), nano(), &windows, |_| false), Err(Error::Interrupted)));
}

#[test]
fn half_floats_are_close_and_not_equal() {
    let windows = Protocol::gptq(32).windows(&text(256), Some(1)).unwrap();
    for precision in [Precision::Bf16, Precision::F16] {
        let half = files().load_as(&Device::flex(), precision).unwrap();
        let to_f32 = compare(&half, nano(), &windows, |_| true).unwrap();
        let kld = to_f32.mean_kld;
        assert!(kld > 0.0 && kld < 2e-3, "{precision:?}: {kld}");
    }
}
