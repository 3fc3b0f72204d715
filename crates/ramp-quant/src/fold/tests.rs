//! Folding changes the weights and not the function.

use std::path::Path;

use burn::tensor::Device;
use ramp_model::{Architecture, ChannelStats, LayerId, ModelFiles, NormId, Role};

use super::*;

/// Models with random weights.
#[path = "../../../ramp-model/tests/it/random.rs"]
mod random;

struct Nano {
    model: CausalLm,
    stats: CalibrationStats,
    tokens: Vec<u32>,
}

impl Nano {
    fn load() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/nano");
        let files = ModelFiles::open(&path).unwrap();
        let model = files.load(&Device::flex()).unwrap();
        let text = std::fs::read_to_string(path.join("sample.txt")).unwrap();
        let start: String = text.chars().take(1500).collect();
        let tokens = files.tokenizer().unwrap().encode_with_bos(&start).unwrap();
        assert!(tokens.len() > 200, "{} tokens say little", tokens.len());
        let stats = collect(&model, &tokens);
        Self { model, stats, tokens }
    }

    fn logits(&self, model: &CausalLm) -> Vec<f32> {
        model.logits(&[&self.tokens]).unwrap().try_into_vec_as().unwrap()
    }
}

fn collect(model: &CausalLm, tokens: &[u32]) -> CalibrationStats {
    CalibrationStats::collect(model, &[tokens], |_| true).unwrap()
}

fn q(block: usize) -> LayerId {
    LayerId::Block { block, role: Role::Q }
}

/// Largest difference of two vectors relative to the largest magnitude.
fn relative(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let scale = a.iter().map(|x| x.abs()).fold(0.0, f32::max);
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / scale
}

#[test]
fn folding_keeps_the_function_and_transforms_the_statistics() {
    let nano = Nano::load();
    let before = nano.logits(&nano.model);
    for config in
        [FoldConfig::paper(), FoldConfig::default(), FoldConfig { exponent: 1.0, ..FoldConfig::default() }]
    {
        let (mut model, mut stats) = (nano.model.clone(), nano.stats.clone());
        let report = fold(&mut model, &mut stats, &config).unwrap();

        let weight = |model: &CausalLm| model.weight_data(q(0)).unwrap();
        assert!(relative(&weight(&nano.model), &weight(&model)) > 0.01, "{config:?} changed nothing");
        let difference = relative(&before, &nano.logits(&model));
        assert!(difference < 1e-4, "{config:?}: {difference}");

        for block in &report.blocks {
            for scales in [&block.attn, &block.ffn] {
                let mean = scales.iter().sum::<f32>() / scales.len() as f32;
                assert!((mean - 1.0).abs() < 1e-5, "{mean}");
            }
        }
        let fresh = collect(&model, &nano.tokens);
        assert!(fresh.iter().map(|(id, _)| id).eq(stats.iter().map(|(id, _)| id)));
        for (id, expected) in fresh.iter() {
            let found = stats.get(id).unwrap();
            assert!(relative(&expected.mean_abs, &found.mean_abs) < 1e-3, "{id}");
            assert!(relative(&expected.max_abs, &found.max_abs) < 1e-3, "{id}");
            assert!(relative(&expected.mean_sq(), &found.mean_sq()) < 1e-3, "{id}");
            assert_eq!(expected.count, found.count);
        }
    }
}

/// All four sites at exponent 1, where scales are largest, and with chosen exponents: on random models with shared key
/// heads and biases, with head norms, and with a fused matrix and LayerNorm.
#[test]
fn every_extension_keeps_the_function() {
    let nano = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/nano");
    for text in [random::QWEN2, random::QWEN3, random::GPT2] {
        let dir = tempfile::tempdir().unwrap();
        random::folder(dir.path(), text, &nano);
        let base = ModelFiles::open(dir.path()).unwrap().load(&Device::flex()).unwrap();
        let tokens: Vec<u32> = (0..200).map(|i| (i * 37 + 11) % 2048).collect();
        let before = collect(&base, &tokens);
        let logits =
            |model: &CausalLm| -> Vec<f32> { model.logits(&[&tokens]).unwrap().try_into_vec_as().unwrap() };
        let all = FoldConfig { exponent: 1.0, o: true, down: true, ..FoldConfig::default() };
        for config in
            [all, FoldConfig::chosen(GgmlType::Q3_K), FoldConfig { statistic: ActStatistic::Rms, ..all }]
        {
            let (mut model, mut stats) = (base.clone(), before.clone());
            let report = fold(&mut model, &mut stats, &config).unwrap();
            let difference = relative(&logits(&base), &logits(&model));
            assert!(difference < 1e-4, "{difference}");
            for (id, expected) in collect(&model, &tokens).iter() {
                assert!(relative(&expected.max_abs, &stats.get(id).unwrap().max_abs) < 1e-3, "{id}");
            }
            let fused = base.config().architecture == Architecture::Gpt2;
            let block = &report.blocks[1];
            assert_eq!(block.exponents.map(|found| found.is_some()), [true, true, true, !fused]);
            assert_eq!(block.o.len(), base.config().n_kv_heads * base.config().head_dim);
        }
    }
}

