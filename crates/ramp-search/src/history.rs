//! What a training run did, episode by episode, as one JSON document: everything that its figures are drawn from.

mod derived;
mod principal;
#[cfg(test)]
mod tests;

use std::{fs, io::Write as _, path::Path};

use serde::{Deserialize, Serialize};

pub use derived::{RoleBits, Transitions, smoothed};
pub use principal::Component;

use crate::{
    allocator::CurvePoint,
    error::{Error, Result},
    problem::{Choices, Problem},
};

/// Version of the document.
const LOG_VERSION: u32 = 1;
/// A log of thousands of episodes over hundreds of layers has some megabytes; nothing sensible is larger.
const MAX_LOG_BYTES: u64 = 1 << 30;

/// The history of one training run on one model and budget.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingLog {
    /// Version of the document.
    pub version: u32,
    /// Name of the model.
    pub model: String,
    /// The allocator: `sac`, `discrete`, `ppo`, ...
    pub agent: String,
    /// The budget, with its unit.
    pub budget: String,
    /// Seed of everything random.
    pub seed: u64,
    /// Every decision of the search, as its configuration serializes.
    pub config: serde_json::Value,
    /// Perplexity of the unquantized model on the search windows.
    pub base_perplexity: f64,
    /// KL divergence of the uniform allocation at the same budget on them, in nats.
    pub uniform_kld: f64,
    /// Perplexity of the uniform allocation on them.
    pub uniform_perplexity: f64,
    /// The formats that the search chose from, cheapest first.
    pub formats: Vec<String>,
    /// Names of the static features.
    pub feature_names: Vec<String>,
    /// The layers, in execution order.
    pub slots: Vec<LoggedSlot>,
    /// The episodes, in their order.
    pub episodes: Vec<EpisodeRecord>,
    /// The allocation found; empty while the run goes on.
    pub found: Choices,
}

/// A layer of the model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoggedSlot {
    /// GGUF name.
    pub name: String,
    /// The part of the name that says what it does: `attn_q`, `ffn_down`, `token_embd`, `output`, ...
    pub role: String,
    /// Index of its block; `None` for embedding and head.
    pub block: Option<usize>,
    /// Number of weights.
    pub weights: u64,
    /// What it can be stored as, cheapest first.
    pub choices: Vec<LoggedChoice>,
    /// Its static features, not normalised, in the order of [`TrainingLog::feature_names`]; empty if none were used.
    pub features: Vec<f32>,
}

/// One way to store a layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoggedChoice {
    /// The format.
    pub format: String,
    /// Its nominal bits, the paper's unit.
    pub bits: f64,
    /// Bytes in the file.
    pub bytes: u64,
}

/// One episode.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpisodeRecord {
    /// Episode, from 1.
    pub episode: usize,
    /// Tokens forwarded by the whole search up to here.
    pub tokens: usize,
    /// The episode's reward.
    pub reward: f64,
    /// KL divergence of its allocation in nats; `None` if the evaluation gave no number.
    pub kld: Option<f64>,
    /// Perplexity of its allocation on the search windows; `None` if the evaluation gave no number.
    pub perplexity: Option<f64>,
    /// Mean nominal bits over the block matrices.
    pub mean_bits: f64,
    /// Size of its file in bytes.
    pub bytes: u64,
    /// Whether it is within the budget.
    pub fits: bool,
    /// Least KL divergence so far among allocations within the budget; `None` before there is one.
    pub best_kld: Option<f64>,
    /// Least perplexity so far among allocations within the budget; `None` before there is one.
    pub best_perplexity: Option<f64>,
    /// The agent's temperature; 0 for agents without one.
    pub alpha: f64,
    /// Mean losses and entropy of the policy over the episode's updates; `None` without an update.
    pub learning: Option<Learning>,
    /// What each slot was given, as an index into its choices.
    pub choices: Choices,
}

