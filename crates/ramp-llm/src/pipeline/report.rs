//! What a run did and what it cost.

use std::path::PathBuf;

use ramp_eval::Comparison;
use ramp_model::LayerId;
use ramp_quant::{Budget, Format, LearnedBlock, Rounding};
use ramp_search::{CurvePoint, Score, reward::RewardText};
use serde::{Deserialize, Serialize};

/// The result of a quantization run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Version of RAMP.
    pub version: &'static str,
    /// The model read.
    pub model: PathBuf,
    /// The file written.
    pub output: PathBuf,
    /// The budget given.
    pub budget: Budget,
    /// Size of the file in bytes.
    pub file_bytes: u64,
    /// Bits per weight over all matrices.
    pub bits_per_weight: f64,
    /// Mean nominal bits over the block matrices, unweighted: the paper's unit.
    pub mean_bits: f64,
    /// How the allocation was found.
    pub allocator: String,
    /// Where the allocation comes from, such as `episode 12`.
    pub origin: String,
    /// Seed of the run.
    pub seed: u64,
    /// Whether scales were folded.
    pub folded: bool,
    /// How codes were chosen.
    pub rounding: Rounding,
    /// How far learning the codes came, block by block; empty when they were not learned.
    pub learned: Vec<LearnedBlock>,
    /// What the search was rewarded on.
    pub reward_text: RewardText,
    /// The format of every matrix.
    pub layers: Vec<LayerReport>,
    /// What each allocator reached on the search windows, at the same budget.
    pub candidates: Vec<Candidate>,
    /// Quality on held-out windows: the file written, decoded from its own bytes.
    pub after: Quality,
    /// Quality of the uniform allocation at the same budget, on the same windows.
    pub uniform: Quality,
    /// Perplexity of the unquantized model on the same windows.
    pub base_perplexity: f64,
    /// Its standard error.
    pub base_perplexity_se: f64,
    /// Tokens forwarded by calibration and search.
    pub tokens_forwarded: usize,
    /// History of the search.
    pub curve: Vec<CurvePoint>,
    /// Things to know, such as a sliding window that llama.cpp ignores.
    pub warnings: Vec<String>,
    /// Wall-clock seconds, step by step.
    pub seconds: Vec<(String, f64)>,
}

/// One matrix of the file.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct LayerReport {
    /// GGUF name.
    pub name: LayerId,
    /// `[out, in]`.
    pub shape: [usize; 2],
    /// Its format.
    pub format: Format,
    /// Its bytes, padding included.
    pub bytes: u64,
}

/// An allocator's result on the search windows.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Candidate {
    /// The allocator.
    pub allocator: String,
    /// Size of its file in bytes.
    pub file_bytes: u64,
    /// Bits per weight over all matrices.
    pub bits_per_weight: f64,
    /// Its score.
    pub score: Score,
}

/// Quality against the unquantized model on held-out windows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quality {
    /// Perplexity.
    pub perplexity: f64,
    /// Its standard error.
    pub perplexity_se: f64,
    /// Mean KL divergence in nats.
    pub kld: f64,
    /// Its standard error.
    pub kld_se: f64,
    /// Share of tokens with the same most probable token.
    pub same_top1: f64,
    /// Tokens scored.
    pub tokens: u64,
}

impl From<Comparison> for Quality {
    fn from(c: Comparison) -> Self {
        Self {
            perplexity: c.model.perplexity,
            perplexity_se: c.model.perplexity_se,
            kld: c.mean_kld,
            kld_se: c.mean_kld_se,
            same_top1: c.same_top1,
            tokens: c.model.tokens,
        }
    }
}
