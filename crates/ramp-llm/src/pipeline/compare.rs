//! Several methods on one model and one text.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use burn::tensor::Device;
use ramp_eval::{
    Comparison, PairedTest, Perplexity, Protocol, Windows, compare_by_window, gptq_text, perplexity,
};
use ramp_model::{LayerId, ModelFiles, Tokenizer};
use ramp_quant::baseline::{Method, apply};
use serde::Serialize;

use super::{
    run::{Step, StepFn, calibrate},
    text::read_text,
};
use crate::error::{Error, Result};

/// Of a text that must serve for both, so much is for calibration: one window of four, the first ones.
const CALIBRATION_SHARE: usize = 4;

/// How both texts are cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum Cutting {
    /// As GPTQ and AWQ do ([`Protocol::gptq`]): rows of the data set joined by blank lines, one BOS in all.
    #[default]
    #[serde(rename = "gptq")]
    Gptq,
    /// As llama-perplexity does ([`Protocol::llama_cpp`]): the text as it is, a BOS in each window, whose second half
    /// counts.
    #[serde(rename = "llama.cpp")]
    LlamaCpp,
}

impl Cutting {
    /// The name on the command line and in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gptq => "gptq",
            Self::LlamaCpp => "llama.cpp",
        }
    }

    /// The windows of a text; at least `least`, at most `most`.
    fn windows(
        self,
        path: &Path,
        tokenizer: &Tokenizer,
        ctx: usize,
        least: usize,
        most: Option<usize>,
    ) -> Result<Windows> {
        let text = read_text(path)?;
        let (protocol, tokens) = match self {
            Self::Gptq => (Protocol::gptq(ctx), tokenizer.encode(&gptq_text(&text))?),
            Self::LlamaCpp => (Protocol::llama_cpp(ctx), tokenizer.encode_plain(&text)?),
        };
        let protocol = Protocol { min_windows: least, ..protocol.with_max_windows(most) };
        let named = |error: ramp_eval::Error| Error::Text { path: path.to_owned(), why: error.to_string() };
        protocol.windows(&tokens, tokenizer.leading_bos()).map_err(named)
    }
}

/// What is compared.
#[derive(Clone, Debug)]
pub struct CompareOptions {
    /// Hugging Face folder or GGUF file.
    pub model: PathBuf,
    /// The methods; the others are tested against the first.
    pub methods: Vec<Method>,
    /// What calibrates and what measures.
    pub texts: TextOptions,
    /// Where the model runs.
    pub device: Device,
}

/// The texts that calibrate and measure.
#[derive(Clone, Debug)]
pub struct TextOptions {
    /// The text to measure on.
    pub text: PathBuf,
    /// The text to calibrate on. Without it the first quarter of `text` is, and only the rest measures.
    pub calibration_text: Option<PathBuf>,
    /// How both texts are cut. A BOS in each window, to which much attention goes, weighs on the Gram matrices, so
    /// that calibration and measurement must agree on it.
    pub cutting: Cutting,
    /// Length of a window in tokens, no more than the model's own is used.
    pub ctx: usize,
    /// Windows to measure on, at most.
    pub chunks: Option<usize>,
    /// Tokens to calibrate on, at most.
    pub calibration_tokens: usize,
}

impl CompareOptions {
    /// The command's defaults.
    #[must_use]
    pub const fn new(model: PathBuf, methods: Vec<Method>, text: PathBuf, device: Device) -> Self {
        Self { model, methods, texts: TextOptions::new(text), device }
    }
}

impl TextOptions {
    /// The command's defaults.
    #[must_use]
    pub const fn new(text: PathBuf) -> Self {
        Self {
            text,
            calibration_text: None,
            cutting: Cutting::Gptq,
            ctx: 2048,
            chunks: None,
            calibration_tokens: 131_072,
        }
    }

    /// Windows for calibration and for the measurement; no token is in both.
    pub(super) fn windows(&self, tokenizer: &Tokenizer, ctx: usize) -> Result<(Windows, Windows)> {
        let limited = |windows: Windows| {
            let keep = (self.calibration_tokens / ctx).max(1);
            let step = windows.len().div_ceil(keep);
            windows.strided(0, step)
        };
        let cut = |path, least, most| self.cutting.windows(path, tokenizer, ctx, least, most);
        if let Some(path) = &self.calibration_text {
            return Ok((limited(cut(path, 1, None)?), cut(&self.text, 1, self.chunks)?));
        }
        let all = cut(&self.text, 2, None)?;
        let for_calibration = (all.len() / CALIBRATION_SHARE).max(1);
        let end = self.chunks.map_or(all.len(), |chunks| for_calibration.saturating_add(chunks));
        let measured = all.filtered(|at| at >= for_calibration && at < end);
        Ok((limited(all.filtered(|at| at < for_calibration)), measured))
    }
}

