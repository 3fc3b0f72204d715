//! Methods on the nano model.

use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use ramp_gguf::GgmlType;
use ramp_model::{CalibrationStats, CausalLm, ChannelStats, Gather, LayerId, ModelFiles, NoTap, Role};
use ramp_quant::{
    Error, Format, GptqConfig, LayerQuantizer, LearnConfig, LearnStart, Rounding,
    affine::{AffineConfig, ZeroPoint, fake_quantize_slice},
    baseline::{AwqConfig, Calibration, GptqAffineConfig, Kind, Matrix, Method, apply, awq, gptq_affine},
    dequantize, learn_rounding,
};

fn nano() -> CausalLm {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/nano");
    ModelFiles::open(&path).unwrap().load(&Device::flex()).unwrap()
}

fn window() -> Vec<u32> {
    (0..200).map(|i| 3 + i * 7 % 900).collect()
}

fn stats(model: &CausalLm) -> CalibrationStats {
    let what = Gather { gram: true, ..Gather::default() };
    CalibrationStats::gather(model, &[&window()], what, |_| true).unwrap()
}

#[test]
fn every_method_quantizes_a_model_and_more_bits_lose_less() {
    let model = nano();
    let stats = stats(&model);
    let tokens: Vec<u32> = (0..40).map(|i| 5 + i * 11 % 700).collect();
    let logits = |model: &CausalLm| -> Tensor<3> { model.logits(&[&tokens]).unwrap() };
    let base = logits(&model);
    for kind in Kind::ALL {
        let error = |bits: u8| {
            let mut quantized = model.clone();
            let method = Method::published(kind, bits, 32);
            let mut calls = Vec::new();
            let applied = apply(method, &mut quantized, &stats, &[&window()], |done, total| {
                calls.push((done, total));
                true
            })
            .unwrap();
            let n = model.config().n_blocks * model.config().architecture.roles().len();
            assert_eq!((applied.layers.len(), calls.last()), (n, Some(&(n, n))));
            let bits_per_weight = applied.bits_per_weight();
            // A table of 64 values is as much as one of nano's short rows.
            let most = if kind.has_groups() { f64::from(bits) + 1.0 } else { 32.0 };
            assert!((f64::from(bits)..most).contains(&bits_per_weight), "{method}: {bits_per_weight}");
            let head = |model: &CausalLm| model.weight_data(LayerId::TokenEmbd).unwrap();
            assert_eq!(head(&quantized), head(&model), "the embedding stays");
            let difference = logits(&quantized) - base.clone();
            difference.square().mean().into_scalar::<f32>()
        };
        let errors = [3, 6].map(error);
        assert!(errors[1] < 0.1 * errors[0], "{}: {errors:?}", kind.name());
    }
}

#[test]
fn formats_are_methods_too() {
    let model = nano();
    let stats = stats(&model);
    for name in ["q4_0", "q8_0", "affine4-g32"] {
        let mut quantized = model.clone();
        let method: Method = name.parse().unwrap();
        let applied = apply(method, &mut quantized, &stats, &[], |_, _| true).unwrap();
        let Method::Format { format, .. } = method else { panic!("{name}") };
        for layer in &applied.layers {
            let shape = model.config().shape(layer.id);
            assert_eq!(layer.bytes, format.fallback(shape[1]).bytes(shape).unwrap(), "{name} {}", layer.id);
        }
    }
}

/// What a layer reads depends on the layers in front of it alone. So a pass over the model that is quantized throughout must
/// give, for every layer, the statistics that it was rounded with.
#[test]
fn sequential_inputs_are_those_of_the_quantized_model() {
    let model = nano();
    let run = |name: &str| {
        let mut quantized = model.clone();
        apply(name.parse().unwrap(), &mut quantized, &stats(&model), &[&window()], |_, _| true).unwrap();
        quantized
    };
    let (sequential, one_pass) = (run("gptq3-g32"), run("gptq3-g32-onepass"));
    let mut differ = Vec::new();
    for (quantized, stats) in [(&sequential, stats(&sequential)), (&one_pass, stats(&model))] {
        let config =
            GptqAffineConfig { affine: AffineConfig::per_group(3, 32), ..GptqAffineConfig::default() };
        for id in model.config().layers().into_iter().filter(|id| id.block().is_some()) {
            let weight = model.weight_data(id).unwrap();
            let matrix = Matrix::new(&weight, model.config().shape(id)).unwrap();
            let hessian = config.hessian(stats.gram(id).unwrap()).unwrap();
            let expected = gptq_affine(matrix, &hessian, &config).unwrap().dequantized;
            assert_eq!(quantized.weight_data(id).unwrap(), expected, "{id}");
            if sequential.weight_data(id).unwrap() != one_pass.weight_data(id).unwrap() {
                differ.push(id);
            }
        }
    }
    // The first three read the embedding in both cases; all others must have noticed.
    differ.dedup();
    let first = |id: LayerId| id.block() == Some(0) && matches!(id.role(), Some(Role::Q | Role::K | Role::V));
    assert!(differ.iter().all(|id| !first(*id)));
    differ.sort();
    differ.dedup();
    let layers = model.config().n_blocks * model.config().architecture.roles().len();
    assert_eq!(differ.len(), layers - 3);
}

