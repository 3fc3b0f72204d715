//! Several devices: nothing that is found or counted depends on how many there are, nor on which of them die.

use std::time::Duration;

use burn::tensor::Device;
use ramp_eval::Windows;
use ramp_model::CausalLm;
use ramp_quant::Budget;

use super::evaluator::Nano;
use crate::{
    Error, Evaluator, Found, Ledger, LostDevice, Polish, Problem, Replica, Residence, SearchContext,
    Sensitivity, WeightBank, allocate_within,
    forward::{Crew, Done, Lanes, ModelForward, Order, Worker},
    test_bench::Bench,
    uniform,
};

/// A device that dies at one of its orders.
#[derive(Debug)]
struct Mortal<W> {
    worker: W,
    orders_left: usize,
    death: Death,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Death {
    Error,
    Panic,
    Silence,
}

impl<W: Worker> Worker for Mortal<W> {
    fn run(&mut self, order: &Order) -> Vec<Done> {
        if self.orders_left == 0 {
            match self.death {
                Death::Error => {
                    let why = "gone".to_owned();
                    let losses = Err(ramp_model::Error::Device { why }.into());
                    return vec![Done { losses, reference: None }];
                }
                Death::Panic => panic!("the driver is gone"),
                Death::Silence => loop {
                    std::thread::park();
                },
            }
        }
        self.orders_left -= 1;
        self.worker.run(order)
    }

    fn is_host(&self) -> bool {
        false
    }
}

/// An evaluator on devices of which each dies after some orders.
fn mortal<'a>(nano: &'a Nano, lives: &[usize], death: Death) -> crate::Result<Evaluator<'a>> {
    mortal_on(&nano.model, &nano.problem, &nano.bank, &nano.windows, lives, death)
}

/// An evaluator of a model on devices of which each dies after some orders.
pub(crate) fn mortal_on<'a>(
    model: &CausalLm,
    problem: &'a Problem,
    bank: &'a WeightBank,
    windows: &Windows,
    lives: &[usize],
    death: Death,
) -> crate::Result<Evaluator<'a>> {
    let replica = |at: &usize| {
        let name = format!("device {at}");
        Replica::new(&name, &Device::flex(), model, bank, problem).unwrap()
    };
    let others: Vec<usize> = (1..lives.len()).collect();
    let others: Vec<Replica> = others.iter().map(replica).collect();
    let windows = windows.clone();
    let Lanes { text, first, others } = Lanes::new(1 << 30, model, problem, bank, windows, &others);
    let first = Mortal { worker: first, orders_left: lives[0], death };
    let mut crew = Crew::new("device 0".into(), Box::new(first), text.sizes.clone());
    for ((name, worker), &orders_left) in others.into_iter().zip(&lives[1..]) {
        crew = crew.with(name, Box::new(Mortal { worker, orders_left, death }));
    }
    let patience = match death {
        Death::Silence => Duration::from_millis(100),
        Death::Error | Death::Panic => Duration::from_secs(600),
    };
    let forward = ModelForward::of(text, crew.with_patience(patience))?;
    Ok(Evaluator::of(problem, bank, Box::new(forward)))
}

/// A search with races and pins, and what it spent.
fn search<'a>(evaluator: Evaluator<'a>, bench: &'a Bench) -> crate::Result<(Found, Ledger, Vec<LostDevice>)> {
    let features = bench.features();
    let base = evaluator.base_perplexity();
    let limit = 40 * evaluator.n_tokens();
    let mut context = SearchContext::new(evaluator, &features);
    let found = allocate_within(&mut Polish::default(), Some(limit), &mut context, &mut |_| true)?;
    assert_eq!(base.to_bits(), context.evaluator.base_perplexity().to_bits());
    let ledger = Ledger { seconds: 0.0, ..*context.evaluator.ledger() };
    Ok((found, ledger, context.evaluator.lost()))
}

fn same(a: &(Found, Ledger, Vec<LostDevice>), b: &(Found, Ledger, Vec<LostDevice>)) {
    assert_eq!(a.0.choices, b.0.choices);
    assert_eq!((a.0.score.kld.to_bits(), a.0.score), (b.0.score.kld.to_bits(), b.0.score));
    assert_eq!(a.1, b.1);
}

const FOREVER: usize = usize::MAX;

#[test]
fn the_number_of_devices_changes_nothing() {
    let (nano, bench) = (Nano::new(), Bench::nano());
    let one = search(nano.evaluator(), bench).unwrap();
    assert!(one.1.evaluations > 8, "{:?}", one.1);
    for lives in [vec![FOREVER; 2], vec![FOREVER; 3], vec![FOREVER; 5]] {
        let several = search(mortal(&nano, &lives, Death::Error).unwrap(), bench).unwrap();
        same(&several, &one);
        assert_eq!(several.2, []);
    }
}