/// What an episode's updates saw, on average.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Learning {
    /// Loss of the actor in reward units.
    pub actor_loss: f64,
    /// Loss of the critics in squared reward units.
    pub critic_loss: f64,
    /// Entropy of the policy in nats.
    pub entropy: f64,
}

/// Sums [`Learning`] over updates.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct MeanLearning {
    sums: [f64; 3],
    updates: usize,
}

impl MeanLearning {
    pub(crate) fn add(&mut self, actor_loss: f64, critic_loss: f64, entropy: f64) {
        for (sum, value) in self.sums.iter_mut().zip([actor_loss, critic_loss, entropy]) {
            *sum += value;
        }
        self.updates += 1;
    }

    pub(crate) fn get(self) -> Option<Learning> {
        let [actor_loss, critic_loss, entropy] = self.sums.map(|sum| sum / self.updates as f64);
        (self.updates > 0).then_some(Learning { actor_loss, critic_loss, entropy })
    }
}

/// What a log says about its run before the first episode.
#[derive(Clone, Debug)]
pub struct LogHeader {
    /// Name of the model.
    pub model: String,
    /// The allocator.
    pub agent: String,
    /// Seed of everything random.
    pub seed: u64,
    /// Every decision of the search.
    pub config: serde_json::Value,
    /// Perplexity of the unquantized model on the search windows.
    pub base_perplexity: f64,
    /// KL divergence of the uniform allocation on them, in nats.
    pub uniform_kld: f64,
    /// Perplexity of the uniform allocation on them.
    pub uniform_perplexity: f64,
    /// Names of the static features.
    pub feature_names: Vec<String>,
    /// Static features by slot; empty if none were used.
    pub features: Vec<Vec<f32>>,
}

impl TrainingLog {
    /// A log without episodes.
    #[must_use]
    pub fn new(problem: &Problem, header: LogHeader) -> Self {
        let slots = problem.slots().iter().enumerate();
        let slots = slots.map(|(at, slot)| LoggedSlot {
            name: slot.id.to_string(),
            role: role_name(slot.id),
            block: slot.id.block(),
            weights: slot.weights,
            choices: slot
                .choices
                .iter()
                .map(|choice| LoggedChoice {
                    format: choice.format.to_string(),
                    bits: choice.format.nominal_bits(),
                    bytes: choice.bytes,
                })
                .collect(),
            features: header.features.get(at).cloned().unwrap_or_default(),
        });
        Self {
            version: LOG_VERSION,
            model: header.model,
            agent: header.agent,
            budget: problem.budget().to_string(),
            seed: header.seed,
            config: header.config,
            base_perplexity: header.base_perplexity,
            uniform_kld: header.uniform_kld,
            uniform_perplexity: header.uniform_perplexity,
            formats: formats(problem),
            feature_names: header.feature_names,
            slots: slots.collect(),
            episodes: Vec::new(),
            found: Vec::new(),
        }
    }

    /// The episodes that gave a number, as points of a curve.
    #[must_use]
    pub fn curve(&self) -> Vec<CurvePoint> {
        let scored = self.episodes.iter().filter_map(|record| {
            let (kld, perplexity) = (record.kld?, record.perplexity?);
            Some(CurvePoint {
                episode: record.episode,
                tokens: record.tokens,
                kld,
                perplexity,
                mean_bits: record.mean_bits,
                reward: record.reward,
                best_kld: record.best_kld.unwrap_or(kld),
                alpha: record.alpha,
            })
        });
        scored.collect()
    }

    /// Episodes whose evaluation gave no number.
    #[must_use]
    pub fn failed_episodes(&self) -> usize {
        self.episodes.iter().filter(|record| record.kld.is_none()).count()
    }

