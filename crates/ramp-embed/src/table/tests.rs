//! Features of the embedded model, and of layers small enough to compute by hand.

use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use ramp_model::{ChannelStats, ModelFiles, Role};

use super::*;
use crate::FEATURE_NAMES;

fn nano() -> (CausalLm, CalibrationStats) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/nano");
    let files = ModelFiles::open(&path).unwrap();
    let model = files.load(&Device::flex()).unwrap();
    let text = std::fs::read_to_string(path.join("sample.txt")).unwrap();
    let start: String = text.chars().take(1000).collect();
    let tokens = files.tokenizer().unwrap().encode_with_bos(&start).unwrap();
    let stats = CalibrationStats::collect(&model, &[&tokens], |_| true).unwrap();
    (model, stats)
}

fn layer(block: usize, role: Role) -> LayerId {
    LayerId::Block { block, role }
}

/// A matrix of +value and -value.
fn checkerboard(model: &CausalLm, id: LayerId, value: f32) -> Tensor<2> {
    let shape @ [out, inp] = model.config().shape(id);
    let data: Vec<f32> = (0..out * inp).map(|i| if i % 2 == 0 { value } else { -value }).collect();
    Tensor::from_data(TensorData::new(data, shape), model.device())
}

fn close(a: f32, b: f64) -> bool {
    (f64::from(a) - b).abs() <= 1e-5 * b.abs().max(1.0)
}

const FIRST: Context =
    Context { prev_bits: 0.0, avg_bits: 0.0, is_first: true, min_bits: 3.0, max_bits: 6.0, target_bits: 4.5 };

#[test]
fn slots_by_hand() {
    let (mut model, mut stats) = nano();
    let id = layer(1, Role::Down); // [256, 512], block 1 of 4
    model.set_weight(id, checkerboard(&model, id, 0.03)).unwrap();
    let mut channels = ChannelStats {
        mean_abs: vec![0.001; 512],
        max_abs: vec![0.002; 512],
        sum_sq: vec![1.0; 512],
        count: 1,
    };
    channels.mean_abs[3] = 0.001 + 0.512;
    channels.max_abs[9] = 0.0005;
    stats.insert(id, channels);

    let paper = FeatureTable::extract(&model, &stats, &[id], FeatureMode::Paper).unwrap();
    let mean_max = (511.0 * 0.002 + 0.0005) / 512.0;
    let expected = [1.0 / 3.0, 5.0, 4.0, 0.3, 0.3, 0.75, 0.5, 100.0 * mean_max, 1.0];
    for (at, expected) in expected.into_iter().enumerate() {
        assert!(close(paper.raw(0)[at], expected), "{}: {}", FEATURE_NAMES[at], paper.raw(0)[at]);
    }
    assert_eq!(paper.saturated(), Saturation { act_max: 1, ..Saturation::default() });

    let sound = FeatureTable::extract(&model, &stats, &[id], FeatureMode::Sound).unwrap();
    let expected = [
        1.0 / 3.0,
        5.0 / 16.0,
        4.0 / 16.0,
        0.03f64.ln(),
        0.03f64.ln(),
        0.75,
        0.5,
        0.002f64.ln(), // the mean over channels: 0.001 + 0.512 / 512
        0.002f64.ln(),
    ];
    for (at, expected) in expected.into_iter().enumerate() {
        assert!(close(sound.raw(0)[at], expected), "{}: {}", FEATURE_NAMES[at], sound.raw(0)[at]);
    }
    assert!(sound.saturated().is_none());

    let state = paper.state(
        0,
        Context { is_first: false, prev_bits: 6.0, avg_bits: 4.0, ..FIRST },
        &Scaler::identity(),
    );
    assert_eq!(state[..N_STATIC], *paper.raw(0));
    assert_eq!(state[N_STATIC..], [0.75, 0.5]);
    assert_eq!(sound.state(0, FIRST, &Scaler::identity())[N_STATIC..], [0.5, 0.5]);
}

