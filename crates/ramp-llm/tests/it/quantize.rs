//! `ramp quantize` end to end.

use std::fs;

use ramp::gguf::{GgmlType, GgufFile, Provenance, keys};
use serde_json::Value;

use crate::fixture::{Fixture, quantized, ramp, refuse, succeed};

fn names(list: &Value, key: &str) -> Vec<String> {
    list.as_array().unwrap().iter().map(|item| item[key].as_str().unwrap().to_owned()).collect()
}

#[test]
fn uniform_fills_its_budget() {
    let (fixture, report, summary) = quantized();
    let bytes = fs::metadata(fixture.out()).unwrap().len();
    assert_eq!(report["file_bytes"], bytes);
    let bits = report["bits_per_weight"].as_f64().unwrap();
    assert!((0.995 * 4.5..=4.5).contains(&bits), "{bits}");
    assert_eq!(fixture.listing(), ["model", "out.gguf", "report.json", "text"]);

    assert_eq!(names(&report["candidates"], "allocator"), ["uniform"]);
    assert_eq!(report["layers"].as_array().unwrap().len(), 4 * 7 + 2);
    // The file is the uniform allocation: what is read back from its bytes is what was searched with.
    assert_eq!(report["after"], report["uniform"]);
    for part in ["out.gguf: ", "% used", "attn_q", "output", "uniform", "unquantized", "seconds: "] {
        assert!(summary.contains(part), "`{part}` is not in:\n{summary}");
    }
    assert!(!summary.contains('\u{1b}'), "{summary}");
}

#[test]
fn a_file_says_how_it_was_made() {
    let (fixture, report, _) = quantized();
    let file = GgufFile::open(fixture.out()).unwrap();
    let made = Provenance::read(file.metadata()).unwrap();
    let command = made.command.unwrap();
    assert!(
        command.starts_with("ramp quantize model --bpw 4.5 --mode sound --allocator uniform"),
        "{command}"
    );
    assert!(!command.contains("out.gguf"), "the file's own name is not part of it: {command}");
    assert_eq!(made.version.as_deref(), report["version"].as_str());
    let types: Vec<_> = file.tensors().iter().map(|tensor| tensor.ty).collect();
    assert_eq!(made.allocation, Some(types));
    assert_eq!((made.folded, made.rounding.as_deref()), (Some(true), Some("gptq")));
    let calibration = made.calibration.unwrap();
    assert!(calibration.dataset == "text" && calibration.samples > 0 && calibration.sequence_length > 0);
    let metadata = file.metadata();
    assert_eq!(metadata.get_str(keys::QUANTIZE_IMATRIX_DATASET).unwrap(), "text");
    assert_eq!(metadata.get_u32(keys::QUANTIZE_IMATRIX_ENTRIES_COUNT).unwrap(), 4 * 7 + 2);
    assert_eq!(metadata.get_u32(keys::QUANTIZE_IMATRIX_CHUNKS_COUNT).unwrap(), calibration.samples);
}

