//! Models of the caller's own, good and broken.

use burn::tensor::{Device, Tensor, TensorData};
use ramp_eval::{
    Error, LanguageModel, Protocol, Result, Windows, compare, perplexity,
    tasks::{Encoder, Item, Request, Task, TokenPair, evaluate, log_likelihoods},
};
use ramp_model::{CausalLm, ModelFiles};

const VOCAB: usize = 5;

/// `logits[i]` after every token: a distribution without memory.
struct Unigram {
    logits: Vec<f32>,
    /// Width of what it calls logits.
    width: usize,
}

impl Unigram {
    fn new(logits: [f32; VOCAB]) -> Self {
        Self { logits: logits.into(), width: VOCAB }
    }

    /// `-ln p` of a token.
    fn nll(&self, token: u32) -> f64 {
        let sum: f64 = self.logits.iter().map(|&x| f64::from(x).exp()).sum();
        sum.ln() - f64::from(self.logits[token as usize])
    }
}

impl LanguageModel for Unigram {
    fn vocab_size(&self) -> usize {
        VOCAB
    }

    fn states(&self, batch: &[&[u32]]) -> Result<Tensor<3>> {
        if batch.concat().contains(&4) {
            return Err(Error::custom("a four"));
        }
        let shape = [batch.len(), batch[0].len(), self.width];
        let row = self.logits.iter().copied().cycle().take(self.width);
        let data: Vec<f32> = (0..shape[0] * shape[1]).flat_map(|_| row.clone()).collect();
        Ok(Tensor::from_data(TensorData::new(data, shape), &Device::flex()))
    }
}

/// The states of another model, read a second time as a user would who has no seam.
struct Whole<'a>(&'a CausalLm);

impl LanguageModel for Whole<'_> {
    fn vocab_size(&self) -> usize {
        self.0.config().vocab_size
    }

    fn states(&self, batch: &[&[u32]]) -> Result<Tensor<3>> {
        Ok(self.0.logits(batch)?)
    }
}

fn nano() -> (ModelFiles, CausalLm) {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/nano");
    let files = ModelFiles::open(&dir).unwrap();
    let model = files.load(&Device::flex()).unwrap();
    (files, model)
}

fn windows(tokens: &[u32], ctx: usize) -> Windows {
    Protocol::gptq(ctx).windows(tokens, None).unwrap()
}

#[test]
fn perplexity_and_divergence_by_hand() {
    let model = Unigram::new([0.0, 1.0, -1.0, 2.0, 0.5]);
    let base = Unigram::new([0.0; VOCAB]);
    let windows = windows(&[0, 1, 2, 3, 3, 1, 0, 2], 4);
    let found = perplexity(&model, &windows, |_| true).unwrap();
    // Every token but the first of each window.
    let nll = [1, 2, 3, 1, 0, 2].into_iter().map(|token| model.nll(token)).sum::<f64>() / 6.0;
    assert_eq!(found.tokens, 6);
    assert!((found.mean_nll - nll).abs() < 1e-6, "{} and {nll}", found.mean_nll);

    let compared = compare(&model, &base, &windows, |_| true).unwrap();
    // From the uniform distribution: the mean of ln (1 / n) - ln q.
    let kld =
        (0..VOCAB as u32).map(|token| model.nll(token)).sum::<f64>() / VOCAB as f64 - (VOCAB as f64).ln();
    assert!((compared.mean_kld - kld).abs() < 1e-6, "{} and {kld}", compared.mean_kld);
    assert!((compared.base.mean_nll - (VOCAB as f64).ln()).abs() < 1e-6);
    assert!((compared.model.mean_nll - nll).abs() < 1e-6);
}

#[test]
fn a_seam_changes_no_bit() {
    let (files, model) = nano();
    let whole = Whole(&model);
    let tokens: Vec<u32> = (0..300).map(|i| 300 + (i * 37) % 1500).collect();
    let windows = windows(&tokens, 60);
    assert_eq!(
        perplexity(&whole, &windows, |_| true).unwrap(),
        perplexity(&model, &windows, |_| true).unwrap()
    );
    assert_eq!(compare(&whole, &model, &windows, |_| true).unwrap().ln_ppl_ratio, 0.0);

    let request = |context: &str, continuation: &str| Request {
        context: context.into(),
        continuation: continuation.into(),
    };
    let items = [Item {
        index: 0,
        requests: vec![request("Once upon a", " time"), request("", "There was a girl")],
        lengths: vec![4, 16],
        gold: 0,
    }];
    let of_files = Encoder::new(files.tokenizer().unwrap(), files.config());
    let own = Encoder::with(files.tokenizer().unwrap(), Some(1), 512);
    let pairs: Vec<TokenPair> =
        items[0].requests.iter().map(|request| own.encode_pair(request).unwrap()).collect();
    assert_eq!(
        log_likelihoods(&whole, &pairs, |_| true).unwrap(),
        log_likelihoods(&model, &pairs, |_| true).unwrap()
    );
    let ask = |model: &dyn LanguageModel, encoder| evaluate(Task::Piqa, &items, model, encoder, |_, _| true);
    assert_eq!(ask(&whole, &own).unwrap(), ask(&model, &of_files).unwrap());
}

#[test]
fn broken_models_are_errors() {
    let good = [1, 2, 3, 0, 1, 2, 3, 0];
    let fails =
        |model: &Unigram, tokens: &[u32]| perplexity(model, &windows(tokens, 4), |_| true).unwrap_err();
    let mut model = Unigram::new([0.0; VOCAB]);
    assert!(matches!(fails(&model, &[1, 2, 3, 4, 1, 2, 3, 0]), Error::Custom(_)));
    // Here the last token is scored and not given to the model.
    let rolling = Windows::rolling(&[&[1, 2, 9]], 0, 8).unwrap();
    let error = perplexity(&model, &rolling, |_| true).unwrap_err().to_string();
    assert!(error.contains("token id 9 is out of range"), "{error}");
    model.width = VOCAB - 1;
    let error = fails(&model, &good).to_string();
    assert!(error.contains("gives logits of shape [6, 4], expected [6, 5]"), "{error}");
    model = Unigram::new([0.0, f32::NAN, 0.0, 0.0, 0.0]);
    let error = fails(&model, &good);
    assert!(matches!(error, Error::NonFinite { window: 0, .. }), "{error}");

    struct Short;
    impl LanguageModel for Short {
        fn vocab_size(&self) -> usize {
            VOCAB
        }

        fn states(&self, batch: &[&[u32]]) -> Result<Tensor<3>> {
            Ok(Tensor::zeros([batch.len(), batch[0].len() - 1, VOCAB], &Device::flex()))
        }
    }
    let error = perplexity(&Short, &windows(&good, 4), |_| true).unwrap_err().to_string();
    assert!(error.contains("gives states of shape [2, 3, 5], expected [2, 4, 5]"), "{error}");
    let wide = Unigram { logits: vec![0.0; VOCAB], width: VOCAB };
    let (_, nano) = nano();
    let error = compare(&wide, &nano, &windows(&good, 4), |_| true).unwrap_err();
    assert!(matches!(error, Error::Vocabularies { base: 2048, other: VOCAB }), "{error}");
}
