//! Memory and time of a run, by rules that fit on a page.

use ramp_model::{LayerId, ModelConfig, Role};
use ramp_quant::Rounding;
use ramp_search::{Credit, EvoPress, Measurements, Polish, Problem, SacSearchConfig, WalkSearchConfig};
use serde::Serialize;

use super::{super::options::AllocatorKind, PlanOptions};

/// Bytes of an f32: everything on the device is one.
const F32: u64 = 4;
/// Models run a few windows at once, up to this many tokens (`ramp_eval::rows`).
const BATCH_TOKENS: u64 = 2048;

/// Bytes on the device when everything of a run is there at once. Temporary copies of single matrices and
/// activations are not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// The model, as f32.
    pub weights: u64,
    /// The matrices that folding changes (those behind a norm), next to the originals.
    pub folded: u64,
    /// Gram matrices of the inputs, in f64 on the host, for GPTQ rounding.
    pub gram: u64,
    /// The weight bank: every matrix in every format, as f32.
    pub bank: u64,
    /// The residual stream in front of each block, on the search tokens.
    pub hidden: u64,
    /// Log-probabilities of the unquantized model on the search tokens.
    pub logits: u64,
    /// The file, read back as f32, and the log-probabilities of one batch of two models.
    pub evaluation: u64,
    /// All of them.
    pub total: u64,
}

impl Memory {
    pub(super) fn estimate(options: &PlanOptions, problem: &Problem, config: &ModelConfig) -> Self {
        let parameters = config.n_params() as u64;
        let weights = F32.saturating_mul(parameters);
        let folded = [config.architecture.attn_inputs(), config.architecture.ffn_inputs()]
            .concat()
            .into_iter()
            .map(|role| F32 * config.n_weights(LayerId::Block { block: 0, role }) as u64)
            .sum::<u64>()
            .saturating_mul(config.n_blocks as u64)
            .saturating_mul(u64::from(options.fold));
        // Layers behind one norm share an input.
        let square = |width: usize| 8 * (width * width) as u64;
        let shared = [config.architecture.attn_inputs(), config.architecture.ffn_inputs()];
        let inputs = shared.iter().filter_map(|roles| roles.first()).chain(&[Role::O, Role::Down]);
        let block: u64 = inputs.map(|&role| square(config.shape(LayerId::Block { block: 0, role })[1])).sum();
        let head = if config.tie_word_embeddings { 0 } else { square(config.hidden_size) };
        let gram = (config.n_blocks as u64).saturating_mul(block).saturating_add(head)
            * u64::from(matches!(options.rounding, Rounding::Gptq(_)));
        let bank = problem
            .slots()
            .iter()
            .map(|slot| F32 * slot.weights * slot.choices.len() as u64)
            .fold(0, u64::saturating_add);
        let search = windowed(options, config, options.search_tokens);
        let hidden = F32.saturating_mul(search * (config.n_blocks as u64 + 1) * config.hidden_size as u64);
        let vocab = config.vocab_size as u64;
        let logits = F32.saturating_mul(search * vocab);
        let batch = BATCH_TOKENS.max(ctx(options, config));
        let evaluation = weights.saturating_add(2 * F32 * batch * vocab);
        let parts = [weights, folded, gram, bank, hidden, logits, evaluation];
        let total = parts.into_iter().fold(0, u64::saturating_add);
        Self { weights, folded, gram, bank, hidden, logits, evaluation, total }
    }
}

/// Tokens that a run forwards through the whole model. A pass through half of the blocks counts half.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Work {
    /// For activation statistics.
    pub calibration: u64,
    /// One evaluation for every matrix in its cheapest format, from the matrix's block on.
    pub sensitivity: u64,
    /// The unquantized model, the baselines, and one evaluation for each episode.
    pub search: u64,
    /// The file and the uniform allocation, each with the unquantized model on the held-out tokens.
    pub report: u64,
    /// Episodes of the agent.
    pub episodes: u64,
    /// Gradient updates of the agent.
    pub updates: u64,
}

