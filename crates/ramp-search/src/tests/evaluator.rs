//! The evaluator on the nano model: what it reuses changes no score, and what it counts is what ran.

use std::{fs, path::Path};

use burn::tensor::Device;
use ramp_eval::{Protocol, Windows};
use ramp_gguf::Metadata;
use ramp_model::{CalibrationStats, CausalLm, LayerId, ModelFiles, Role};
use ramp_quant::{Budget, Rounding};

use crate::{
    ActionSet, Choices, Error, Evaluator, Problem, Score, Sensitivity, WeightBank, forward::Lanes, uniform,
};

const CTX: usize = 64;

pub(super) struct Nano {
    pub(super) model: CausalLm,
    pub(super) problem: Problem,
    pub(super) bank: WeightBank,
    pub(super) windows: Windows,
}

impl Nano {
    pub(super) fn new() -> Self {
        let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/nano"));
        let files = ModelFiles::open(folder).unwrap();
        let model = files.load(&Device::flex()).unwrap();
        let windows = Self::windows(8);
        let stats = CalibrationStats::collect(&model, &windows.tokens(), |_| true).unwrap();
        let problem = Self::problem(&model, Budget::BitsPerWeight(4.5));
        let bank = WeightBank::build(&model, &stats, &problem, Rounding::Nearest, &mut |_| true).unwrap();
        Self { model, problem, bank, windows }
    }

    /// The first windows of the sample.
    pub(super) fn windows(n: usize) -> Windows {
        let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/nano"));
        let text = fs::read_to_string(folder.join("sample.txt")).unwrap();
        let tokens = ModelFiles::open(folder).unwrap().tokenizer().unwrap().encode(&text).unwrap();
        Protocol::gptq(CTX).with_max_windows(Some(n)).windows(&tokens, None).unwrap()
    }

    pub(super) fn problem(model: &CausalLm, budget: Budget) -> Problem {
        Problem::new(model.config(), &Metadata::new(), &ActionSet::paper(), budget).unwrap()
    }

    pub(super) fn evaluator(&self) -> Evaluator<'_> {
        Evaluator::new(&self.model, &self.problem, &self.bank, self.windows.clone()).unwrap()
    }

    /// With a slot whose first choice makes the model give NaN.
    pub(super) fn broken() -> (Self, usize) {
        let mut nano = Self::new();
        let slot = nano.slot(LayerId::Block { block: 1, role: Role::Up });
        let weight = nano.bank.weight(slot, 0).unwrap();
        nano.bank.replace(slot, 0, weight * f32::NAN);
        (nano, slot)
    }

    pub(super) fn slot(&self, id: LayerId) -> usize {
        self.problem.slots().iter().position(|slot| slot.id == id).unwrap()
    }

    /// The uniform allocation with another choice for `down` of a block.
    fn changed_in(&self, block: usize) -> Choices {
        let mut choices = uniform(&self.problem);
        let slot = self.slot(LayerId::Block { block, role: Role::Down });
        choices[slot] = (choices[slot] + 1) % self.problem.slots()[slot].choices.len();
        choices
    }

    fn n_blocks(&self) -> usize {
        self.model.config().n_blocks
    }
}

pub(super) fn same(a: Score, b: Score) {
    assert_eq!((a.kld, a.kld_se, a.perplexity), (b.kld, b.kld_se, b.perplexity));
}

#[test]
fn a_prefix_is_reused_and_changes_nothing() {
    let nano = Nano::new();
    let (n_blocks, all) = (nano.n_blocks(), 8 * CTX);
    let mut evaluator = nano.evaluator();
    assert_eq!(evaluator.tokens_forwarded(), all);
    evaluator.score(&uniform(&nano.problem)).unwrap();
    for block in (0..n_blocks).rev() {
        let before = *evaluator.ledger();
        let score = evaluator.score(&nano.changed_in(block)).unwrap();
        same(score, nano.evaluator().score(&nano.changed_in(block)).unwrap());
        // The one before differs from uniform in the block behind, so that this block is the first that differs.
        let ran = n_blocks - block + 1;
        let spent = evaluator.ledger().since(&before).tokens;
        // Every part is rounded up to a whole token.
        let exact = (all * ran) as f64 / (n_blocks + 1) as f64;
        assert!((exact..exact + 8.0).contains(&(spent as f64)), "block {block}: {spent}, not {exact}");
        assert_eq!(score.tokens, spent);
    }
    assert_eq!(evaluator.evaluations(), n_blocks + 1);
}

