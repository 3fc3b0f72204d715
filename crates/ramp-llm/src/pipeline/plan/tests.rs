//! The numbers of a plan, by hand for the nano model.

use std::path::Path;

use ramp_search::SacSearchConfig;

use super::*;

const RATES: Rates = Rates { model_flops: 1e9, agent_flops: 1e9, encode_weights: 1e6 };
/// Weights of the blocks: hidden 256, feed-forward 512, 4 blocks.
const BLOCKS: u64 = 4 * (4 * 256 * 256 + 3 * 256 * 512);
/// Weights of the embedding, and of the head.
const VOCAB: u64 = 2048 * 256;
/// Weights of the norms.
const NORMS: u64 = 9 * 256;

fn nano() -> PlanOptions {
    PlanOptions::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/nano"), RATES)
}

#[test]
fn sizes_follow_the_types() {
    let plan = plan(&nano()).unwrap();
    assert_eq!(plan.parameters, BLOCKS + 2 * VOCAB + NORMS);
    let names: Vec<String> = plan.formats.iter().map(|format| format.format.to_string()).collect();
    let types = ramp_gguf::QUANTIZED.iter().map(ToString::to_string);
    assert_eq!(names, types.chain(["F16".to_owned()]).collect::<Vec<_>>());
    let chosen = plan.formats.iter().filter(|format| format.in_action_set).collect::<Vec<_>>();
    assert_eq!(
        chosen.iter().map(|format| format.format.to_string()).collect::<Vec<_>>(),
        ["Q3_K", "IQ4_XS", "Q4_K", "Q5_K", "Q6_K"]
    );
    let weights = BLOCKS + 2 * VOCAB;
    for pair in plan.formats.windows(2) {
        let bits = pair[1].size.bits_per_weight - pair[0].size.bits_per_weight;
        let bytes = pair[1].size.file_bytes - pair[0].size.file_bytes;
        assert_eq!(bytes as f64, bits * weights as f64 / 8.0);
    }
    assert_eq!(chosen[0].size.bits_per_weight, 3.4375);
    assert_eq!((plan.floor, plan.ceiling), (chosen[0].size, chosen[4].size));
    assert_eq!((plan.budget, plan.uniform), (None, None));
}

#[test]
fn budgets_are_checked_and_used() {
    let with = |budget| plan(&PlanOptions { budget: Some(budget), ..nano() });
    let (floor, ceiling) = {
        let plan = plan(&nano()).unwrap();
        (plan.floor.file_bytes, plan.ceiling.file_bytes)
    };
    let middle = Budget::Bytes(u64::midpoint(floor, ceiling));
    let used = with(middle).unwrap().uniform.unwrap().file_bytes;
    assert!(
        used <= u64::midpoint(floor, ceiling) && used as f64 > 0.97 * u64::midpoint(floor, ceiling) as f64
    );
    assert!(with(Budget::Bytes(floor)).is_ok() && with(Budget::Bytes(ceiling)).is_ok());
    let below = with(Budget::Bytes(floor - 1)).unwrap_err().to_string();
    assert!(below.contains("below the floor") && below.contains(&floor.to_string()), "{below}");
    let above = with(Budget::BitsPerWeight(7.0)).unwrap_err().to_string();
    assert!(above.contains("above the ceiling") && above.contains("6.5625"), "{above}");
    // The paper's unit leaves embedding and head alone.
    let mean = with(Budget::MeanBits(4.0)).unwrap();
    assert!(mean.floor.file_bytes > floor);
    assert_eq!((mean.floor.mean_bits, mean.ceiling.mean_bits), (3.0, 6.0));
    assert!(mean.uniform.unwrap().mean_bits <= 4.0);
}

#[test]
fn fixed_types_are_part_of_the_plan() {
    let fixed = Fixed { token_embd: Some(GgmlType::Q8_0), output: Some(GgmlType::Q6_K) };
    let free = plan(&nano()).unwrap();
    let plan = plan(&PlanOptions { fixed, ..nano() }).unwrap();
    // The floor has both above Q3_K, the ceiling the embedding above Q6_K; 8.5 and 6.5625 bits per weight.
    let more = |low: f64, high: f64| ((high - low) * VOCAB as f64 / 8.0) as u64;
    let (floor, ceiling) = (more(3.4375, 8.5) + more(3.4375, 6.5625), more(6.5625, 8.5));
    assert_eq!(plan.floor.file_bytes, free.floor.file_bytes + floor);
    assert_eq!(plan.ceiling.file_bytes, free.ceiling.file_bytes + ceiling);
    assert_eq!(plan.formats, free.formats);
}