#[test]
fn activations_of_a_real_model_saturate_the_literal_formulas() {
    let (mut model, stats) = nano();
    let wide = layer(2, Role::Gate);
    model.set_weight(wide, checkerboard(&model, wide, 0.2)).unwrap();
    let layers = model.config().layers();
    let table = FeatureTable::extract(&model, &stats, &layers, FeatureMode::Paper).unwrap();
    let saturated = table.saturated();
    // Every layer but the embedding, which has no activations.
    assert_eq!((saturated.act_mean, saturated.act_max), (layers.len() - 1, layers.len() - 1));
    let at = layers.iter().position(|&id| id == wide).unwrap();
    assert_eq!((table.raw(at)[slot::WEIGHT_STD], table.raw(at)[slot::WEIGHT_MEAN_ABS]), (1.0, 1.0));
    assert!(saturated.weight_std >= 1 && saturated.weight_std < layers.len());
    let at_clip = |at: usize| (0..table.len()).filter(|&i| table.raw(i)[at] == 1.0).count();
    assert_eq!(saturated.weight_std, at_clip(slot::WEIGHT_STD));
    assert_eq!(saturated.weight_mean_abs, at_clip(slot::WEIGHT_MEAN_ABS));
}

#[test]
fn embedding_and_head_have_neutral_and_own_slots() {
    let (model, stats) = nano();
    let layers = model.config().layers();
    for mode in [FeatureMode::Paper, FeatureMode::Sound] {
        let table = FeatureTable::extract(&model, &stats, &layers, mode).unwrap();
        assert_eq!(table.layers(), layers);
        let (embedding, head) = (table.raw(0), table.raw(layers.len() - 1));
        assert_eq!(
            [embedding[slot::DEPTH], embedding[slot::LAYER_TYPE], embedding[slot::POSITION]],
            [0.0, 1.0, 0.0]
        );
        assert_eq!([head[slot::DEPTH], head[slot::LAYER_TYPE], head[slot::POSITION]], [1.0, 1.0, 1.0]);
        let normalised = table.normalised(&Scaler::fit(&table));
        for at in [slot::ACT_MEAN, slot::ACT_MAX] {
            assert!(normalised[0][at].abs() < 1e-5, "{mode:?}: {}", normalised[0][at]);
        }
    }
    let alone = FeatureTable::extract(&model, &stats, &[LayerId::TokenEmbd], FeatureMode::Sound).unwrap();
    assert_eq!((alone.raw(0)[slot::ACT_MEAN], alone.raw(0)[slot::ACT_MAX]), (0.0, 0.0));
}

#[test]
fn a_fitted_scaler_gives_zero_mean_and_unit_variance() {
    let (model, stats) = nano();
    let layers = model.config().layers();
    for mode in [FeatureMode::Paper, FeatureMode::Sound] {
        let table = FeatureTable::extract(&model, &stats, &layers, mode).unwrap();
        let scaler = Scaler::fit(&table);
        assert_eq!(scaler.mode(), Some(mode));
        let rows = table.normalised(&scaler);
        for at in 0..N_STATIC {
            let n = rows.len() as f64;
            let column = || rows.iter().map(|row| f64::from(row[at]));
            if mode == FeatureMode::Sound && [slot::DEPTH, slot::LAYER_TYPE, slot::POSITION].contains(&at) {
                assert!(column().eq((0..rows.len()).map(|i| f64::from(table.raw(i)[at]))));
                continue;
            }
            let mean = column().sum::<f64>() / n;
            let variance = column().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
            // The activations of the paper's mode are clipped: constant, and 0 after normalisation.
            let clipped = mode == FeatureMode::Paper && [slot::ACT_MEAN, slot::ACT_MAX].contains(&at);
            let expected = if clipped { 0.0 } else { 1.0 };
            assert!(mean.abs() < 1e-4, "{mode:?} {}: mean {mean}", FEATURE_NAMES[at]);
            assert!(
                (variance - expected).abs() < 1e-3,
                "{mode:?} {}: variance {variance}",
                FEATURE_NAMES[at]
            );
        }
    }
}