/// The outcome. It can be saved as JSON.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MethodComparison {
    /// Version of RAMP.
    pub version: &'static str,
    /// The model.
    pub model: PathBuf,
    /// The text.
    pub text: PathBuf,
    /// The calibration text, if it was another.
    pub calibration_text: Option<PathBuf>,
    /// Tokens that calibrated.
    pub calibration_tokens: usize,
    /// How both texts were cut.
    pub protocol: Cutting,
    /// Length of a window.
    pub ctx: usize,
    /// The unquantized model.
    pub base: Perplexity,
    /// Bytes of the blocks' matrices in f16.
    pub base_bytes: u64,
    /// Bytes of everything else in f16: embedding, head, norms, biases. No method touches it.
    pub other_bytes: u64,
    /// The methods, in their order.
    pub methods: Vec<ComparedMethod>,
}

/// A method.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ComparedMethod {
    /// Which.
    pub method: Method,
    /// Bits per weight as the paper counts them.
    pub nominal_bits: f64,
    /// Bits per weight of the blocks' matrices, with all that is stored.
    pub bits_per_weight: f64,
    /// Bytes of the blocks' matrices.
    pub bytes: u64,
    /// Seconds that quantizing took, with forward passes of its own, without the calibration pass that all share.
    pub seconds: f64,
    /// Matrices whose Hessian is singular, so that its damping was raised.
    pub raised_damping: Vec<LayerId>,
    /// Against the unquantized model.
    pub against_base: Comparison,
    /// Against the first method; `None` for itself, and with a single window.
    pub against_first: Option<AgainstFirst>,
}

/// A method against the first one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct AgainstFirst {
    /// `ln PPL(method) - ln PPL(first)`.
    pub ln_ppl_ratio: f64,
    /// Whether that is more than chance.
    pub test: PairedTest,
}

/// Calibrates once, then applies each method to the blocks' matrices and measures it.
///
/// # Errors
/// When there is no method, the model or a text cannot be used, a step fails, or `progress` stops the run.
pub fn compare_methods(options: &CompareOptions, progress: &mut StepFn<'_>) -> Result<MethodComparison> {
    let files = ModelFiles::open(&options.model)?;
    let config = files.config().clone();
    let texts = &options.texts;
    let ctx = texts.ctx.min(config.max_position_embeddings);
    let (calibration, windows) = texts.windows(&files.tokenizer()?, ctx)?;
    let base = files.load(&options.device)?;

    let stats = calibrate(&base, &calibration, true, None, progress)?;
    let mut tick = |name, done, total, unit| progress(Step { name, done, total, unit, best_kld: None });
    let n_windows = windows.len();
    let base_perplexity =
        perplexity(&base, &windows, |done| tick("evaluate base", done, n_windows, "windows"))?;

    let mut first = None;
    let mut methods = Vec::with_capacity(options.methods.len());
    for &method in &options.methods {
        let start = Instant::now();
        let mut model = base.clone();
        let applied = apply(method, &mut model, &stats, &calibration.tokens(), |done, total| {
            tick("quantize", done, total, "matrices")
        })?;
        let seconds = start.elapsed().as_secs_f64();
        let (against_base, losses) =
            compare_by_window(&model, &base, &windows, |done| tick("evaluate", done, n_windows, "windows"))?;
        let against_first = first.as_ref().and_then(|first| {
            let (ln_ppl_ratio, test) = losses.against(first)?;
            Some(AgainstFirst { ln_ppl_ratio, test })
        });
        first.get_or_insert(losses);
        let raised = applied.layers.iter().filter(|layer| layer.raised_damping.is_some());
        methods.push(ComparedMethod {
            method,
            nominal_bits: method.nominal_bits(),
            bits_per_weight: applied.bits_per_weight(),
            bytes: applied.bytes(),
            seconds,
            raised_damping: raised.map(|layer| layer.id).collect(),
            against_base,
            against_first,
        });
    }
    let blocks = config.layers().into_iter().filter(|id| id.block().is_some());
    let weights: usize = blocks.map(|id| config.n_weights(id)).sum();
    Ok(MethodComparison {
        version: env!("CARGO_PKG_VERSION"),
        model: options.model.clone(),
        text: texts.text.clone(),
        calibration_text: texts.calibration_text.clone(),
        calibration_tokens: calibration.n_tokens(),
        protocol: texts.cutting,
        ctx,
        base: base_perplexity,
        base_bytes: 2 * weights as u64,
        other_bytes: 2 * (config.n_params() - weights) as u64,
        methods,
    })
}