/// The chosen exponent is the one of least error among all, and 0 can win.
#[test]
fn exponents_are_chosen_by_the_error() {
    let nano = Nano::load();
    let chosen = |ty| {
        let (mut model, mut stats) = (nano.model.clone(), nano.stats.clone());
        fold(&mut model, &mut stats, &FoldConfig::chosen(ty)).unwrap().blocks
    };
    let exponents: Vec<f64> =
        chosen(GgmlType::Q3_K).iter().flat_map(|block| block.exponents.into_iter().flatten()).collect();
    assert_eq!(exponents.len(), 4 * nano.model.config().n_blocks);
    assert!(exponents.iter().all(|exponent| EXPONENTS.contains(exponent)), "{exponents:?}");
    // No folding changes what F32 stores: all errors are zero, and the first, no folding, stays.
    for block in chosen(GgmlType::F32) {
        assert_eq!(block.exponents, [Some(0.0); 4]);
        assert!(block.o.iter().chain(&block.down).all(|&s| s == 1.0));
    }
}

/// The folded zoo computes what the zoo computes.
#[test]
fn every_model_of_the_zoo_keeps_its_function() {
    let shared = std::env::var_os("RAMP_SHARED").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
        std::path::PathBuf::from,
    );
    for name in ["llama2-xs", "llama3-xs", "mistral-xs", "gpt2-xs"] {
        let folder = shared.join("zoo").join(name);
        if !folder.is_dir() {
            println!("SKIPPED: there is no {} (RAMP_SHARED names the folder)", folder.display());
            continue;
        }
        let base = ModelFiles::open(&folder).unwrap().load(&Device::flex()).unwrap();
        let vocab = base.config().vocab_size as u32;
        let tokens: Vec<u32> = (0..300).map(|i| (i * 37 + 11) % vocab.min(4000)).collect();
        let mut stats = collect(&base, &tokens);
        let mut model = base.clone();
        fold(&mut model, &mut stats, &FoldConfig::chosen(GgmlType::Q3_K)).unwrap();
        let logits =
            |model: &CausalLm| -> Vec<f32> { model.logits(&[&tokens]).unwrap().try_into_vec_as().unwrap() };
        let difference = relative(&logits(&base), &logits(&model));
        assert!(difference < 1e-4, "{name}: {difference}");
    }
}

#[test]
fn a_layer_norm_is_folded_with_its_bias() {
    let nano = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/nano");
    let dir = tempfile::tempdir().unwrap();
    random::folder(dir.path(), random::GPT2, &nano);
    let base = ModelFiles::open(dir.path()).unwrap().load(&Device::flex()).unwrap();
    let tokens: Vec<u32> = (0..200).map(|i| (i * 37 + 11) % 2048).collect();
    let mut stats = collect(&base, &tokens);
    let mut model = base.clone();
    fold(&mut model, &mut stats, &FoldConfig::paper()).unwrap();

    let logits =
        |model: &CausalLm| -> Vec<f32> { model.logits(&[&tokens]).unwrap().try_into_vec_as().unwrap() };
    let difference = relative(&logits(&base), &logits(&model));
    assert!(difference < 1e-4, "{difference}");
    for id in base.config().layers() {
        let same = model.weight_data(id).unwrap() == base.weight_data(id).unwrap();
        assert_eq!(same, !matches!(id.role(), Some(Role::Qkv | Role::Up)), "{id}");
    }
    let bias = |model: &CausalLm| -> Vec<f32> {
        model.norm_bias(NormId::Ffn(1)).unwrap().unwrap().try_into_vec_as().unwrap()
    };
    assert_ne!(bias(&base), bias(&model));
    for (id, expected) in collect(&model, &tokens).iter() {
        assert!(relative(&expected.max_abs, &stats.get(id).unwrap().max_abs) < 1e-3, "{id}");
    }
}