#[test]
fn weight_slots_agree_with_sums_over_all_weights() {
    let (model, stats) = nano();
    for id in [LayerId::TokenEmbd, layer(0, Role::K), layer(3, Role::Up), LayerId::Output] {
        let table = FeatureTable::extract(&model, &stats, &[id], FeatureMode::Sound).unwrap();
        let weight = model.weight_data(id).unwrap();
        let mean_of = |f: &dyn Fn(f64) -> f64| {
            weight.iter().map(|&w| f(f64::from(w))).sum::<f64>() / weight.len() as f64
        };
        let mean = mean_of(&|w| w);
        let std = mean_of(&|w| (w - mean).powi(2)).sqrt();
        assert!(close(table.raw(0)[slot::WEIGHT_STD], std.ln()), "{id}");
        assert!(close(table.raw(0)[slot::WEIGHT_MEAN_ABS], mean_of(&f64::abs).ln()), "{id}");
    }
}

#[test]
fn missing_and_broken_input_is_named() {
    let (mut model, mut stats) = nano();
    let broken_weight = layer(1, Role::V);
    let mut weight = model.weight_data(broken_weight).unwrap();
    weight[1000] = f32::NAN;
    let weight = Tensor::from_data(TensorData::new(weight, [256, 256]), model.device());
    model.set_weight(broken_weight, weight).unwrap();
    let extract = |stats: &CalibrationStats, id| {
        FeatureTable::extract(&model, stats, &[id], FeatureMode::Sound).unwrap_err().to_string()
    };
    assert_eq!(extract(&stats, broken_weight), "feature `weight_std` of `blk.1.attn_v.weight` is NaN");

    let up = layer(0, Role::Up);
    let expected = "there are no activation statistics for `blk.0.ffn_up.weight`";
    assert_eq!(extract(&CalibrationStats::default(), up), expected);
    assert_eq!(extract(&stats, layer(4, Role::Up)), "the model has no matrix `blk.4.ffn_up.weight`");

    let whole = stats.get(up).unwrap().clone();
    stats.insert(up, ChannelStats { mean_abs: vec![1.0; 3], ..whole.clone() });
    let expected = "`blk.0.ffn_up.weight` has 256 input channels, its activation statistics have 3";
    assert_eq!(extract(&stats, up), expected);

    let mut broken = whole;
    broken.max_abs[100] = f32::NAN;
    stats.insert(up, broken);
    assert_eq!(
        extract(&stats, up),
        "the activation statistic of channel 100 of `blk.0.ffn_up.weight` is NaN"
    );
}

/// Every slot of Section 3.2 by hand, on one layer of each kind.
#[test]
fn section_32_by_hand() {
    let (mut model, mut stats) = nano();
    let id = layer(1, Role::Down); // [256, 512], block 1 of 4
    model.set_weight(id, checkerboard(&model, id, 0.03)).unwrap();
    let mut channels =
        ChannelStats { mean_abs: vec![0.25; 512], max_abs: vec![2.0; 512], sum_sq: vec![1.0; 512], count: 1 };
    channels.max_abs[7] = 8.0;
    stats.insert(id, channels);
    let table = FeatureTable::extract(&model, &stats, &[id], FeatureMode::Section32).unwrap();
    let expected = [8.0 / 512f64.sqrt(), 0.25, 0.0, 0.03, 1.0 / 3.0, 2.0, 1.0, 1.0, 0.5];
    for (at, expected) in expected.into_iter().enumerate() {
        let name = FeatureMode::Section32.names()[at];
        assert!(close(table.raw(0)[at], expected), "{name}: {}", table.raw(0)[at]);
    }
    assert_eq!(table.state(0, FIRST, &Scaler::identity())[N_STATIC..], [0.0, 0.0]);
    let others = [layer(0, Role::V), LayerId::Output, LayerId::TokenEmbd];
    let table = FeatureTable::extract(&model, &stats, &others, FeatureMode::Section32).unwrap();
    assert_eq!([0, 1, 2].map(|i| table.raw(i)[7]), [0.0, 0.5, 0.5]);
    assert!(table.saturated().is_none());
    // The embedding has no input: the mean of the others.
    assert!(close(table.raw(2)[0], f64::midpoint(table.raw(0)[0].into(), table.raw(1)[0].into())));
}

