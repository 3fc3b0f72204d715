//! Evaluates a model of one's own: a bigram model, counted from a text, beside the neural model in `assets/nano`.
//!
//! All that an evaluation asks for is [`LanguageModel`]: a vocabulary, and logits after every token. Look at
//! `impl LanguageModel for Bigram`; the rest reads a text and prints.
//!
//! `cargo run -p ramp-eval --example custom_model`
#![allow(clippy::print_stdout, reason = "a program at the command line")]

use std::{collections::HashMap, error::Error, fs, path::Path};

use burn::tensor::{Device, Tensor, TensorData};
use ramp_eval::{Comparison, LanguageModel, Protocol, compare};
use ramp_model::ModelFiles;

/// Jelinek-Mercer smoothing: how much the pair counts against the single token.
const PAIR_WEIGHT: f64 = 0.7;

/// `p(next | token) = w count(token, next) / count(token) + (1 - w) (count(next) + 1) / (tokens + vocab)`.
struct Bigram {
    singles: Vec<u64>,
    pairs: HashMap<u32, HashMap<u32, u64>>,
    tokens: u64,
}

impl Bigram {
    fn count(text: &[u32], vocab: usize) -> Self {
        let mut model = Self { singles: vec![0; vocab], pairs: HashMap::new(), tokens: text.len() as u64 };
        for &token in text {
            model.singles[token as usize] += 1;
        }
        for pair in text.windows(2) {
            *model.pairs.entry(pair[0]).or_default().entry(pair[1]).or_default() += 1;
        }
        model
    }

    /// `ln p(next | token)` of every next token.
    fn log_probs(&self, token: u32) -> Vec<f32> {
        let total = (self.tokens + self.singles.len() as u64) as f64;
        let mut p: Vec<f64> = self.singles.iter().map(|&n| (n + 1) as f64 / total).collect();
        // A token that was never followed by another says nothing about pairs.
        if let Some(pairs) = self.pairs.get(&token) {
            let seen = pairs.values().sum::<u64>() as f64;
            p.iter_mut().for_each(|p| *p *= 1.0 - PAIR_WEIGHT);
            for (&next, &n) in pairs {
                p[next as usize] += PAIR_WEIGHT * n as f64 / seen;
            }
        }
        p.into_iter().map(|p| p.ln() as f32).collect()
    }
}

impl LanguageModel for Bigram {
    fn vocab_size(&self) -> usize {
        self.singles.len()
    }

    /// Logarithms of probabilities are logits, and logits are good states for a model of this size.
    fn states(&self, batch: &[&[u32]]) -> ramp_eval::Result<Tensor<3>> {
        let shape = [batch.len(), batch[0].len(), self.vocab_size()];
        let mut logits = Vec::with_capacity(shape.iter().product());
        for &token in batch.iter().copied().flatten() {
            if token as usize >= self.vocab_size() {
                return Err(ramp_eval::Error::custom(format!("token {token} was never counted")));
            }
            logits.extend(self.log_probs(token));
        }
        Ok(Tensor::from_data(TensorData::new(logits, shape), &Device::flex()))
    }
}

/// The bigram model against nano on the second half of nano's sample text; it is counted from the first half.
fn evaluate() -> Result<Comparison, Box<dyn Error>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/nano");
    let files = ModelFiles::open(&dir)?;
    let text = fs::read_to_string(dir.join("sample.txt"))?;
    let tokens = files.tokenizer()?.encode(&text)?;
    let (seen, unseen) = tokens.split_at(tokens.len() / 2);
    let bigram = Bigram::count(seen, files.config().vocab_size);
    let nano = files.load(&Device::flex())?;
    let windows = Protocol::gptq(256).with_max_windows(Some(8)).windows(unseen, None)?;
    Ok(compare(&bigram, &nano, &windows, |_| true)?)
}

fn main() -> Result<(), Box<dyn Error>> {
    let c = evaluate()?;
    println!("bigram model   perplexity {:.2} +- {:.2}", c.model.perplexity, c.model.perplexity_se);
    println!("nano           perplexity {:.2} +- {:.2}", c.base.perplexity, c.base.perplexity_se);
    println!("KL divergence of the bigram model from nano: {:.4} +- {:.4} nats", c.mean_kld, c.mean_kld_se);
    Ok(())
}

#[test]
fn counting_beats_guessing_and_loses_to_nano() {
    let c = evaluate().expect("the files are in the repository");
    assert!(c.base.perplexity < c.model.perplexity && c.model.perplexity < 2048.0, "{c:?}");
    assert!(c.mean_kld > 0.1 && c.mean_kld.is_finite() && c.model.tokens == c.base.tokens, "{c:?}");
}
