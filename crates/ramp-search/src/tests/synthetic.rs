//! A model that is a formula, so that the best allocation is known.
//!
//! The divergence of an allocation is the sum of its layers' costs, which are role x depth x a random factor x what a
//! format costs, and for pairs of layers a share of the geometric mean of their costs on top. Windows differ in what
//! they think of each layer, and agree with the formula on average.

use std::ops::Range;

use ramp_embed::{FeatureConfig, FeatureTable};
use ramp_gguf::Metadata;
use ramp_model::ModelConfig;
use ramp_quant::Budget;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{
    ActionSet, Error, Evaluator, Features, Problem, Result, SearchContext, Sensitivity, WeightBank,
    forward::{Forward, Losses},
};

const WINDOWS: [usize; 4] = [1, 1, 2, 4];
const WINDOW_TOKENS: usize = 64;

/// A made-up model under a budget.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) problem: Problem,
    pub(crate) bank: WeightBank,
    model: Formula,
}

#[derive(Clone, Debug)]
struct Formula {
    /// By slot and choice, in nats.
    costs: Vec<Vec<f64>>,
    /// Pairs of slots that make each other worse, by a share.
    coupling: Vec<(usize, usize, f64)>,
    /// By window and slot; mean 1 over the windows.
    opinions: Vec<Vec<f64>>,
}

impl World {
    /// `coupling` is the share of what all pairs add; the errors that the bank knows tell half of
    /// how the logarithms of the costs differ, and are off by a factor of `exp(±error)`.
    pub(crate) fn new(
        config: &ModelConfig,
        actions: &ActionSet,
        budget: Budget,
        coupling: f64,
        error: f64,
        seed: u64,
    ) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let problem = Problem::new(config, &Metadata::new(), actions, budget).unwrap();
        let n = problem.slots().len();
        let roles: Vec<f64> = (0..10).map(|_| (2.0 * rng.random::<f64>() - 1.0).exp()).collect();
        let layer = |slot: usize, rng: &mut ChaCha8Rng| {
            let id = problem.slots()[slot].id;
            let role = id.role().map_or(8 + usize::from(id.block().is_none()), |role| role as usize);
            1e-3 * roles[role] * (1.6 * rng.random::<f64>() - 0.8).exp()
        };
        let scales: Vec<f64> = (0..n).map(|slot| layer(slot, &mut rng)).collect();
        // A bit less makes four times the squared error.
        let formats = |slot: usize| {
            let choices = problem.slots()[slot].choices.iter();
            choices.map(|c| 4f64.powf(4.5 - c.format.ggml().unwrap().bits_per_weight())).collect::<Vec<f64>>()
        };
        let costs: Vec<Vec<f64>> =
            (0..n).map(|slot| formats(slot).iter().map(|g| scales[slot] * g).collect()).collect();
        let errors: Vec<Vec<f64>> = (0..n)
            .map(|slot| {
                let off = (error * (2.0 * rng.random::<f64>() - 1.0)).exp();
                let known = (scales[slot] / 1e-3).sqrt();
                formats(slot).iter().map(|g| 1e-2 * off * known * g).collect()
            })
            .collect();
        let pairs = (0..n).map(|a| (a, rng.random_range(0..n), coupling * rng.random::<f64>()));
        let coupling = pairs.filter(|(a, b, _)| a != b).collect();
        let windows: usize = WINDOWS.iter().sum();
        let mut opinions: Vec<Vec<f64>> =
            (0..windows).map(|_| (0..n).map(|_| 0.7 + 0.6 * rng.random::<f64>()).collect()).collect();
        for slot in 0..n {
            let mean = opinions.iter().map(|row| row[slot]).sum::<f64>() / windows as f64;
            opinions.iter_mut().for_each(|row| row[slot] /= mean);
        }
        let model = Formula { costs, coupling, opinions };
        Self { problem, bank: WeightBank::of_errors(&errors), model }
    }

    pub(crate) fn context(&self) -> SearchContext<'_> {
        let evaluator = Evaluator::of(&self.problem, &self.bank, Box::new(self.model.clone()));
        SearchContext::new(evaluator, &NoFeatures)
    }

    /// The true costs, without the coupling.
    pub(crate) fn truth(&self) -> Sensitivity {
        Sensitivity::from_costs(self.model.costs.clone())
    }

    /// The true divergence.
    pub(crate) fn kld(&self, choices: &[usize]) -> f64 {
        let windows = self.model.opinions.len();
        (0..windows).map(|window| self.model.kld(window, choices)).sum::<f64>() / windows as f64
    }
}

impl Formula {
    fn kld(&self, window: usize, choices: &[usize]) -> f64 {
        let cost = |slot: usize| self.opinions[window][slot] * self.costs[slot][choices[slot]];
        let own: f64 = (0..choices.len()).map(cost).sum();
        let pairs = self.coupling.iter().map(|&(a, b, share)| share * (cost(a) * cost(b)).sqrt());
        own + pairs.sum::<f64>()
    }

    fn losses(&self, part: usize, kld: impl Fn(usize) -> f64) -> Losses {
        let first: usize = WINDOWS[..part].iter().sum();
        let klds = (first..first + WINDOWS[part]).flat_map(|window| [kld(window); WINDOW_TOKENS]);
        let kld: Vec<f64> = klds.collect();
        Losses { nll: kld.iter().map(|kld| 3.0 + kld).collect(), kld }
    }
}

impl Forward for Formula {
    fn windows(&self) -> Vec<usize> {
        WINDOWS.into()
    }

    fn base_perplexity(&self) -> f64 {
        3f64.exp()
    }

    fn n_tokens(&self) -> usize {
        WINDOWS.iter().sum::<usize>() * WINDOW_TOKENS
    }

    fn cost(&self, part: usize, _choices: &[usize]) -> usize {
        WINDOWS[part] * WINDOW_TOKENS
    }

    fn allocation(&mut self, parts: Range<usize>, choices: &[usize]) -> Vec<Result<Losses>> {
        parts.map(|part| Ok(self.losses(part, |window| self.kld(window, choices)))).collect()
    }

    fn single_cost(&self, part: usize, _slot: usize) -> usize {
        WINDOWS[part] * WINDOW_TOKENS
    }

    fn single(&mut self, parts: Range<usize>, slot: usize, choice: usize) -> Vec<Result<Losses>> {
        let kld = |window: usize| self.opinions[window][slot] * self.costs[slot][choice];
        parts.map(|part| Ok(self.losses(part, kld))).collect()
    }

    fn pin(&mut self, _choices: Option<&[usize]>) {}

    fn fetch_cost(&self) -> usize {
        0
    }

    fn fetch(&mut self) -> Result<()> {
        Ok(())
    }

    fn fresh<'f>(&self) -> Box<dyn Forward + 'f>
    where
        Self: 'f,
    {
        Box::new(self.clone())
    }
}

/// A formula has none.
#[derive(Debug)]
struct NoFeatures;

impl Features for NoFeatures {
    fn table(&self, _config: FeatureConfig) -> Result<FeatureTable> {
        Err(Error::NoActions)
    }
}