#[test]
fn a_model_is_stable_against_itself_and_not_against_shuffled_weights() {
    let (mut model, stats) = nano();
    let layers = model.config().layers();
    let extract = |model: &CausalLm, mode| FeatureTable::extract(model, &stats, &layers, mode).unwrap();
    let before = extract(&model, FeatureMode::Sound);
    let same = crate::stability(&before, &before).unwrap();
    assert!(same.roles.iter().all(|role| role.correlation.is_none_or(|r| (r - 1.0).abs() < 1e-9)));
    assert!(same.by_feature_within.iter().flat_map(|(_, r)| r).all(|r| (r - 1.0).abs() < 1e-9));
    assert_eq!(same.cells, layers.len(), "four blocks are four depths");
    let name = |at: usize| FEATURE_NAMES[at].to_owned();
    // Depth and type are structure, and nothing is left of them.
    assert_eq!(same.by_feature_within[slot::DEPTH], (name(slot::DEPTH), None));
    assert_eq!(same.by_feature_within[slot::LAYER_TYPE], (name(slot::LAYER_TYPE), None));

    // Scales that have nothing to do with those of the model.
    for (i, &id) in layers.iter().enumerate() {
        let value = [0.01, 0.3, 0.05, 0.002, 0.1][(i * i) % 5];
        model.set_weight(id, checkerboard(&model, id, value)).unwrap();
    }
    let other = crate::stability(&before, &extract(&model, FeatureMode::Sound)).unwrap();
    assert!((other.by_feature[slot::DEPTH].1.unwrap() - 1.0).abs() < 1e-9);
    assert!(other.by_feature_within[slot::WEIGHT_STD].1.unwrap() < 0.6, "{:?}", other.by_feature_within);
    let paper = extract(&model, FeatureMode::Paper);
    assert!(matches!(crate::stability(&before, &paper), Err(Error::Mismatch { .. })));
}

#[test]
fn depth_counts_blocks_or_layers_and_sizes_are_clipped_on_demand() {
    let (model, stats) = nano();
    let layers = model.config().layers();
    let slots = |config: FeatureConfig| -> Vec<[f32; N_STATIC]> {
        let table = FeatureTable::extract(&model, &stats, &layers, config).unwrap();
        (0..layers.len()).map(|layer| *table.raw(layer)).collect()
    };
    for mode in [FeatureMode::Paper, FeatureMode::Section32, FeatureMode::Sound] {
        let usual = FeatureConfig::from(mode);
        let depth_slot = mode.names().iter().position(|name| *name == "depth").unwrap();
        let (blocks, counted) = (slots(usual), slots(FeatureConfig { depth: DepthIndex::Layer, ..usual }));
        for (at, slots) in counted.iter().enumerate() {
            assert!((slots[depth_slot] - at as f32 / (layers.len() - 1) as f32).abs() < 1e-6);
        }
        let distinct = |rows: &[[f32; N_STATIC]]| {
            let mut depths: Vec<u32> = rows.iter().map(|slots| slots[depth_slot].to_bits()).collect();
            depths.dedup();
            depths.len()
        };
        assert!(distinct(&blocks) < layers.len() && distinct(&counted) == layers.len());
        let clipped = slots(FeatureConfig { clip_dims: true, ..usual });
        for (clipped, plain) in clipped.iter().zip(&blocks) {
            for at in 0..N_STATIC {
                let size = mode.size_slots().contains(&at);
                assert_eq!(clipped[at], if size { plain[at].min(1.0) } else { plain[at] }, "{mode:?} {at}");
            }
        }
    }
}