/// The scales of q, k and v are the best of 20 for attention's output and not for their own.
#[test]
fn awq_searches_for_the_output_of_attention() {
    let model = nano();
    let (stats, window) = (stats(&model), window());
    let affine = AffineConfig::per_group(3, 32).with_zero_point(ZeroPoint::Clamped);
    let ids = [Role::Q, Role::K, Role::V].map(|role| LayerId::Block { block: 0, role });
    let mean_abs = &stats.get(ids[0]).unwrap().mean_abs;

    // With a feed-forward network that adds nothing, the block's output is the stream and attention's.
    let mut attention = model.clone();
    let down = LayerId::Block { block: 0, role: Role::Down };
    attention.set_weight(down, model.weight(down).unwrap().zeros_like()).unwrap();
    let output = |model: &CausalLm| {
        let stream = model.run_blocks(model.embed(&[&window]).unwrap(), 0..1, &mut NoTap).unwrap();
        stream.try_into_vec_as::<f32>().unwrap()
    };
    let base = output(&attention);
    let candidates: Vec<(f64, Vec<Vec<f32>>)> = (0..20)
        .map(|k| {
            let s: Vec<f64> =
                mean_abs.iter().map(|&x| f64::from(x).powf(f64::from(k) / 20.0).max(1e-4)).collect();
            let (max, min) = (s.iter().copied().fold(0.0, f64::max), s.iter().copied().fold(9e9, f64::min));
            let s: Vec<f32> = s.iter().map(|s| (s / (max * min).sqrt()) as f32).collect();
            let mut trial = attention.clone();
            let weights = ids.map(|id| {
                let shape = model.config().shape(id);
                let times: Vec<f32> =
                    model.weight_data(id).unwrap().iter().zip(s.iter().cycle()).map(|(w, s)| w * s).collect();
                let mut q = vec![0.0; times.len()];
                fake_quantize_slice(&times, shape, affine, &mut q).unwrap();
                q.iter_mut().zip(s.iter().cycle()).for_each(|(q, s)| *q /= s);
                let tensor = TensorData::new(q.clone(), shape);
                trial.set_weight(id, Tensor::from_data(tensor, model.device())).unwrap();
                q
            });
            let error = output(&trial).iter().zip(&base).map(|(a, b)| f64::from(a - b).powi(2)).sum();
            (error, weights.to_vec())
        })
        .collect();
    let best = candidates.iter().min_by(|a, b| a.0.total_cmp(&b.0)).unwrap();

    let mut quantized = model.clone();
    apply("awq3-g32".parse().unwrap(), &mut quantized, &stats, &[&window], |_, _| true).unwrap();
    // v is clipped afterwards; queries and keys are not.
    for (id, expected) in ids.iter().zip(&best.1).take(2) {
        assert_eq!(&quantized.weight_data(*id).unwrap(), expected, "{id}");
    }

    let weights = ids.map(|id| model.weight_data(id).unwrap());
    let matrices: Vec<Matrix<'_>> = ids
        .iter()
        .zip(&weights)
        .map(|(id, weight)| Matrix::new(weight, model.config().shape(*id)).unwrap())
        .collect();
    let calibration = Calibration::of(stats.get(ids[0]).unwrap(), stats.gram(ids[0]).unwrap()).unwrap();
    let config = AwqConfig { affine, ..AwqConfig::default() };
    let own = awq(&matrices, &calibration, &config, |_| false).unwrap();
    assert_ne!(
        own.outcomes[0].dequantized, best.1[0],
        "the two searches agree here, and the test shows nothing"
    );
}