    /// Writes the log as JSON into a file that is complete or absent.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        Ok(ramp_gguf::write_atomically(path, |file| {
            serde_json::to_writer(&mut *file, self)?;
            file.write_all(b"\n")
        })?)
    }

    /// Reads a log.
    ///
    /// # Errors
    /// [`Error::Log`] when the file cannot be read, is no log, is of another version, or has choices that its slots do
    /// not have.
    pub fn load(path: &Path) -> Result<Self> {
        Self::parse(&read(path)?, path)
    }

    /// Reads a file with one log, or with a list of logs, as a training on several models and budgets writes it.
    ///
    /// # Errors
    /// As [`TrainingLog::load`].
    pub fn load_all(path: &Path) -> Result<Vec<Self>> {
        let fail = |why: String| Error::Log { path: path.to_owned(), why };
        let bytes = read(path)?;
        let is_list = bytes.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
        if !is_list {
            return Ok(vec![Self::parse(&bytes, path)?]);
        }
        let logs: Vec<Self> = serde_json::from_slice(&bytes).map_err(|e| fail(e.to_string()))?;
        for log in &logs {
            log.check().map_err(fail)?;
        }
        Ok(logs)
    }

    fn parse(bytes: &[u8], path: &Path) -> Result<Self> {
        let fail = |why: String| Error::Log { path: path.to_owned(), why };
        let log: Self = serde_json::from_slice(bytes).map_err(|e| fail(e.to_string()))?;
        log.check().map_err(fail)?;
        Ok(log)
    }

    /// Whether the document holds together, so that no figure reads beyond a list.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.version != LOG_VERSION {
            return Err(format!("it is of version {}, expected {LOG_VERSION}", self.version));
        }
        for slot in &self.slots {
            if slot.choices.is_empty() {
                return Err(format!("slot {} has no choices", slot.name));
            }
            let (found, expected) = (slot.features.len(), self.feature_names.len());
            if found != expected && found != 0 {
                return Err(format!("slot {} has {found} features, expected {expected}", slot.name));
            }
        }
        let named =
            self.episodes.iter().map(|record| (format!("episode {}", record.episode), &record.choices));
        let found = (!self.found.is_empty()).then(|| ("the allocation found".to_owned(), &self.found));
        for (what, choices) in named.chain(found) {
            if choices.len() != self.slots.len() {
                let (found, expected) = (choices.len(), self.slots.len());
                return Err(format!("{what} has {found} choices, expected {expected}"));
            }
            let beyond =
                choices.iter().zip(&self.slots).find(|(choice, slot)| **choice >= slot.choices.len());
            if let Some((choice, slot)) = beyond {
                return Err(format!("{what} has choice {choice} in {}, which has none such", slot.name));
            }
        }
        Ok(())
    }
}

/// The bytes of a file that may be a log.
fn read(path: &Path) -> Result<Vec<u8>> {
    let fail = |why: String| Error::Log { path: path.to_owned(), why };
    let size = fs::metadata(path).map_err(|e| fail(e.to_string()))?.len();
    if size > MAX_LOG_BYTES {
        return Err(fail(format!("it has {size} bytes, a log has at most {MAX_LOG_BYTES}")));
    }
    fs::read(path).map_err(|e| fail(e.to_string()))
}

/// The part of a layer's name that says what it does.
pub(crate) fn role_name(id: ramp_model::LayerId) -> String {
    match (id.role(), id) {
        (Some(role), _) => role.gguf_name().to_owned(),
        (None, ramp_model::LayerId::TokenEmbd) => "token_embd".to_owned(),
        (None, _) => "output".to_owned(),
    }
}

/// All formats of a problem, fallbacks included, cheapest first.
fn formats(problem: &Problem) -> Vec<String> {
    let mut all: Vec<ramp_quant::Format> =
        problem.slots().iter().flat_map(|slot| slot.choices.iter().map(|choice| choice.format)).collect();
    let key = |format: &ramp_quant::Format| (format.bits_per_weight(), format.to_string());
    all.sort_by(|a, b| {
        let ((a_bits, a_name), (b_bits, b_name)) = (key(a), key(b));
        a_bits.total_cmp(&b_bits).then(a_name.cmp(&b_name))
    });
    all.dedup();
    all.iter().map(ToString::to_string).collect()
}