#[test]
fn memory_is_the_sum_of_its_parts() {
    let memory = plan(&nano()).unwrap().memory;
    assert_eq!(memory.weights, 4 * (BLOCKS + 2 * VOCAB + NORMS));
    assert_eq!(memory.folded, 4 * 4 * (3 * 256 * 256 + 2 * 256 * 512));
    assert_eq!(memory.bank, 5 * 4 * (BLOCKS + 2 * VOCAB));
    assert_eq!(memory.hidden, 4 * 5 * 4096 * 256);
    assert_eq!(memory.logits, 4 * 4096 * 2048);
    assert_eq!(memory.evaluation, memory.weights + 2 * 4 * 2048 * 2048);
    assert_eq!(memory.gram, 8 * (4 * (3 * 256 * 256 + 512 * 512) + 256 * 256));
    let parts = memory.weights + memory.folded + memory.gram + memory.bank + memory.hidden + memory.logits;
    assert_eq!(memory.total, parts + memory.evaluation);
    assert_eq!(plan(&PlanOptions { fold: false, ..nano() }).unwrap().memory.folded, 0);
    let nearest = PlanOptions { rounding: Rounding::Nearest, ..nano() };
    assert_eq!(plan(&nearest).unwrap().memory.gram, 0);
}

#[test]
fn work_counts_what_each_allocator_does() {
    let work = |allocator, mode| {
        let options = PlanOptions { allocator, mode, episodes: Some(10), ..nano() };
        plan(&options).unwrap().work
    };
    let sac = work(AllocatorKind::Sac, Mode::Sound);
    assert_eq!((sac.calibration, sac.report), (131_072, 4 * 8192));
    // One format of: the embedding, seven matrices in each of four blocks, the head; in fifths of the model.
    let fifth = |n: u64| 4096 * n / 5;
    let blocks = fifth(5) + fifth(4) + fifth(3) + fifth(2);
    assert_eq!(sac.sensitivity, fifth(5) + 7 * blocks + fifth(1));
    assert_eq!((sac.search, sac.episodes), (4096 * (10 + 4), 10));
    let config = SacSearchConfig::sound(0);
    let before = config.pretraining_updates + config.cloning_steps;
    assert_eq!(sac.updates, (10 * config.updates_per_episode.unwrap() + before) as u64);

    let paper = work(AllocatorKind::Sac, Mode::Paper);
    assert_eq!((paper.sensitivity, paper.search, paper.updates), (0, 4096 * (10 + 3), 10 * 30));
    let knapsack = work(AllocatorKind::Knapsack, Mode::Sound);
    assert_eq!((knapsack.sensitivity, knapsack.search, knapsack.updates), (sac.sensitivity, 3 * 4096, 0));
    let uniform = work(AllocatorKind::Uniform, Mode::Sound);
    assert_eq!((uniform.sensitivity, uniform.search, uniform.updates), (0, 2 * 4096, 0));

    let default = plan(&nano()).unwrap().work.episodes;
    assert_eq!(default, config.episodes as u64);
}

#[test]
fn time_is_work_over_rate() {
    let plan = plan(&nano()).unwrap();
    let per_token = 2.0 * (BLOCKS + VOCAB + NORMS) as f64;
    assert_eq!(plan.seconds.calibrate, 131_072.0 * per_token / 1e9);
    assert_eq!(plan.seconds.encode, (6 * (BLOCKS + 2 * VOCAB)) as f64 / 1e6);
    let faster = Rates { model_flops: 2e9, ..RATES };
    let twice = super::plan(&PlanOptions { rates: faster, ..nano() }).unwrap().seconds;
    assert_eq!(twice.search, plan.seconds.search / 2.0);
    assert_eq!(twice.agent, plan.seconds.agent);
    let s = plan.seconds;
    let parts = [s.calibrate, s.encode, s.sensitivity, s.search, s.agent, s.report];
    assert!((parts.iter().sum::<f64>() - s.total).abs() < 1e-9 * s.total);
}

#[cfg(feature = "flex")]
#[test]
fn rates_are_measured() {
    let cpu = burn::tensor::Device::flex();
    let rates = Rates::measure(&cpu, &cpu).unwrap();
    for rate in [rates.model_flops, rates.agent_flops, rates.encode_weights] {
        assert!(rate.is_finite() && rate > 0.0, "{rates:?}");
    }
}