#[test]
fn statistics_of_another_model_are_refused() {
    let model = nano();
    let mut stats = stats(&model);
    let rtn: Method = "rtn4-g32".parse().unwrap();
    let gptq: Method = "gptq4-g32-onepass".parse().unwrap();
    let none = CalibrationStats::default();
    let run = |method, stats: &CalibrationStats| apply(method, &mut model.clone(), stats, &[], |_, _| true);
    assert!(run(rtn, &none).is_ok());
    assert!(matches!(run(gptq, &none), Err(Error::MissingGram { .. })));
    let k = LayerId::Block { block: 0, role: Role::Q };
    let channels =
        ChannelStats { mean_abs: vec![1.0; 3], max_abs: vec![1.0; 3], sum_sq: vec![1.0; 3], count: 1 };
    stats.insert(k, channels);
    let error = run(gptq, &stats).unwrap_err();
    assert!(error.to_string().contains("blk.0.attn_q"), "{error}");
    let error = run("q4_0".parse().unwrap(), &stats).unwrap_err();
    assert!(matches!(&error, Error::StatsWidth { found: 3, .. }), "{error}");
    let too_wide: Method = "rtn4-g100000".parse().unwrap();
    let error = run(too_wide, &none).unwrap_err();
    assert!(
        error.to_string().contains("blk.0.attn_q.weight") && error.to_string().contains("100000"),
        "{error}"
    );
    for method in ["gptq4-g32", "awq4-g32", "q4_0-gptq-sequential"] {
        let Ok(method) = method.parse::<Method>() else { continue };
        let error = run(method, &stats).unwrap_err();
        assert!(error.to_string().contains(&method.to_string()), "{error}");
        assert!(matches!(error, Error::MissingWindows { .. }), "{error}");
    }
    let stopped = apply(rtn, &mut model.clone(), &none, &[], |_, _| false).unwrap_err();
    assert!(matches!(stopped, Error::Model(ramp_model::Error::Interrupted)));
}

fn held_out(model: &CausalLm, base: &CausalLm) -> f32 {
    let tokens: Vec<u32> = (0..120).map(|i| 9 + i * 13 % 800).collect();
    let log_p = |model: &CausalLm| -> Tensor<2> {
        let logits: Tensor<3> = model.logits(&[&tokens]).unwrap();
        let [_, seq, vocab] = logits.dims();
        let (logits, lse) = ramp_model::log_sum_exp(logits.reshape([seq, vocab]));
        logits - lse
    };
    let (p, q) = (log_p(base), log_p(model));
    (p.clone().exp() * (p - q)).sum().into_scalar::<f32>() / tokens.len() as f32
}

#[test]
fn lrq_learns_for_the_output_of_blocks() {
    let model = nano();
    let stats = stats(&model);
    let windows = windows();
    let windows: Vec<&[u32]> = windows.iter().map(Vec::as_slice).collect();
    let divergence = |name: &str| {
        let mut quantized = model.clone();
        apply(name.parse().unwrap(), &mut quantized, &stats, &windows, |_, _| true).unwrap();
        held_out(&quantized, &model)
    };
    let (rtn, by_block) = (divergence("rtn3-g32"), divergence("lrq3-g32"));
    assert!(by_block < 0.9 * rtn, "{rtn} {by_block}");
    let missing = apply("lrq3".parse().unwrap(), &mut model.clone(), &stats, &[], |_, _| true);
    assert!(matches!(missing, Err(Error::MissingWindows { .. })));
}

/// Windows of made-up tokens.
fn windows() -> Vec<Vec<u32>> {
    (0..4).map(|w| (0..64).map(|i| 3 + (w * 31 + i * (7 + w)) % 900).collect()).collect()
}

/// What a matrix of nano is begun with: Q3_K by GPTQ, but for `down`, which has no grid, and `o`, whose steps are uneven.
fn begin(model: &CausalLm, stats: &CalibrationStats, id: LayerId) -> LearnStart {
    let (weight, shape) = (model.weight_data(id).unwrap(), model.config().shape(id));
    let format = Format::Ggml(match id.role() {
        Some(Role::Down) => GgmlType::F16,
        Some(Role::O) => GgmlType::IQ4_XS,
        _ => GgmlType::Q3_K,
    });
    let format = format.fallback(shape[1]);
    let mut quantizer = LayerQuantizer::new(stats, Rounding::Gptq(GptqConfig::default()));
    let quantized = quantizer.quantize(id, &weight, shape, format).unwrap();
    LearnStart { weight, format, quantized }
}

