//! Training goes on bit for bit where it stopped.

use std::fs;

use burn::tensor::Device;

use super::*;
use crate::{
    AgentConfig,
    test_bench::Bench,
    tests::devices::{Death, mortal_on},
};

/// A configuration of some seconds.
fn small(config: WalkSearchConfig) -> WalkSearchConfig {
    let hidden = [16, 16, 8];
    let mut config = WalkSearchConfig {
        episodes: 7,
        demonstrations: 1,
        cloning_steps: 10,
        pretraining_updates: 5,
        episodes_per_update: 2,
        ..config
    };
    match &mut config.agent {
        AgentConfig::Continuous(agent) => agent.hidden = hidden,
        AgentConfig::Discrete(agent) => agent.hidden = hidden,
        AgentConfig::Ppo(agent) => agent.hidden = hidden,
    }
    config
}

fn run(
    bench: &Bench,
    student: Student,
    checkpoint: Option<Checkpoint>,
    stop_after: Option<usize>,
) -> Result<Trained> {
    let features = bench.features();
    let mut models = [TrainModel {
        name: "nano".into(),
        context: bench.context(&features),
        problems: vec![bench.at(3.8), bench.at(4.5)],
    }];
    let log = checkpoint.as_ref().map(|checkpoint| checkpoint.path.with_extension("log"));
    let options = TrainOptions { student, device: Device::flex(), checkpoint, log };
    train(&mut models, &options, &mut |p| {
        !(p.stage == Stage::Episodes && stop_after.is_some_and(|episode| p.done >= episode))
    })
}

/// As [`run`], on a device that dies after some orders.
fn run_until_lost(bench: &Bench, student: Student, checkpoint: Checkpoint, life: usize) -> Result<Trained> {
    let features = bench.features();
    let (model, problem, bank, windows) = (&bench.model, &bench.problem, &bench.bank, &bench.windows);
    let evaluator = mortal_on(model, problem, bank, windows, &[life], Death::Panic)?;
    let mut models = [TrainModel {
        name: "nano".into(),
        context: SearchContext::new(evaluator, &features),
        problems: vec![bench.at(3.8), bench.at(4.5)],
    }];
    let options = TrainOptions { student, device: Device::flex(), checkpoint: Some(checkpoint), log: None };
    train(&mut models, &options, &mut |_| true)
}

fn bytes(trained: &Trained) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("policy");
    trained.policy.save(&path).unwrap();
    fs::read(path).unwrap()
}

#[test]
fn an_interrupted_training_ends_as_one_that_was_not() {
    let bench = Bench::nano();
    let configs = [WalkSearchConfig::discrete(3), WalkSearchConfig::ppo(3), WalkSearchConfig::continuous(3)];
    for config in configs.map(small) {
        let name = config.agent.name();
        let whole = run(bench, Student::Agent(config.clone()), None, None).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let checkpoint = Checkpoint { path: dir.path().join("p.partial"), every: 2 };
        let again = |stop| run(bench, Student::Agent(config.clone()), Some(checkpoint.clone()), stop);
        for stop in [3, 5] {
            assert!(matches!(again(Some(stop)), Err(Error::Interrupted)));
        }
        let resumed = again(None).unwrap();
        assert_eq!((resumed.resumed, whole.resumed), (5, 0), "{name}");
        assert_eq!(resumed.logs, whole.logs, "{name}");
        assert!(bytes(&resumed) == bytes(&whole), "{name}: the policies differ");
        let logs: Vec<TrainingLog> =
            serde_json::from_slice(&fs::read(dir.path().join("p.log")).unwrap()).unwrap();
        assert_eq!(logs, whole.logs);
        checkpoint.remove().unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "only the log is left");

        // Two budgets take turns, and every episode is within its own.
        assert_eq!(whole.logs.iter().map(|log| log.episodes.len()).collect::<Vec<_>>(), [4, 3]);
        assert!(whole.logs.iter().flat_map(|log| &log.episodes).all(|episode| episode.fits));
        for (outcome, log) in whole.outcomes.iter().zip(&whole.logs) {
            assert!(outcome.best_kld <= outcome.policy_kld && outcome.best_kld <= outcome.uniform_kld);
            assert_eq!(outcome.budget, log.budget);
        }
    }
}

