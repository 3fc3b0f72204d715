//! `ramp doctor --thorough`: whether a GPU computes what the CPU does.

use std::{path::Path, time::Instant};

use burn::tensor::{DType, Device, Tensor, TensorData};
use ramp::{
    eval::{Bos, Protocol, compare, perplexity},
    gguf::{GgmlType, Metadata},
    model::{
        Architecture, CalibrationStats, CausalLm, Gather, Gram, HostTensor, HostValues, LayerId, ModelConfig,
        Parameter, Precision, WeightSource,
    },
    quant::{
        Budget, Rounding,
        affine::{AffineConfig, Granularity, ZeroPoint, fake_quantize, fake_quantize_slice},
    },
    search::{
        ActionSet, Allocator, Evaluator, Mode, ModelFeatures, Problem, Sac, SacSearchConfig, SearchContext,
        WeightBank,
    },
};

use super::Check;

type Found = std::result::Result<String, String>;

/// Longer than a block of queries, and no multiple of anything.
const TOKENS: usize = 700;
const VOCAB: usize = 500;

/// All checks of a GPU.
pub(super) fn checks(gpu: &Device, cpu: &Device) -> Vec<Check> {
    let mut checks = Vec::new();
    let mut check = |what: String, run: &dyn Fn() -> Found| {
        let found = super::super::panics::quietly(run).and_then(|found| found);
        checks.push(Check {
            what,
            found,
            remedy: "this GPU or its driver computes something else than the CPU",
        });
    };
    for (name, config) in models() {
        for (precision, close) in [(Precision::F32, 1e-4), (Precision::Bf16, 3e-2), (Precision::F16, 6e-3)] {
            check(format!("logits, {name}, {}", precision.name()), &|| {
                forward(&config, precision, close, gpu, cpu)
            });
        }
    }
    check("perplexity, llama, f32".into(), &|| score(gpu, cpu));
    check("small divergences, llama, f32".into(), &|| divergences(gpu, cpu));
    check("a search with SAC, llama, f32".into(), &|| search(gpu, cpu));
    check("statistics of inputs, llama, f32".into(), &|| statistics(gpu, cpu));
    for ty in TYPES {
        check(format!("decoding {ty}"), &|| decode(ty, gpu));
    }
    for ty in [GgmlType::Q3_K, GgmlType::Q4_K, GgmlType::Q5_K, GgmlType::Q6_K] {
        check(format!("encoding {ty}"), &|| encode(ty, gpu));
    }
    check("affine quantization".into(), &|| affine(gpu));
    check("speed of a product, bf16".into(), &|| product(gpu));
    check("speed of affine quantization, groups of 128".into(), &|| affine_speed(gpu));
    checks
}

const TYPES: [GgmlType; 6] =
    [GgmlType::Q2_K, GgmlType::Q3_K, GgmlType::Q4_K, GgmlType::Q5_K, GgmlType::Q6_K, GgmlType::IQ4_XS];

fn models() -> [(&'static str, ModelConfig); 3] {
    let llama = ModelConfig {
        architecture: Architecture::Llama,
        hidden_size: 128,
        intermediate_size: 320,
        n_blocks: 2,
        n_heads: 4,
        n_kv_heads: 2,
        head_dim: 32,
        vocab_size: VOCAB,
        max_position_embeddings: 1024,
        norm_eps: 1e-5,
        rope_theta: 10_000.0,
        rope_scaling: None,
        sliding_window: None,
        tie_word_embeddings: false,
        bos_token_id: None,
        eos_token_id: None,
    };
    let mistral =
        ModelConfig { architecture: Architecture::Mistral, sliding_window: Some(133), ..llama.clone() };
    let gpt2 = ModelConfig {
        architecture: Architecture::Gpt2,
        n_kv_heads: 4,
        intermediate_size: 512,
        tie_word_embeddings: true,
        ..llama.clone()
    };
    [("llama", llama), ("mistral", mistral), ("gpt-2", gpt2)]
}

/// Weights of the variance that keeps sizes; the weights of norms are about one.
struct Waves<'a>(&'a ModelConfig);