#[test]
fn fewer_kept_streams_make_longer_passes_and_the_same_scores() {
    let nano = Nano::new();
    let n_blocks = nano.n_blocks();
    let stream = 4 * 8 * CTX * nano.model.config().hidden_size;
    let last = nano.changed_in(n_blocks - 1);
    let head = nano.problem.slots().len() - 1;
    let mut spent = Vec::new();
    for kept in [n_blocks + 1, 2, 1, 0] {
        let (model, problem, bank) = (&nano.model, &nano.problem, &nano.bank);
        let lanes = Lanes::new(kept * stream, model, problem, bank, nano.windows.clone(), &[]);
        let forward = lanes.forward().unwrap();
        let mut evaluator = Evaluator::of(&nano.problem, &nano.bank, Box::new(forward));
        evaluator.score(&uniform(&nano.problem)).unwrap();
        let before = *evaluator.ledger();
        same(evaluator.score(&last).unwrap(), nano.evaluator().score(&last).unwrap());
        let single = evaluator.score_single(head, 0).unwrap();
        same(single, nano.evaluator().score_single(head, 0).unwrap());
        spent.push(evaluator.ledger().since(&before).tokens);
    }
    assert!(spent.is_sorted() && spent[0] < spent[1] && spent[1] < spent[2], "{spent:?}");
    // Only the one in front of the first block is left.
    assert_eq!((spent[2], spent[3]), (2 * 8 * CTX, 2 * 8 * CTX));
}

#[test]
fn a_pinned_incumbent_stays() {
    let nano = Nano::new();
    let (incumbent, last) = (uniform(&nano.problem), nano.n_blocks() - 1);
    let mut evaluator = nano.evaluator();
    evaluator.score(&incumbent).unwrap();
    evaluator.pin(Some(&incumbent)).unwrap();
    let spent = |evaluator: &mut Evaluator<'_>, choices: &Choices| {
        let before = *evaluator.ledger();
        let score = evaluator.score(choices).unwrap();
        same(score, nano.evaluator().score(choices).unwrap());
        evaluator.ledger().since(&before).tokens
    };
    let whole = spent(&mut evaluator, &nano.problem.floor());
    assert_eq!(whole, 8 * CTX);
    // Without the pin, this would begin at the embedding, in which the floor differs.
    let little = spent(&mut evaluator, &nano.changed_in(last));
    assert!(little <= 2 * whole / (nano.n_blocks() + 1) + 8, "{little} of {whole}");

    // An allocation that is known, but whose streams are not, runs without the head.
    let other = nano.problem.ceiling();
    evaluator.score(&other).unwrap();
    let before = *evaluator.ledger();
    evaluator.pin(Some(&other)).unwrap();
    let fetched = evaluator.ledger().since(&before);
    assert_eq!((fetched.evaluations, fetched.memo_hits), (0, 0));
    let blocks_only = whole * nano.n_blocks() / (nano.n_blocks() + 1);
    assert!((blocks_only..blocks_only + 8).contains(&fetched.tokens), "{}", fetched.tokens);
}

