//! Scores that a run leaves for the next one.

use std::fs;

use ramp_quant::Budget;

use super::evaluator::{Nano, same};
use crate::{Error, Problem, uniform};

#[test]
fn a_second_run_finds_the_scores_of_the_first() {
    let nano = Nano::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("scores.jsonl");
    let choices = uniform(&nano.problem);
    let mut first = nano.evaluator();
    first.keep_scores(&path, &nano.windows).unwrap();
    let (whole, single) = (first.score(&choices).unwrap(), first.score_single(2, 1).unwrap());
    let floor = nano.problem.floor();
    let some = first.score_on(&floor, 1).unwrap();

    let mut second = nano.evaluator();
    second.keep_scores(&path, &nano.windows).unwrap();
    let spent = second.tokens_forwarded();
    same(second.score(&choices).unwrap(), whole);
    same(second.score_single(2, 1).unwrap(), single);
    same(second.score_on(&floor, 1).unwrap(), some);
    assert_eq!((second.tokens_forwarded(), second.evaluations()), (spent, 0));
    assert_eq!(second.best().map(|(choices, _)| choices.clone()), Some(choices.clone()));
    // The rest of an allocation of which a part is known is run and kept.
    let rest = second.score(&floor).unwrap();
    let mut third = nano.evaluator();
    third.keep_scores(&path, &nano.windows).unwrap();
    same(third.score(&floor).unwrap(), rest);
    same(nano.evaluator().score(&floor).unwrap(), rest);
    assert_eq!(third.evaluations(), 0);
}

#[test]
fn a_line_that_was_cut_short_is_dropped() {
    let nano = Nano::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("scores.jsonl");
    let mut first = nano.evaluator();
    first.keep_scores(&path, &nano.windows).unwrap();
    let (a, b) = (first.score_single(0, 0).unwrap(), first.score_single(1, 0).unwrap());
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().count(), 3);
    fs::write(&path, &text[..text.len() - 9]).unwrap();
    let mut second = nano.evaluator();
    second.keep_scores(&path, &nano.windows).unwrap();
    same(second.score_single(0, 0).unwrap(), a);
    assert_eq!(second.evaluations(), 0);
    same(second.score_single(1, 0).unwrap(), b);
    assert_eq!(second.evaluations(), 1);
    assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 3);
}

#[test]
fn scores_of_another_run_and_broken_files_are_refused() {
    let nano = Nano::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("scores.jsonl");
    let mut first = nano.evaluator();
    first.keep_scores(&path, &nano.windows).unwrap();
    first.score_single(0, 0).unwrap();
    let good = fs::read_to_string(&path).unwrap();
    let error = |windows: usize| {
        let mut evaluator = nano.evaluator();
        let error = evaluator.keep_scores(&path, &Nano::windows(windows)).unwrap_err();
        assert!(matches!(&error, Error::Journal { path: at, .. } if *at == path), "{error}");
        error.to_string()
    };
    // Another text.
    assert!(error(3).contains("another model, text"));
    let last = good.lines().last().unwrap();
    for (bad, why) in [
        (good.replace("\"ramp_scores\":1", "\"ramp_scores\":7"), "has version 7"),
        (format!("{good}{}\n", last.replace("[0,0]", "[0,99]")), "line 3: names choices"),
        (format!("{good}{}\n", last.replace("\"sum\":", "\"sum\":1e999,\"x\":")), "line 3: "),
        (format!("{good}{{}}\n"), "line 3: "),
        ("no\n".to_owned(), "line 1: "),
    ] {
        fs::write(&path, &bad).unwrap();
        assert!(error(8).contains(why), "{why}: {}", error(8));
        assert_eq!(fs::read_to_string(&path).unwrap(), bad, "a file that is refused stays");
    }
    // Other formats' budget does not matter: scores belong to choices.
    fs::write(&path, &good).unwrap();
    let other: Problem = Nano::problem(&nano.model, Budget::BitsPerWeight(4.0));
    let evaluator = nano.evaluator();
    let mut evaluator = evaluator.for_problem(&other).unwrap();
    evaluator.keep_scores(&path, &nano.windows).unwrap();
    evaluator.score_single(0, 0).unwrap();
    assert_eq!(evaluator.evaluations(), 0);
}