impl WeightSource for Waves<'_> {
    fn path(&self) -> &Path {
        Path::new("made-up weights")
    }

    fn name(&self, parameter: Parameter) -> String {
        parameter.gguf_name()
    }

    fn tensor(&self, parameter: Parameter) -> ramp::model::Result<HostTensor> {
        let shape = self.0.parameter_shape(parameter);
        let seed =
            parameter.gguf_name().bytes().fold(7, |sum: u32, byte| sum.wrapping_mul(31) + u32::from(byte));
        let (scale, shift) = match (shape.as_slice(), parameter) {
            ([_, columns], _) => ((3.0 / *columns as f32).sqrt(), 0.0),
            (_, Parameter::Norm(_)) => (0.2, 1.0),
            _ => (0.2, 0.0),
        };
        let n = shape.iter().product();
        Ok(HostTensor { data: noise(n, seed).into_iter().map(|x| x * scale + shift).collect(), shape })
    }
}

/// Uniform numbers between -1 and 1.
fn noise(n: usize, seed: u32) -> Vec<f32> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as f32 / u32::MAX as f32 * 2.0 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

fn tokens(n: usize) -> Vec<u32> {
    noise(n, 5).into_iter().map(|x| ((x + 1.0) * 0.499 * VOCAB as f32) as u32).collect()
}