#[test]
fn scales_are_those_of_algorithm_2() {
    let nano = Nano::load();
    let (mut model, mut stats) = (nano.model.clone(), nano.stats.clone());
    let report = fold(&mut model, &mut stats, &FoldConfig::paper()).unwrap();

    let act = &nano.stats.get(LayerId::Block { block: 2, role: Role::Gate }).unwrap().max_abs;
    let roots: Vec<f64> = act.iter().map(|&x| (f64::from(x) + 1e-5).sqrt()).collect();
    let mean = roots.iter().sum::<f64>() / roots.len() as f64;
    let expected: Vec<f32> = roots.iter().map(|root| (root / mean) as f32).collect();
    assert!(relative(&expected, &report.blocks[2].ffn) < 1e-6);

    // One element of a weight and of the norm, by hand.
    let up = LayerId::Block { block: 2, role: Role::Up };
    let s = report.blocks[2].ffn[7];
    let (old, new) = (nano.model.weight_data(up).unwrap(), model.weight_data(up).unwrap());
    assert_eq!(new[3 * 256 + 7], old[3 * 256 + 7] * s);
    let norm = |model: &CausalLm| model.norm(NormId::Ffn(2)).unwrap().try_into_vec_as::<f32>().unwrap()[7];
    assert!((norm(&model) - norm(&nano.model) / s).abs() <= norm(&model).abs() * 1e-6);
}

#[test]
fn only_what_is_asked_for_is_folded() {
    let nano = Nano::load();
    let same = |model: &CausalLm, id| model.weight_data(id).unwrap() == nano.model.weight_data(id).unwrap();
    let (mut model, mut stats) = (nano.model.clone(), nano.stats.clone());
    let report = fold(&mut model, &mut stats, &FoldConfig { ffn: false, ..FoldConfig::paper() }).unwrap();
    for id in nano.model.config().layers() {
        let folded = matches!(id.role(), Some(Role::Q | Role::K | Role::V));
        assert_eq!(same(&model, id), !folded, "{id}");
        assert_eq!(stats.get(id) == nano.stats.get(id), !folded || stats.get(id).is_none(), "{id}");
    }
    assert!(report.blocks.iter().all(|block| block.ffn.is_empty() && block.attn.len() == 256));

    // Exponent 0 is the identity.
    let (mut model, mut stats) = (nano.model.clone(), nano.stats.clone());
    fold(&mut model, &mut stats, &FoldConfig { exponent: 0.0, ..FoldConfig::paper() }).unwrap();
    assert!(nano.model.config().layers().into_iter().all(|id| same(&model, id)));
    assert_eq!(stats, nano.stats);
}

#[test]
fn errors_leave_model_and_statistics_alone() {
    let nano = Nano::load();
    let last = LayerId::Block { block: 3, role: Role::Up };
    let broken = |change: &dyn Fn(&mut ChannelStats)| {
        let mut stats = nano.stats.clone();
        let mut layer = stats.get(last).unwrap().clone();
        change(&mut layer);
        stats.insert(last, layer);
        stats
    };
    let cases = [
        (CalibrationStats::default(), "there are no activation statistics for `blk.0.attn_q.weight`"),
        (
            broken(&|layer| layer.max_abs.truncate(9)),
            "`blk.3.ffn_up.weight` has 256 input channels, its activation statistics have 9",
        ),
        (
            broken(&|layer| layer.mean_abs[5] = f32::NAN),
            "the activation statistic of channel 5 of `blk.3.ffn_up.weight` is NaN",
        ),
    ];
    for (stats, message) in cases {
        let (mut model, mut given) = (nano.model.clone(), stats.clone());
        let error = fold(&mut model, &mut given, &FoldConfig::paper()).unwrap_err();
        assert_eq!(error.to_string(), message);
        assert_eq!(model.weight_data(q(0)).unwrap(), nano.model.weight_data(q(0)).unwrap());
        let show = |stats: &CalibrationStats| format!("{stats:?}"); // NaN is not equal to itself
        assert_eq!(show(&given), show(&stats));
    }
    for (field, config) in [
        ("exponent", FoldConfig { exponent: 1.5, ..FoldConfig::paper() }),
        ("exponent", FoldConfig { exponent: f64::NAN, ..FoldConfig::paper() }),
        ("epsilon", FoldConfig { epsilon: 0.0, ..FoldConfig::paper() }),
    ] {
        let error = fold(&mut nano.model.clone(), &mut nano.stats.clone(), &config).unwrap_err();
        assert!(matches!(error, Error::FoldConfig { field: found, .. } if found == field), "{error}");
    }
}

#[test]
fn configurations_are_readable_json() {
    let paper = FoldConfig::paper();
    let json = serde_json::json!({
        "statistic": "max_abs", "exponent": 0.5, "epsilon": 1e-5, "attn": true, "ffn": true,
        "o": false, "down": false, "choose": null,
    });
    assert_eq!(serde_json::to_value(paper).unwrap(), json);
    assert_eq!(serde_json::from_value::<FoldConfig>(json).unwrap(), paper);
    // Fields that are left out have the default; fields that do not exist are refused.
    let partial: FoldConfig = serde_json::from_str(r#"{"statistic": "max_abs"}"#).unwrap();
    assert_eq!(partial, paper);
    assert!(serde_json::from_str::<FoldConfig>(r#"{"power": 0.5}"#).is_err());
}