#[test]
fn learned_codes_are_better_for_the_output_of_blocks() {
    let model = nano();
    let (stats, windows) = (stats(&model), windows());
    let windows: Vec<&[u32]> = windows.iter().map(Vec::as_slice).collect();
    let run = |steps: usize| {
        let (mut quantized, mut layers) = (model.clone(), Vec::new());
        let config = LearnConfig { steps, ..LearnConfig::default() };
        let start = |id| Ok(begin(&model, &stats, id));
        let keep = |layer| layers.push(layer);
        let blocks = learn_rounding(&mut quantized, &windows, &config, start, keep, |_, _| true).unwrap();
        (quantized, layers, blocks)
    };
    let (_, begun, blocks) = run(0);
    for layer in &begun {
        assert_eq!(layer.quantized, begin(&model, &stats, layer.id).quantized, "{}", layer.id);
    }
    assert!(blocks.iter().all(|block| block.before == block.after && block.before > 0.0), "{blocks:?}");

    let (learned, layers, blocks) = run(40);
    let (before, after) = blocks.iter().fold((0.0, 0.0), |(b, a), block| (b + block.before, a + block.after));
    assert!(after < 0.9 * before, "{blocks:?}");
    let (mut nearest, mut moved) = (model.clone(), 0);
    for (begun, layer) in begun.iter().zip(&layers) {
        let (id, shape) = (layer.id, model.config().shape(layer.id));
        let weights = dequantize(&layer.quantized.bytes, shape, layer.format).unwrap();
        assert_eq!(weights, layer.quantized.dequantized, "{id}");
        assert_eq!(weights, learned.weight_data(id).unwrap(), "{id}");
        let changed = begun.quantized.bytes != layer.quantized.bytes;
        let Format::Ggml(ty) = layer.format else { panic!("{}", layer.format) };
        assert!(!changed || ramp_gguf::has_grid(ty), "{id} {ty}");
        moved += usize::from(changed);
        // A block that did not get better keeps its codes.
        if changed {
            let blocks = |bytes: &[u8]| -> Vec<_> {
                bytes.chunks(ty.type_size()).map(|block| ramp_gguf::block_grid(ty, block).unwrap()).collect()
            };
            assert_eq!(blocks(&begun.quantized.bytes), blocks(&layer.quantized.bytes), "{id}: scales stay");
        }
        let weight = nearest.place(id, begun.quantized.dequantized.clone(), shape);
        nearest.set_weight(id, weight).unwrap();
    }
    assert!(moved >= 6, "{moved}");
    assert_eq!(run(3).1, run(3).1, "the same bytes again");
    let (begun, learned) = (held_out(&nearest, &model), held_out(&learned, &model));
    assert!(learned < begun, "{begun} {learned}");
}

#[test]
fn what_cannot_be_learned_is_refused() {
    let model = nano();
    let (stats, windows) = (stats(&model), windows());
    let windows: Vec<&[u32]> = windows.iter().map(Vec::as_slice).collect();
    let run = |windows: &[&[u32]], config: LearnConfig, start: fn(&mut LearnStart), go_on: bool| {
        let begin = |id| {
            let mut begun = begin(&model, &stats, id);
            start(&mut begun);
            Ok(begun)
        };
        learn_rounding(&mut model.clone(), windows, &config, begin, |_| {}, |_, _| go_on).unwrap_err()
    };
    let config = LearnConfig { steps: 1, ..LearnConfig::default() };
    assert!(matches!(run(&[], config, |_| {}, true), Error::MissingWindows { .. }));
    let none = LearnConfig { batch: 0, ..config };
    assert!(matches!(run(&windows, none, |_| {}, true), Error::Setting { field: "batch", .. }));
    let still = LearnConfig { learning_rate: f64::NAN, ..config };
    assert!(matches!(run(&windows, still, |_| {}, true), Error::Setting { field: "learning_rate", .. }));
    let short = |start: &mut LearnStart| start.weight.truncate(9);
    assert!(matches!(run(&windows, config, short, true), Error::WeightLength { found: 9, .. }));
    let bytes = |start: &mut LearnStart| start.quantized.bytes.truncate(9);
    let error = run(&windows, config, bytes, true);
    assert!(matches!(error, Error::Gguf(_)), "{error}");
    let error = run(&windows, config, |start| start.quantized.dequantized.fill(f32::NAN), true);
    assert!(matches!(error, Error::BlockError { .. }), "{error}");
    let error = run(&windows, config, |_| {}, false);
    assert!(matches!(error, Error::Model(ramp_model::Error::Interrupted)), "{error}");
}