#[test]
fn a_dead_device_changes_nothing_but_who_works() {
    let (nano, bench) = (Nano::new(), Bench::nano());
    let one = search(nano.evaluator(), bench).unwrap();
    let deaths = [
        // At the unquantized model, at a single matrix, in the race; the first one, and two of three.
        (vec![FOREVER, 0], Death::Error),
        (vec![FOREVER, 3], Death::Panic),
        (vec![FOREVER, 40], Death::Error),
        (vec![FOREVER, 40], Death::Panic),
        (vec![40, FOREVER], Death::Panic),
        (vec![0, FOREVER], Death::Error),
        (vec![5, 45, FOREVER], Death::Error),
        (vec![33, FOREVER, 30], Death::Panic),
        (vec![FOREVER, 38], Death::Silence),
    ];
    for (lives, death) in deaths {
        let several = search(mortal(&nano, &lives, death).unwrap(), bench).unwrap();
        same(&several, &one);
        let dead = lives.iter().filter(|&&life| life != FOREVER).count();
        assert_eq!(several.2.len(), dead, "{lives:?} {death:?}");
        let said = match death {
            Death::Error => "gone",
            Death::Panic => "the driver is gone",
            Death::Silence => "it gave nothing for",
        };
        assert!(several.2.iter().all(|lost| lost.why.contains(said)), "{:?}", several.2);
    }
}

#[test]
fn the_last_device_ends_the_search() {
    let (nano, bench) = (Nano::new(), Bench::nano());
    for lives in [vec![0], vec![0, 0]] {
        let error = mortal(&nano, &lives, Death::Error).unwrap_err();
        assert!(matches!(&error, Error::DevicesLost { .. }) && error.is_device(), "{error}");
    }
    for lives in [vec![20], vec![30, 25]] {
        let error = search(mortal(&nano, &lives, Death::Panic).unwrap(), bench).unwrap_err();
        assert!(matches!(&error, Error::DevicesLost { name, .. } if name == "device 0"), "{error}");
        assert!(error.to_string().contains("the driver is gone"), "{error}");
    }
}

#[test]
fn what_breaks_is_charged_alike() {
    let (nano, slot) = Nano::broken();
    let mut spent = Vec::new();
    for lives in [vec![FOREVER], vec![FOREVER; 3]] {
        let mut evaluator = mortal(&nano, &lives, Death::Error).unwrap();
        evaluator.score(&nano.problem.ceiling()).unwrap();
        assert!(evaluator.score(&nano.problem.floor()).unwrap().is_floor());
        // What the parts behind the broken one begin with.
        let mut changed = nano.problem.floor();
        changed[slot] = 1;
        evaluator.score(&changed).unwrap();
        let sensitivity =
            Sensitivity::measure(&mut evaluator, crate::Measurements::Every, &mut |_| true).unwrap();
        spent.push((Ledger { seconds: 0.0, ..*evaluator.ledger() }, sensitivity));
    }
    assert_eq!(spent[0], spent[1]);
}

#[test]
fn evaluators_of_other_budgets_share_the_devices() {
    let nano = Nano::new();
    let evaluator = mortal(&nano, &[FOREVER, 1, FOREVER], Death::Panic).unwrap();
    let less = Bench::problem(nano.model.config(), 3.8);
    assert!(matches!(evaluator.for_problem(&less), Err(Error::OtherProblem)), "of other formats");
    let mut other = evaluator.for_problem(&nano.problem).unwrap();
    let score = other.score(&uniform(&nano.problem)).unwrap();
    assert_eq!(score, nano.evaluator().score(&uniform(&nano.problem)).unwrap());
    assert_eq!((other.lost().len(), evaluator.lost().len()), (1, 1));
    let same_budget = Nano::new().problem.budget();
    assert!(matches!(same_budget, Budget::BitsPerWeight(_)));
}

#[test]
fn a_copied_bank_has_the_same_weights() {
    let nano = Nano::new();
    let copy = nano.bank.copy(&nano.problem, &nano.model.placement()).unwrap();
    assert_eq!(copy.residence(), nano.bank.residence());
    assert_ne!(copy.residence(), Residence::default());
    for slot in 0..nano.problem.slots().len() {
        for choice in 0..nano.problem.slots()[slot].choices.len() {
            let [a, b] = [&copy, &nano.bank]
                .map(|bank| bank.weight(slot, choice).unwrap().try_into_vec_as::<f32>().unwrap());
            assert!(a == b, "{slot} {choice}");
            let error = |bank: &WeightBank| bank.relative_error(slot, choice).unwrap();
            assert_eq!(error(&copy), error(&nano.bank));
        }
    }
}