#[test]
fn a_size_is_held_to_the_byte() {
    let fixture = Fixture::new();
    let budget = 2_150_000;
    succeed(&mut fixture.quantize(&["--allocator", "knapsack", "--size", "2.15MB", "--no-fold"]));
    let bytes = fs::metadata(fixture.out()).unwrap().len();
    assert!(bytes <= budget && bytes as f64 >= 0.995 * budget as f64, "{bytes}");
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_a_policy() {
    let first = Fixture::new();
    let second = Fixture::new();
    for fixture in [&first, &second] {
        let (report, policy) = (fixture.path("report.json"), fixture.path("policy"));
        let log = fixture.path("log.json");
        let [report, policy, log] = [&report, &policy, &log].map(|path| path.to_str().unwrap());
        let files = ["--json", report, "--save-policy", policy, "--log", log];
        let args = [&["--bpw", "4.25", "--episodes", "2", "--seed", "3"], &files[..]].concat();
        succeed(&mut fixture.quantize(&args));
    }
    let read = |fixture: &Fixture, name: &str| fs::read(fixture.path(name)).unwrap();
    assert!(read(&first, "out.gguf") == read(&second, "out.gguf"), "the files differ");
    assert!(read(&first, "policy") == read(&second, "policy"), "the policies differ");
    assert!(read(&first, "log.json") == read(&second, "log.json"), "the logs differ");
    let log = ramp::search::TrainingLog::load(&first.path("log.json")).unwrap();
    assert_eq!((log.model.as_str(), log.seed, log.episodes.len()), ("model", 3, 2));
    assert!(log.slots.len() == 4 * 7 + 2 && log.slots.iter().all(|slot| slot.features.len() == 9));
    assert!(log.episodes.iter().all(|episode| episode.fits && episode.learning.is_some()));

    let figures = first.path("figures");
    let table = succeed(ramp().arg("figures").arg(first.path("log.json")).arg("-o").arg(&figures));
    for name in ["training", "allocation", "transitions", "components"] {
        let svg = fs::read_to_string(figures.join(name).with_extension("svg")).unwrap();
        assert!(svg.starts_with("<svg") && table.contains(&format!("{name}.svg")), "{name}: {table}");
    }

    let report: Value = serde_json::from_slice(&read(&first, "report.json")).unwrap();
    assert_eq!(names(&report["candidates"], "allocator"), ["uniform", "knapsack", "policy", "sac"]);
    assert_eq!(report["curve"].as_array().unwrap().len(), 2);
    let kld = |at: usize| report["candidates"][at]["score"]["kld"].as_f64().unwrap();
    let least = kld(1).min(kld(2));
    assert!(kld(3) <= least, "the search keeps the best that it saw: {} and {least}", kld(3));

    // The policy allocates without a search.
    let policy = first.path("policy");
    let summary = succeed(&mut first.quantize(&["--bpw", "4.25", "--policy", policy.to_str().unwrap()]));
    assert!(summary.contains("allocator policy (policy trained on model)"), "{summary}");
}

#[test]
fn other_searches_hold_the_budget_too() {
    let scores = ["proxy", "polish", "evopress"].map(|allocator| {
        let fixture = Fixture::new();
        let report = fixture.path("report.json");
        let args = ["--allocator", allocator, "--bpw", "4.2", "--rounding", "nearest", "--json"];
        succeed(fixture.quantize(&args).arg(&report));
        let report: Value = serde_json::from_slice(&fs::read(report).unwrap()).unwrap();
        assert!(report["bits_per_weight"].as_f64().unwrap() <= 4.2, "{allocator}");
        assert_eq!(report["file_bytes"], fs::metadata(fixture.out()).unwrap().len());
        assert_eq!(report["allocator"], allocator);
        let candidates = report["candidates"].as_array().unwrap().iter();
        let score = |candidate: &Value| candidate["score"]["kld"].as_f64().unwrap();
        candidates.map(score).collect::<Vec<f64>>()
    });
    let [proxy, polish, evopress] = scores;
    // Uniform and itself; uniform, the knapsack that it begins with, and itself.
    assert_eq!((proxy.len(), polish.len(), evopress.len()), (2, 3, 2));
    assert!(polish[2] <= polish[1] && polish[1] < polish[0], "{polish:?}");
    assert!(evopress[1] < evopress[0], "{evopress:?}");
}

#[test]
fn embedding_and_head_can_be_fixed_for_any_search() {
    for allocator in ["uniform", "proxy", "knapsack", "sac", "discrete"] {
        let fixture = Fixture::new();
        let mut command =
            fixture.quantize(&["--allocator", allocator, "--bpw", "5.2", "--rounding", "nearest"]);
        // One type that the search may choose, and one that it may not.
        command.args(["--token-embd-type", "q8_0", "--output-type", "Q6_K"]);
        if matches!(allocator, "sac" | "discrete") {
            command.args(["--episodes", "2"]);
        }
        succeed(&mut command);
        let file = GgufFile::open(fixture.out()).unwrap();
        let of = |name: &str| file.tensors().iter().find(|tensor| tensor.name == name).unwrap().ty;
        assert_eq!(
            (of("token_embd.weight"), of("output.weight")),
            (GgmlType::Q8_0, GgmlType::Q6_K),
            "{allocator}"
        );
        let made = Provenance::read(file.metadata()).unwrap().command.unwrap();
        assert!(made.contains("--token-embd-type Q8_0 --output-type Q6_K"), "{made}");
    }
}

#[test]
fn fixed_types_move_the_limits_of_the_budget() {
    let fixture = Fixture::new();
    // With the embedding in F16, fifteen bits for a fifth of the weights, four bits for all are out of reach.
    refuse(
        &mut fixture.quantize(&["--bpw", "4", "--token-embd-type", "F16", "--output-type", "F16"]),
        &["4 bits per weight", "below the floor"],
    );
    refuse(&mut fixture.quantize(&["--output-type", "IQ2_XXS"]), &["IQ2_XXS"]);
}

#[test]
fn rewards_on_the_test_text_are_said_and_marked() {
    let fixture = Fixture::new();
    let report = fixture.path("report.json");
    let mut command = ramp();
    command
        .arg("quantize")
        .arg(fixture.model())
        .arg("-o")
        .arg(fixture.out())
        .arg("--text")
        .arg(fixture.text());
    command.args(["--ctx", "64", "--calibration-tokens", "1024", "--report-tokens", "256", "--no-fold"]);
    command.args(["--allocator", "uniform", "--rounding", "nearest", "--search-tokens", "all"]);
    succeed(command.arg("--reward-on-test-text").arg("--json").arg(&report));
    let report: Value = serde_json::from_slice(&fs::read(&report).unwrap()).unwrap();
    assert_eq!(report["reward_text"]["split"], "test");
    assert_eq!(report["reward_text"]["tokens"], "full");
    assert!(report["warnings"][0].as_str().unwrap().contains("the report is no test"), "{report}");
    // The same windows: what the search saw is what is reported.
    let (search, after) = (&report["candidates"][0]["score"]["perplexity"], &report["after"]["perplexity"]);
    assert!((search.as_f64().unwrap() / after.as_f64().unwrap() - 1.0).abs() < 1e-5, "{search} {after}");
    let made = Provenance::read(GgufFile::open(fixture.out()).unwrap().metadata()).unwrap();
    assert!(made.command.unwrap().contains("--search-tokens all --reward-on-test-text"));
    refuse(
        ramp().arg("plan").arg(fixture.model()).args(["--search-tokens", "all"]),
        &["--search-tokens all", "does not read"],
    );
}

#[test]
fn codes_are_learned_after_the_search() {
    let run = |args: &[&str]| {
        let fixture = Fixture::new();
        let report = fixture.path("report.json");
        let mut command = fixture.quantize(&["--allocator", "uniform", "--bpw", "4.2", "--json"]);
        let summary = succeed(command.arg(&report).args(args));
        let report: Value = serde_json::from_slice(&fs::read(report).unwrap()).unwrap();
        let file = GgufFile::open(fixture.out()).unwrap();
        let types: Vec<_> = file.tensors().iter().map(|tensor| tensor.ty).collect();
        (report, summary, types, Provenance::read(file.metadata()).unwrap())
    };
    let (plain, summary, types, _) = run(&[]);
    assert!(plain["learned"].as_array().unwrap().is_empty() && !summary.contains("learned"), "{summary}");
    let (learned, summary, same_types, made) = run(&["--learn-rounding", "20"]);
    assert_eq!(types, same_types);
    assert_eq!(plain["file_bytes"], learned["file_bytes"]);
    assert_eq!(made.rounding.as_deref(), Some("gptq+learned"));
    assert!(made.command.unwrap().contains(" --rounding gptq --learn-rounding 20 "));
    assert!(summary.contains("learned rounding: squared error of the blocks' outputs"), "{summary}");
    let blocks = learned["learned"].as_array().unwrap();
    let sum = |field: &str| blocks.iter().map(|block| block[field].as_f64().unwrap()).sum::<f64>();
    assert_eq!(blocks.len(), 4);
    assert!(sum("after") < sum("before"), "{blocks:?}");
    // What the file decodes to is what was learned, and not the allocation as the search knew it.
    assert_eq!(plain["uniform"], learned["uniform"]);
    assert_ne!(learned["after"], learned["uniform"]);
}
