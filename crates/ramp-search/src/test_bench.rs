//! The nano model with its bank and a little text, for tests that need a real model.

use std::{path::Path, sync::OnceLock};

use burn::tensor::Device;
use ramp_eval::{Bos, Protocol, Scored, Windows};
use ramp_gguf::Metadata;
use ramp_model::{CalibrationStats, CausalLm, ModelFiles};
use ramp_quant::{Budget, Rounding};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{ActionSet, Evaluator, ModelFeatures, Problem, SearchContext, WeightBank};

/// A model that is ready for searches.
pub(crate) struct Bench {
    pub(crate) model: CausalLm,
    pub(crate) stats: CalibrationStats,
    pub(crate) problem: Problem,
    pub(crate) bank: WeightBank,
    pub(crate) windows: Windows,
}

impl Bench {
    /// Built once.
    pub(crate) fn nano() -> &'static Self {
        static BENCH: OnceLock<Bench> = OnceLock::new();
        BENCH.get_or_init(|| {
            let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/nano");
            let model = ModelFiles::open(Path::new(folder)).unwrap().load(&Device::flex()).unwrap();
            let windows = windows(2, 1);
            let stats = CalibrationStats::collect(&model, &windows.tokens(), |_| true).unwrap();
            let problem = Self::problem(model.config(), 4.2);
            let bank = WeightBank::build(&model, &stats, &problem, Rounding::Nearest, &mut |_| true).unwrap();
            Self { model, stats, problem, bank, windows }
        })
    }

    pub(crate) fn problem(config: &ramp_model::ModelConfig, bits: f64) -> Problem {
        let budget = Budget::BitsPerWeight(bits);
        Problem::new(config, &Metadata::new(), &ActionSet::default(), budget).unwrap()
    }

    pub(crate) fn at(&self, bits: f64) -> Problem {
        Self::problem(self.model.config(), bits)
    }

    pub(crate) fn features(&self) -> ModelFeatures<'_> {
        ModelFeatures::new(&self.model, &self.stats, &self.problem)
    }

    pub(crate) fn evaluator(&self) -> Evaluator<'_> {
        Evaluator::new(&self.model, &self.problem, &self.bank, self.windows.clone()).unwrap()
    }

    pub(crate) fn context<'a>(&'a self, features: &'a ModelFeatures<'a>) -> SearchContext<'a> {
        SearchContext::new(self.evaluator(), features)
    }
}

/// Windows of 32 random tokens.
fn windows(n: usize, seed: u64) -> Windows {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let tokens: Vec<u32> = (0..32 * n).map(|_| rng.random_range(3..2000)).collect();
    let (bos, scored) = (Bos::ReplaceFirst, Scored::All);
    let protocol = Protocol { ctx: 32, bos, scored, min_windows: n, max_windows: None };
    protocol.windows(&tokens, Some(1)).unwrap()
}
