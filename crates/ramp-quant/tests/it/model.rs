//! Methods on the nano model.

use std::path::Path;

use burn::tensor::{Device, Tensor};
use ramp_model::{CalibrationStats, CausalLm, ChannelStats, Gather, LayerId, ModelFiles, Role};
use ramp_quant::{
    Error,
    baseline::{Kind, Method, apply},
};

fn nano() -> CausalLm {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/nano");
    ModelFiles::open(&path).unwrap().load(&Device::flex()).unwrap()
}

fn stats(model: &CausalLm) -> CalibrationStats {
    let window: Vec<u32> = (0..200).map(|i| 3 + i * 7 % 900).collect();
    CalibrationStats::gather(model, &[&window], Gather { gram: true, ..Gather::default() }, |_| true).unwrap()
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
            let method = Method::Published { kind, bits, group: 32 };
            let mut calls = Vec::new();
            let applied = apply(method, &mut quantized, &stats, |done, total| {
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
        let applied = apply(method, &mut quantized, &stats, |_, _| true).unwrap();
        let Method::Format { format, .. } = method else { panic!("{name}") };
        for layer in &applied.layers {
            let shape = model.config().shape(layer.id);
            assert_eq!(layer.bytes, format.fallback(shape[1]).bytes(shape).unwrap(), "{name} {}", layer.id);
        }
    }
}

#[test]
fn statistics_of_another_model_are_refused() {
    let model = nano();
    let mut stats = stats(&model);
    let rtn: Method = "rtn4-g32".parse().unwrap();
    let gptq: Method = "gptq4-g32".parse().unwrap();
    let none = CalibrationStats::default();
    let run = |method, stats: &CalibrationStats| apply(method, &mut model.clone(), stats, |_, _| true);
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
    let stopped = apply(rtn, &mut model.clone(), &none, |_, _| false).unwrap_err();
    assert!(matches!(stopped, Error::Model(ramp_model::Error::Interrupted)));
}