fn why(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Logits of two windows. The difference is relative to the logits, both as root mean squares.
fn forward(config: &ModelConfig, precision: Precision, close: f64, gpu: &Device, cpu: &Device) -> Found {
    let tokens = tokens(2 * TOKENS);
    let logits = |device: &Device, precision: Precision| -> std::result::Result<Vec<f32>, String> {
        let model = CausalLm::load_as(config, &Waves(config), device, precision).map_err(why)?;
        let logits = model.logits(&[&tokens[..TOKENS], &tokens[TOKENS..]]).map_err(why)?;
        logits.try_into_vec_as::<f32>().map_err(|error| format!("{error:?}"))
    };
    let (expected, found) = (logits(cpu, Precision::F32)?, logits(gpu, precision)?);
    near(&expected, &found, close)
}

fn near(expected: &[f32], found: &[f32], close: f64) -> Found {
    let square = |x: f32| f64::from(x) * f64::from(x);
    let difference: f64 = expected.iter().zip(found).map(|(a, b)| square(a - b)).sum();
    let relative = (difference / expected.iter().map(|x| square(*x)).sum::<f64>()).sqrt();
    if relative < close && expected.len() == found.len() {
        Ok(format!("relative difference {relative:.1e}"))
    } else {
        Err(format!("relative difference {relative:.1e}, expected less than {close:.0e}"))
    }
}

fn score(gpu: &Device, cpu: &Device) -> Found {
    let [(_, config), ..] = models();
    let protocol = Protocol { bos: Bos::Never, ..Protocol::gptq(TOKENS) };
    let windows = protocol.windows(&tokens(3 * TOKENS), None).map_err(why)?;
    let nll = |device: &Device| -> std::result::Result<f64, String> {
        let model = CausalLm::load(&config, &Waves(&config), device).map_err(why)?;
        Ok(perplexity(&model, &windows, |_| true).map_err(why)?.mean_nll)
    };
    let (a, b) = (nll(cpu)?, nll(gpu)?);
    let text = format!("mean NLL {a:.6} and {b:.6}");
    if (a - b).abs() < 1e-4 { Ok(text) } else { Err(text) }
}

/// The divergence of a model with one matrix quantized.
fn divergences(gpu: &Device, cpu: &Device) -> Found {
    let [(_, config), ..] = models();
    let protocol = Protocol { bos: Bos::Never, ..Protocol::gptq(TOKENS) };
    let windows = protocol.windows(&tokens(3 * TOKENS), None).map_err(why)?;
    let id = LayerId::Block { block: 0, role: ramp::model::Role::O };
    let kld = |device: &Device| -> std::result::Result<f64, String> {
        let base = CausalLm::load(&config, &Waves(&config), device).map_err(why)?;
        let (weight, shape) = (base.weight_data(id).map_err(why)?, config.shape(id));
        let format = ramp::quant::Format::Ggml(GgmlType::Q8_0);
        let quantized = ramp::quant::quantize(&weight, shape, format, None).map_err(why)?;
        let mut model = base.clone();
        model.set_weight(id, model.place(id, quantized.dequantized, shape)).map_err(why)?;
        Ok(compare(&model, &base, &windows, |_| true).map_err(why)?.mean_kld)
    };
    let (a, b) = (kld(cpu)?, kld(gpu)?);
    let text = format!("{a:.4e} and {b:.4e} nats");
    if (a / b - 1.0).abs() < 1e-3 { Ok(text) } else { Err(text) }
}

/// One seed, on both devices from the same statistics.
fn search(gpu: &Device, cpu: &Device) -> Found {
    const CTX: usize = 128;
    let [(_, config), ..] = models();
    // Rows of whole super-blocks.
    let config = ModelConfig { hidden_size: 256, intermediate_size: 512, head_dim: 64, ..config };
    let protocol = Protocol { bos: Bos::Never, ..Protocol::gptq(CTX) };
    let windows = protocol.windows(&tokens(8 * CTX), None).map_err(why)?;
    let on_cpu = CausalLm::load(&config, &Waves(&config), cpu).map_err(why)?;
    let stats = CalibrationStats::gather(&on_cpu, &windows.tokens(), Gather::default(), |_| true);
    let stats = stats.map_err(why)?;
    let budget = Budget::BitsPerWeight(4.5);
    let problem = Problem::new(&config, &Metadata::new(), &ActionSet::paper(), budget).map_err(why)?;
    let found = |device: &Device| -> std::result::Result<_, String> {
        let model = CausalLm::load(&config, &Waves(&config), device).map_err(why)?;
        let bank = WeightBank::build(&model, &stats, &problem, Rounding::Nearest, &mut |_| true);
        let bank = bank.map_err(why)?;
        let features = ModelFeatures::new(&model, &stats, &problem);
        let evaluator = Evaluator::new(&model, &problem, &bank, windows.clone()).map_err(why)?;
        let mut context = SearchContext::new(evaluator, &features);
        let few = SacSearchConfig {
            episodes: 12,
            cloning_steps: 100,
            pretraining_updates: 20,
            ..SacSearchConfig::new(Mode::Sound, 1)
        };
        let found = Sac::new(few, cpu.clone(), "made up".into()).allocate(&mut context, &mut |_| true);
        let found = found.map_err(why)?;
        Ok((found.choices, found.score.kld))
    };
    let (a, b) = (found(cpu)?, found(gpu)?);
    let differing = a.0.iter().zip(&b.0).filter(|(a, b)| a != b).count();
    if differing > 0 || a.1 != b.1 {
        return Err(format!("{differing} of {} matrices differ; {} and {} nats", a.0.len(), a.1, b.1));
    }
    Ok(format!("the same allocation, {:.3e} nats", a.1))
}

/// What a calibration pass gathers.
fn statistics(gpu: &Device, cpu: &Device) -> Found {
    const WIDTHS: [usize; 2] = [TOKENS, TOKENS / 3];
    let [(_, config), ..] = models();
    let tokens = tokens(4 * TOKENS);
    let mut rest = tokens.as_slice();
    let windows: Vec<&[u32]> = [WIDTHS[0], WIDTHS[0], WIDTHS[1]]
        .into_iter()
        .map(|width| {
            let (window, after) = rest.split_at(width);
            rest = after;
            window
        })
        .collect();
    let gather = |device: &Device, batch: usize| -> std::result::Result<CalibrationStats, String> {
        let model = CausalLm::load(&config, &Waves(&config), device).map_err(why)?;
        CalibrationStats::gather(&model, &windows, Gather { gram: true, batch }, |_| true).map_err(why)
    };
    let (expected, found, one_by_one) = (gather(cpu, 1)?, gather(gpu, 2)?, gather(gpu, 1)?);
    let mut text = String::new();
    for (id, expected) in expected.iter() {
        let in_name = |why: String| format!("{id}: {why}");
        let found = found.get(id).ok_or_else(|| in_name("is missing".into()))?;
        if one_by_one.get(id).is_none_or(|stats| stats.count != found.count) || expected.count != found.count
        {
            return Err(in_name(format!("{} tokens instead of {}", found.count, expected.count)));
        }
        near(&expected.mean_abs, &found.mean_abs, 1e-5).map_err(in_name)?;
        near(&expected.max_abs, &found.max_abs, 1e-5).map_err(in_name)?;
        let sums = |sums: &[f64]| -> Vec<f32> { sums.iter().map(|&sum| sum as f32).collect() };
        text = near(&sums(&expected.sum_sq), &sums(&found.sum_sq), 1e-5).map_err(in_name)?;
    }
    for (id, _) in expected.iter() {
        let (Some(expected), Some(found)) = (expected.gram(id), found.gram(id)) else {
            return Err(format!("{id}: no Gram matrix"));
        };
        let values = |gram: &Gram| -> Vec<f32> {
            let n = gram.width();
            (0..n * n).map(|at| gram.mean(at / n, at % n) as f32).collect()
        };
        near(&values(expected), &values(found), 1e-5).map_err(|why| format!("Gram matrix of {id}: {why}"))?;
    }
    Ok(text)
}

/// All bits of what a device decodes from the bytes of a file.
fn decode(ty: GgmlType, gpu: &Device) -> Found {
    let shape = [64, 2048];
    let [(_, config), ..] = models();
    let weight: Vec<f32> = noise(shape[0] * shape[1], 11).into_iter().map(|x| x * x * x * 0.1).collect();
    let bytes = ramp::gguf::encode(ty, &weight, shape[1], None).map_err(why)?;
    let mut expected = vec![0.0; weight.len()];
    ramp::gguf::decode(ty, &bytes, &mut expected).map_err(why)?;
    let placement = CausalLm::load(&config, &Waves(&config), gpu).map_err(why)?.placement();
    let packed = placement.place_packed(LayerId::Output, ty, bytes, shape);
    let packed = packed.ok_or("not on this device")?;
    let found = packed.decode().try_into_vec_as::<f32>().map_err(|error| format!("{error:?}"))?;
    same_bits(&expected, &found)
}

/// All bytes that a device encodes, and the speed.
fn encode(ty: GgmlType, gpu: &Device) -> Found {
    let shape = [1024, 4096];
    let [(_, config), ..] = models();
    let mut weight: Vec<f32> = noise(shape[0] * shape[1], 11).into_iter().map(|x| x * x * x * 0.1).collect();
    weight[..300].fill(0.0);
    weight[512..544].fill(0.25);
    let importance: Vec<f32> = noise(shape[1], 23).into_iter().map(|x| x * x + 1e-4).collect();
    let placement = CausalLm::load(&config, &Waves(&config), gpu).map_err(why)?.placement();
    let mut text = String::new();
    for importance in [None, Some(importance.as_slice())] {
        let start = Instant::now();
        let expected = ramp::gguf::encode(ty, &weight, shape[1], importance).map_err(why)?;
        let on_cpu = start.elapsed().as_secs_f64();
        let on_host = HostValues::from(weight.clone());
        let encoder = placement.encoder(LayerId::Output, &on_host, shape, importance);
        let encoder = encoder.ok_or("not on this device")?;
        let call = || {
            let packing = encoder.encode(ty).ok_or("no encoder of the type")?;
            packing.finish().map_err(why)?.ok_or_else(|| "refused".to_owned())
        };
        let (packed, errors) = call()?;
        let found = packed.bytes().map_err(why)?;
        let differing = expected.iter().zip(&found).filter(|(a, b)| a != b).count();
        if differing > 0 || expected.len() != found.len() {
            return Err(format!("{differing} of {} bytes differ", expected.len()));
        }
        let weights = ramp::quant::dequantize(&found, shape, ramp::quant::Format::Ggml(ty)).map_err(why)?;
        let plain: f64 =
            weight.iter().zip(&weights).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum();
        if (plain - errors.plain).abs() > 1e-9 * plain {
            return Err(format!("squared error {} instead of {plain}", errors.plain));
        }
        let start = Instant::now();
        call()?;
        let speed = |seconds: f64| weight.len() as f64 / seconds / 1e9;
        text += &format!(
            "{:.2} G weights/s with the error, CPU {:.2}; ",
            speed(start.elapsed().as_secs_f64()),
            speed(on_cpu)
        );
    }
    Ok(format!("the same bytes; {}", text.trim_end_matches("; ")))
}

fn same_bits(expected: &[f32], found: &[f32]) -> Found {
    let differing = expected.iter().zip(found).filter(|(a, b)| a.to_bits() != b.to_bits()).count();
    let first = expected.iter().zip(found).position(|(a, b)| a.to_bits() != b.to_bits());
    match first {
        None if expected.len() == found.len() => Ok(format!("the same {} weights", found.len())),
        _ => Err(format!(
            "{differing} of {} weights differ, the first one at {first:?}: {:?} and {:?}",
            expected.len(),
            first.map(|at| expected[at]),
            first.map(|at| found[at]),
        )),
    }
}

fn affine(gpu: &Device) -> Found {
    let shape = [96, 1000];
    let weight: Vec<f32> = noise(shape[0] * shape[1], 3).into_iter().map(|x| x * x * x * 0.1).collect();
    let mut checked = 0;
    for columns in [1000, 896] {
        let shape = [shape[0], columns];
        let weight = &weight[..shape[0] * columns];
        for zero_point in [ZeroPoint::InRange, ZeroPoint::Printed, ZeroPoint::Clamped, ZeroPoint::Symmetric] {
            for granularity in [Granularity::Group(128), Granularity::Group(100), Granularity::Channel] {
                for bits in [2, 3, 4, 8] {
                    let config = AffineConfig { bits, granularity, zero_point };
                    let mut expected = vec![0.0; weight.len()];
                    fake_quantize_slice(weight, shape, config, &mut expected).map_err(why)?;
                    let on_gpu = Tensor::from_data(TensorData::new(weight.to_vec(), shape), gpu);
                    let found = fake_quantize(on_gpu, &config).map_err(why)?;
                    let found = found.try_into_vec_as::<f32>().map_err(|error| format!("{error:?}"))?;
                    same_bits(&expected, &found).map_err(|why| format!("{config:?}: {why}"))?;
                    checked += 1;
                }
            }
        }
    }
    let mut bad = weight;
    bad[777] = f32::NAN;
    let bad = Tensor::from_data(TensorData::new(bad, shape), gpu);
    match fake_quantize(bad, &AffineConfig::per_group(4, 128)) {
        Ok(_) => Err("a weight that is NaN was not noticed".into()),
        Err(_) => Ok(format!("the same bits in {checked} configurations")),
    }
}

/// The best of some rounds of several calls each, in seconds a call.
fn best(gpu: &Device, mut call: impl FnMut() -> Found) -> std::result::Result<f64, String> {
    const CALLS: usize = 20;
    let mut best = f64::INFINITY;
    for _ in 0..5 {
        gpu.sync().map_err(|error| format!("{error:?}"))?;
        let start = Instant::now();
        for _ in 0..CALLS {
            call()?;
        }
        gpu.sync().map_err(|error| format!("{error:?}"))?;
        best = best.min(start.elapsed().as_secs_f64() / CALLS as f64);
    }
    Ok(best)
}

fn random(gpu: &Device, shape: [usize; 2]) -> Tensor<2> {
    let [rows, columns] = shape;
    let row: Tensor<2> = Tensor::from_data(TensorData::new(noise(columns, 9), [1, columns]), gpu);
    let column: Tensor<2> = Tensor::from_data(TensorData::new(noise(rows, 13), [rows, 1]), gpu);
    ((row * column) * 1234.5).sin() * 0.02
}

fn product(gpu: &Device) -> Found {
    let [m, k, n] = [8192, 4096, 11008];
    let [x, w] = [[m, k], [n, k]].map(|shape| random(gpu, shape).cast(DType::BF16));
    let seconds = best(gpu, || {
        drop(ramp_cuda::ops::linear(x.clone(), w.clone(), DType::BF16));
        gpu.flush().map_err(|error| format!("{error:?}"))?;
        Ok(String::new())
    })?;
    let flops = 2.0 * (m * k * n) as f64;
    Ok(format!("{m} x {k} x {n}: {:.3} ms, {:.0} TFLOP/s", 1e3 * seconds, flops / seconds / 1e12))
}

fn affine_speed(gpu: &Device) -> Found {
    let shape = [11008, 4096];
    let weight = random(gpu, shape);
    let seconds = best(gpu, || {
        fake_quantize(weight.clone(), &AffineConfig::per_group(4, 128)).map_err(why)?;
        Ok(String::new())
    })?;
    let weights = (shape[0] * shape[1]) as f64;
    Ok(format!(
        "{} x {}: {:.3} ms, {:.0} G weights/s",
        shape[0],
        shape[1],
        1e3 * seconds,
        weights / seconds / 1e9
    ))
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;

    /// What a GPU is compared with must agree with itself.
    #[test]
    fn the_checks_pass_where_both_devices_are_the_cpu() {
        let cpu = Device::flex();
        for check in [score, divergences, search, statistics] {
            let found = check(&cpu, &cpu);
            assert!(found.is_ok(), "{found:?}");
        }
    }
}