impl Work {
    pub(super) fn estimate(options: &PlanOptions, problem: &Problem, config: &ModelConfig) -> Self {
        let search = windowed(options, config, options.search_tokens);
        let sac = SacSearchConfig::new(options.mode, 0);
        let of_walk = |walk: &WalkSearchConfig| {
            let pretraining = walk.pretraining_updates + walk.cloning_steps;
            (walk.episodes, walk.updates_per_episode, pretraining)
        };
        let (episodes, per_episode, pretraining) = match options.allocator {
            AllocatorKind::Uniform
            | AllocatorKind::Knapsack
            | AllocatorKind::Proxy
            | AllocatorKind::Polish
            | AllocatorKind::Evopress => (0, Some(0), 0),
            AllocatorKind::Sac => {
                (sac.episodes, sac.updates_per_episode, sac.pretraining_updates + sac.cloning_steps)
            }
            AllocatorKind::Discrete => of_walk(&WalkSearchConfig::discrete(0)),
            AllocatorKind::Ppo => of_walk(&WalkSearchConfig::ppo(0)),
        };
        let measures = match options.allocator {
            AllocatorKind::Uniform | AllocatorKind::Proxy | AllocatorKind::Evopress => false,
            AllocatorKind::Knapsack
            | AllocatorKind::Polish
            | AllocatorKind::Discrete
            | AllocatorKind::Ppo => true,
            AllocatorKind::Sac => sac.credit == Credit::Lagrangian,
        };
        let learns = options.allocator.learns();
        let episodes = if learns { options.episodes.unwrap_or(episodes) as u64 } else { 0 };
        // At most: races and reused prefixes make it less.
        let scored = match options.allocator {
            AllocatorKind::Polish => Polish::default().trials as u64,
            AllocatorKind::Evopress => EvoPress::new(0).full_evaluations() as u64,
            _ => 0,
        };
        let per_episode = per_episode.unwrap_or(problem.slots().len()) as u64;
        let pretraining = pretraining as u64;
        // The unquantized model, uniform, knapsack, every episode, the policy at its end.
        let allocations = 2 + u64::from(measures) + episodes + u64::from(learns) + scored;
        Self {
            calibration: windowed(options, config, options.calibration_tokens),
            sensitivity: if measures { sensitivity(problem, config, search) } else { 0 },
            search: allocations.saturating_mul(search),
            report: 4 * windowed(options, config, options.report_tokens),
            episodes,
            updates: if learns {
                episodes.saturating_mul(per_episode).saturating_add(pretraining)
            } else {
                0
            },
        }
    }
}

/// Each matrix is measured from its own block on; the head counts as one block.
fn sensitivity(problem: &Problem, config: &ModelConfig, tokens: u64) -> u64 {
    let n_blocks = config.n_blocks as u64;
    let passes = problem.slots().iter().map(|slot| {
        let blocks_run = match slot.id {
            LayerId::TokenEmbd => n_blocks,
            LayerId::Block { block, .. } => n_blocks - block as u64,
            LayerId::Output => 0,
        };
        // A run measures as `SearchContext::new` has it.
        let choices = match Measurements::default() {
            Measurements::Cheapest => slot.choices.len().min(1),
            Measurements::Every => slot.choices.len(),
        };
        tokens * (blocks_run + 1) / (n_blocks + 1) * choices as u64
    });
    passes.sum()
}

/// Wall-clock seconds. An estimate: the tokens forwarded times two floating-point operations for each weight
/// that multiplies, over the measured rate of one multiplication; attention itself is not counted.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Seconds {
    /// Activation statistics.
    pub calibrate: f64,
    /// Encoding every matrix in every format of the action set, and once more into the file.
    pub encode: f64,
    /// Sensitivities.
    pub sensitivity: f64,
    /// Evaluations of allocations.
    pub search: f64,
    /// Updates of the agent.
    pub agent: f64,
    /// The report.
    pub report: f64,
    /// All of them.
    pub total: f64,
}

impl Seconds {
    pub(super) fn estimate(
        options: &PlanOptions,
        problem: &Problem,
        config: &ModelConfig,
        work: &Work,
    ) -> Self {
        let rates = &options.rates;
        // The embedding is looked up, not multiplied, unless it is the head, too.
        let looked_up = if config.tie_word_embeddings { 0 } else { config.n_weights(LayerId::TokenEmbd) };
        let flops_per_token = 2.0 * (config.n_params() - looked_up) as f64;
        let forward = |tokens: u64| tokens as f64 * flops_per_token / rates.model_flops;
        let encoded: u64 =
            problem.slots().iter().map(|slot| slot.weights * (slot.choices.len() as u64 + 1)).sum();
        let (calibrate, encode) = (forward(work.calibration), encoded as f64 / rates.encode_weights);
        let (sensitivity, search) = (forward(work.sensitivity), forward(work.search));
        let agent = work.updates as f64 * update_flops(options) / rates.agent_flops;
        let report = forward(work.report);
        let total = calibrate + encode + sensitivity + search + agent + report;
        Self { calibrate, encode, sensitivity, search, agent, report, total }
    }
}

/// Operations of one update of the agent (Algorithm 1): a backward pass counts as two forward ones.
fn update_flops(options: &PlanOptions) -> f64 {
    let agent = SacSearchConfig::new(options.mode, 0).agent;
    let [first, second, third] = agent.hidden;
    let net = |inputs: usize, outputs: usize| {
        2.0 * (inputs * first + first * second + second * third + third * outputs) as f64
    };
    let actor = net(agent.state_dim, 2 * agent.action_dim);
    let critic = net(agent.state_dim + agent.action_dim, 1);
    // Two target critics forward; two critics forward and back for their own loss and for the actor's; the
    // actor forward for the target, forward and back for its loss.
    agent.batch_size as f64 * ((2.0 + 6.0 + 6.0) * critic + (1.0 + 3.0) * actor)
}

/// Window length.
fn ctx(options: &PlanOptions, config: &ModelConfig) -> u64 {
    options.ctx.min(config.max_position_embeddings).max(1) as u64
}

/// Tokens of whole windows, one at least.
fn windowed(options: &PlanOptions, config: &ModelConfig, tokens: usize) -> u64 {
    let ctx = ctx(options, config);
    (tokens as u64 / ctx).max(1) * ctx
}