#[test]
fn a_training_that_lost_its_device_goes_on() {
    let bench = Bench::nano();
    let config = small(WalkSearchConfig::discrete(3));
    let student = || Student::Agent(config.clone());
    let whole = run(bench, student(), None, None).unwrap();
    let dir = tempfile::tempdir().unwrap();
    // The periodic checkpoint is never reached.
    let checkpoint = Checkpoint { path: dir.path().join("p.partial"), every: 100 };
    // The unquantized model, every matrix alone, uniform and knapsack for each budget, and some episodes.
    let life = 1 + bench.problem.slots().len() + 4 + 4;
    let error = run_until_lost(bench, student(), checkpoint.clone(), life).unwrap_err();
    assert!(error.is_device(), "{error}");
    let resumed = run(bench, student(), Some(checkpoint), None).unwrap();
    assert!((1..7).contains(&resumed.resumed), "{}", resumed.resumed);
    assert_eq!(resumed.logs, whole.logs);
    assert!(bytes(&resumed) == bytes(&whole), "the policies differ");
}

#[test]
fn checkpoints_of_other_runs_are_refused() {
    let bench = Bench::nano();
    let config = small(WalkSearchConfig::discrete(3));
    let dir = tempfile::tempdir().unwrap();
    let checkpoint = Checkpoint { path: dir.path().join("p.partial"), every: 1 };
    let start =
        |config: WalkSearchConfig| run(bench, Student::Agent(config), Some(checkpoint.clone()), Some(2));
    assert!(matches!(start(config.clone()), Err(Error::Interrupted)));
    let good = fs::read_to_string(&checkpoint.path).unwrap();
    let refused = |config: WalkSearchConfig| start(config).unwrap_err().to_string();

    let mut seeded = config.clone();
    if let AgentConfig::Discrete(agent) = &mut seeded.agent {
        agent.seed = 4;
    }
    assert!(refused(seeded).contains("it is of another run: its seed is 3, here it is 4"));
    let other = WalkSearchConfig { tries: 3, ..config.clone() };
    assert!(refused(other).contains("its tries is 16, here it is 3"));
    let with = |from: &str, to: &str| {
        assert!(good.contains(from));
        fs::write(&checkpoint.path, good.replace(from, to)).unwrap();
        refused(config.clone())
    };
    assert!(with(r#""model":"nano""#, r#""model":"other""#).contains("its model is other, here it is nano"));
    assert!(with(r#"{"version":1,"episode":2"#, r#"{"version":8,"episode":2"#).contains("of version 8"));
    assert!(with(r#""episode":2,"tokens""#, r#""episode":1,"tokens""#).contains("has logs of 2"));
    fs::write(&checkpoint.path, &good[..good.len() / 2]).unwrap();
    assert!(refused(config.clone()).contains("not a usable training log"));
    // The agent's own file is gone.
    fs::write(&checkpoint.path, &good).unwrap();
    fs::remove_file(checkpoint.path.with_extension("partial.agent-2")).unwrap();
    assert!(matches!(start(config), Err(Error::Sac(_))));
}

#[test]
fn a_regressor_needs_no_episodes() {
    let bench = Bench::nano();
    let student = Student::Regressor { norm: Normalisation::PerModel };
    let trained = run(bench, student, None, Some(0)).unwrap();
    assert_eq!(trained.policy.kind(), crate::PolicyKind::Regressor);
    assert!(trained.logs.is_empty() && trained.outcomes.len() == 2);
    assert_eq!(trained.policy.provenance().model, "nano");
    assert!(trained.policy.provenance().budget.contains(", "));
}

#[test]
fn nothing_to_learn_from_is_an_error() {
    let student = Student::Regressor { norm: Normalisation::PerModel };
    let options = TrainOptions { student, device: Device::flex(), checkpoint: None, log: None };
    let error = train(&mut [], &options, &mut |_| true).unwrap_err().to_string();
    assert!(error.contains("models is none"), "{error}");
    for (spoil, name) in [
        (WalkSearchConfig { tries: 0, ..WalkSearchConfig::discrete(0) }, "tries"),
        (WalkSearchConfig { episodes: 0, ..WalkSearchConfig::discrete(0) }, "episodes"),
        (
            WalkSearchConfig { cloning_temperature: -1.0, ..WalkSearchConfig::discrete(0) },
            "cloning_temperature",
        ),
    ] {
        assert!(spoil.validate().unwrap_err().to_string().starts_with(name));
    }
}
