//! Episodes on the nano model.

use burn::tensor::Device;

use super::*;
use crate::{
    Allocator, Categorical, Features, MeasuredKnapsack, PolicyKind, Sac, SacSearchConfig,
    reward::RewardConfig, test_bench::Bench, walk_config::AgentConfig,
};

fn small(config: WalkSearchConfig, episodes: usize) -> WalkSearchConfig {
    let hidden = [16, 16, 8];
    let mut config =
        WalkSearchConfig { episodes, demonstrations: 1, cloning_steps: 60, pretraining_updates: 5, ..config };
    match &mut config.agent {
        AgentConfig::Continuous(agent) => agent.hidden = hidden,
        AgentConfig::Discrete(agent) => agent.hidden = hidden,
        AgentConfig::Ppo(agent) => agent.hidden = hidden,
    }
    config
}

#[test]
fn every_agent_stays_within_the_budget_and_keeps_the_best() {
    let bench = Bench::nano();
    let features = bench.features();
    let mut context = bench.context(&features);
    let knapsack = MeasuredKnapsack.allocate(&mut context, &mut |_| true).unwrap();
    for (config, kind) in [
        (WalkSearchConfig::discrete(2), PolicyKind::Categorical),
        (WalkSearchConfig::returns(2), PolicyKind::Categorical),
        (WalkSearchConfig::ppo(2), PolicyKind::Categorical),
        (WalkSearchConfig::continuous(2), PolicyKind::Continuous),
    ] {
        let config = small(config, 5);
        let mut search = Categorical::new(config, Device::flex(), "nano".into());
        let found = search.allocate(&mut context, &mut |_| true).unwrap();
        assert!(bench.problem.fits(&found.choices));
        assert!(found.score.kld <= knapsack.score.kld, "{} {}", found.score.kld, knapsack.score.kld);
        let log = search.take_log().unwrap();
        assert_eq!((log.episodes.len(), &log.found, found.curve.len()), (5, &found.choices, 5));
        assert!(log.episodes.iter().all(|episode| episode.fits && episode.reward.is_finite()));
        assert!(log.episodes.windows(2).all(|pair| pair[0].best_kld >= pair[1].best_kld));
        assert_eq!(log.feature_names.len(), log.slots[0].features.len());
        assert!(log.check().is_ok());
        let policy = found.policy.unwrap();
        assert_eq!(policy.kind(), kind);
        assert!(bench.problem.fits(&policy.allocate(&bench.problem, &features).unwrap()));
        assert!(search.take_log().is_none(), "a log is taken once");
    }
}

#[test]
fn without_masks_a_penalty_is_all_that_holds_the_budget() {
    let bench = Bench::nano();
    let features = bench.features();
    let mut context = bench.context(&features);
    let config = WalkSearchConfig {
        budget: BudgetHandling::Penalty,
        credit: Credit::Terminal,
        reward: RewardConfig::paper(),
        behaviour: Behaviour::Policy,
        warm_start: WarmStart::Cold,
        warm_up: WarmUp::Uniform,
        warmup_episodes: 4,
        ..small(WalkSearchConfig::discrete(1), 6)
    };
    let mut search = Categorical::new(config, Device::flex(), "nano".into());
    let found = search.allocate(&mut context, &mut |_| true).unwrap();
    let log = search.take_log().unwrap();
    // Random choices among five formats have more than 4.2 bits per weight.
    assert!(log.episodes[..4].iter().any(|episode| !episode.fits));
    assert!(bench.problem.fits(&found.choices));
}

#[test]
fn an_episode_without_a_number_gets_the_floor_and_is_counted() {
    let bench = Bench::nano();
    let features = bench.features();
    let mut context = bench.context(&features);
    let config = WalkSearchConfig {
        behaviour: Behaviour::Incumbent { resampled: 0 },
        tries: 1,
        ..small(WalkSearchConfig::discrete(1), 2)
    };
    let (problem, table) = (bench.problem.clone(), features.wide().unwrap());
    let mut task = Task::new(problem, table, &config, "nano", &mut context, &mut |_| true).unwrap();
    let mut trainer = Trainer::new(&config, &task, &Device::flex()).unwrap();
    // Nothing is decided anew, so that the episode is the incumbent; as if it had overflowed.
    let incumbent = task.best().unwrap().choices.clone();
    task.keep(&incumbent, None, "overflow");
    trainer.episode(1, &mut task, &mut context.evaluator, &mut |_| 7).unwrap();
    let record = &task.log.episodes[0];
    assert_eq!((record.kld, record.reward, record.tokens), (None, -5.0, 7));
    assert_eq!((task.log.failed_episodes(), task.log.curve().len()), (1, 0));
    assert!(record.best_kld.is_some(), "what was measured before stays the best");
}

#[test]
fn rewards_of_an_episode_add_up_to_its_surplus_over_the_anchor() {
    let bench = Bench::nano();
    let features = bench.features();
    let mut context = bench.context(&features);
    let config = small(WalkSearchConfig::returns(1), 1);
    let (problem, table) = (bench.problem.clone(), features.wide().unwrap());
    let task = Task::new(problem, table, &config, "nano", &mut context, &mut |_| true).unwrap();
    let trainer = Trainer::new(&config, &task, &Device::flex()).unwrap();
    let walk = task.walk(true);
    let total = |choices: &[usize], reward: f64| -> f64 {
        let steps = walk.replay(choices).unwrap();
        let steps: Vec<Decided> = steps.into_iter().map(|step| Decided::shown(step, &walk)).collect();
        trainer.rewards(&task, &steps, choices, reward).iter().sum()
    };
    let knapsack = task.best().unwrap().choices.clone();
    let uniform = uniform(&bench.problem);
    let layers = knapsack.len() as f64;
    // Whatever layers earn on their way, the sum follows the reward of the whole, n times it.
    let difference = total(&uniform, 0.25) - total(&knapsack, 0.75);
    assert!((difference - layers * (0.25 - 0.75)).abs() < 1e-6 * layers, "{difference}");
}

#[test]
fn the_continuous_search_takes_shaped_rewards_feasible_warm_ups_and_bin_centres() {
    let bench = Bench::nano();
    let features = bench.features();
    let mut context = bench.context(&features);
    let mut config = SacSearchConfig {
        episodes: 4,
        warmup_episodes: 2,
        credit: Credit::Shaped,
        reward: RewardConfig::logarithmic(),
        stored_action: crate::StoredAction::BinCentre,
        context_update: crate::ContextUpdate::MeanOnly,
        first_context: crate::FirstContext::Zero,
        cloning_steps: 10,
        pretraining_updates: 2,
        ..SacSearchConfig::sound(1)
    };
    config.agent.hidden = [16, 16, 8];
    config.agent.gamma = 1.0;
    let mut search = Sac::new(config, Device::flex(), "nano".into());
    let found = search.allocate(&mut context, &mut |_| true).unwrap();
    assert!(bench.problem.fits(&found.choices));
    let log = search.take_log().unwrap();
    assert!(log.episodes.iter().all(|episode| episode.fits && episode.reward.is_finite()));
}