#[test]
fn a_race_pays_for_new_windows_only() {
    let nano = Nano::new();
    let choices = uniform(&nano.problem);
    let mut evaluator = nano.evaluator();
    let begin = *evaluator.ledger();
    let one = evaluator.score_on(&choices, 1).unwrap();
    assert_eq!(one.tokens, CTX);
    // Three are not a place to stop, four are.
    let four = evaluator.score_on(&choices, 3).unwrap();
    assert_eq!(four.tokens, 4 * CTX);
    assert!(evaluator.best().is_none(), "no allocation was scored on all windows");
    let all = evaluator.score(&choices).unwrap();
    assert_eq!(all.tokens, 8 * CTX);
    assert_eq!(evaluator.ledger().since(&begin).tokens, 8 * CTX);
    assert_eq!(evaluator.score_on(&choices, 1).unwrap().kld, one.kld);
    assert_eq!(evaluator.ledger().memo_hits, 1);
    same(all, nano.evaluator().score(&choices).unwrap());
    assert_eq!(evaluator.best().unwrap().0, &choices);

    let first = nano.windows.filtered(|window| window < 4);
    let mut short = Evaluator::new(&nano.model, &nano.problem, &nano.bank, first).unwrap();
    same(short.score(&choices).unwrap(), four);
}

#[test]
fn a_model_that_breaks_gets_the_floor_and_is_counted() {
    let (nano, slot) = Nano::broken();
    let mut evaluator = nano.evaluator();
    let good = evaluator.score(&nano.problem.ceiling()).unwrap();
    let broken = evaluator.score(&nano.problem.floor()).unwrap();
    assert!(broken.is_floor() && !good.is_floor());
    assert_eq!((broken.kld, broken.perplexity), (Score::FLOOR.kld, Score::FLOOR.perplexity));
    assert_eq!(evaluator.ledger().non_finite, 1);
    // It is remembered, and what was kept of it breaks nothing else.
    assert!(evaluator.score(&nano.problem.floor()).unwrap().is_floor());
    assert_eq!(evaluator.ledger().non_finite, 1);
    let mut whole = nano.problem.floor();
    whole[slot] = 1;
    same(evaluator.score(&whole).unwrap(), nano.evaluator().score(&whole).unwrap());
    // A search that measures it goes on and stays away.
    let sensitivity =
        Sensitivity::measure(&mut evaluator, crate::Measurements::Every, &mut |_| true).unwrap();
    assert_eq!(sensitivity.get(slot, 0), Score::FLOOR.kld);
    assert_ne!(crate::knapsack(&nano.problem, &sensitivity)[slot], 0);
}

#[test]
fn a_limit_is_never_exceeded() {
    let nano = Nano::new();
    let mut evaluator = nano.evaluator();
    let limit = 8 * CTX * 5 / 2;
    evaluator.set_limit(Some(limit));
    evaluator.score(&nano.problem.ceiling()).unwrap();
    let refused = evaluator.score(&nano.problem.floor()).unwrap_err();
    assert!(matches!(refused, Error::TokenLimit { limit: l } if l == limit));
    assert_eq!(evaluator.tokens_forwarded(), 2 * 8 * CTX);
    // What fits into the rest is done, and what is known is free.
    evaluator.score_on(&nano.problem.floor(), 2).unwrap();
    evaluator.score(&nano.problem.ceiling()).unwrap();
    let spent = *evaluator.ledger();
    assert!(spent.tokens <= limit);
    assert!(matches!(evaluator.charge(&spent), Err(Error::TokenLimit { .. })));
}

#[test]
fn another_budget_shares_the_model_and_nothing_else() {
    let nano = Nano::new();
    let mut evaluator = nano.evaluator();
    let choices = uniform(&nano.problem);
    let score = evaluator.score(&choices).unwrap();
    let less = Nano::problem(&nano.model, Budget::BitsPerWeight(3.8));
    let mut other = evaluator.for_problem(&less).unwrap();
    assert_eq!((other.tokens_forwarded(), other.evaluations()), (8 * CTX, 0));
    same(other.score(&choices).unwrap(), score);
    assert!(other.best().is_none(), "it does not fit");
    let mean = Nano::problem(&nano.model, Budget::MeanBits(4.0));
    assert!(matches!(evaluator.for_problem(&mean), Err(Error::OtherProblem)));
}
