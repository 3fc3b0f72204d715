//! Files that RAMP writes, in real llama.cpp: the embedded nano model, no outside data.

mod codec;
#[path = "../../crates/ramp-model/tests/it/random.rs"]
#[allow(clippy::unwrap_used, reason = "a test may fail")]
mod random;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, anyhow};
use ramp_gguf::mix::{self, LlamaFtype, MixOptions};
use ramp_gguf::{GgmlType, GgufFile, ModelFacts, Recipe, TensorSpec};
use ramp_model::{CausalLm, LayerId, ModelFiles, Role};
use ramp_tests::llama::{self, ImatrixEntry, Model};
use tempfile::TempDir;

const CTX: usize = 128;
const WINDOWS: Option<usize> = Some(4);

/// llama.cpp keeps keys and values in f16 and multiplies f16 weights with f16 activations: relative errors of
/// 2^-11 in every product, on logits of a magnitude of ten.
const F16_LOGIT_TOLERANCE: f32 = 0.1;

fn nano() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/nano")
}

fn sample() -> Result<String> {
    Ok(fs::read_to_string(nano().join("sample.txt"))?)
}

/// Exports nano with the types that `choose` gives its matrices.
fn export(dir: &TempDir, name: &str, choose: impl Fn(LayerId) -> GgmlType) -> Result<(PathBuf, CausalLm)> {
    let path = dir.path().join(name);
    let model = ramp_tests::export(&nano(), &path, choose)?;
    Ok((path, model))
}

/// A different type for every role.
fn mixed(id: LayerId) -> GgmlType {
    match id.role() {
        Some(Role::Q | Role::K | Role::Qkv) => GgmlType::Q3_K,
        Some(Role::V | Role::O) => GgmlType::Q5_K,
        Some(Role::Gate | Role::Up) => GgmlType::Q4_K,
        Some(Role::Down) => GgmlType::Q6_K,
        _ => GgmlType::Q8_0,
    }
}

#[test]
fn f16_files_give_the_logits_of_burn() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (path, burn) = export(&dir, "f16.gguf", |_| GgmlType::F16)?;
    let worst = logit_difference(&path, &burn)?;
    assert!(worst < F16_LOGIT_TOLERANCE, "logits differ by {worst}");
    Ok(())
}

#[test]
fn f16_files_of_other_architectures_do_so_too() -> Result<()> {
    for (name, config) in [
        ("qwen2", random::QWEN2),
        ("qwen3", random::QWEN3),
        ("yarn", random::QWEN2_YARN),
        ("gpt2", random::GPT2),
    ] {
        let dir = tempfile::tempdir()?;
        random::folder(&dir.path().join(name), config, &nano());
        let path = dir.path().join("f16.gguf");
        let burn = ramp_tests::export(&dir.path().join(name), &path, |_| GgmlType::F16)?;
        assert_eq!(Model::load(&path)?.complaints(), Vec::<&llama::LogLine>::new(), "{name}");
        let worst = logit_difference(&path, &burn)?;
        println!("{name}: {worst}");
        assert!(worst < F16_LOGIT_TOLERANCE, "{name}: logits differ by {worst}");
    }
    Ok(())
}

/// Largest difference of the logits of the sample's first tokens.
fn logit_difference(path: &Path, burn: &CausalLm) -> Result<f32> {
    let llama = Model::load(path)?;
    let tokens: Vec<i32> = llama.tokenize(&sample()?)?.into_iter().take(CTX).collect();
    let ids: Vec<u32> = tokens.iter().map(|id| id.unsigned_abs()).collect();
    let expected = burn.logits(&[&ids])?.try_into_vec_as::<f32>().map_err(|why| anyhow!("{why:?}"))?;

    let (mut rows, mut worst) = (expected.chunks_exact(llama.n_vocab()), 0f32);
    llama::Context::new(&llama, CTX, 2)?.logits(&tokens, 0, |_, logits| {
        let row = rows.next().unwrap_or_default();
        assert_eq!(row.len(), logits.len());
        worst = row.iter().zip(logits).map(|(a, b)| (a - b).abs()).fold(worst, f32::max);
    })?;
    assert_eq!(rows.len(), 0, "llama.cpp gives a row for every position");
    Ok(worst)
}

#[test]
fn mixed_files_load_without_a_complaint_and_tokenize_as_ramp_does() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (path, _) = export(&dir, "mixed.gguf", mixed)?;
    let llama = Model::load(&path)?;
    assert_eq!(llama.complaints(), Vec::<&llama::LogLine>::new());
    let text = sample()?;
    let hard = ["", " ", "  two  spaces ", "Tab\tand \u{2581}", "é ö 日本 🙂", "<0x41> < s > 3<4"];
    for source in [nano(), path.clone()] {
        let ours = ModelFiles::open(&source)?.tokenizer()?;
        for line in text.lines().take(50).chain(hard) {
            let tokens: Vec<u32> = llama.tokenize(line)?.into_iter().map(i32::unsigned_abs).collect();
            assert_eq!(tokens, ours.encode_with_bos(line)?, "{line:?} with {}", source.display());
        }
    }
    Ok(())
}

#[test]
fn llama_cpp_quantizes_what_ramp_exports() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (f16, _) = export(&dir, "f16.gguf", |_| GgmlType::F16)?;
    let q3 = dir.path().join("q3.gguf");
    llama::quantize(&f16, &q3, "Q3_K_S".parse()?, &[], &Recipe::new(), 2)?;
    assert!(fs::metadata(&q3)?.len() < fs::metadata(&f16)?.len() / 3);

    let (base, quantized) = (Model::load(&f16)?, Model::load(&q3)?);
    let text = sample()?;
    let none = llama::divergence(&base, &base, &text, CTX, WINDOWS, 2)?;
    assert!(none.kld.abs() < 1e-9 && none.same_top1 == 1.0, "{none:?}");
    let some = llama::divergence(&base, &quantized, &text, CTX, WINDOWS, 2)?;
    assert!(some.kld > 1e-3 && some.kld < 1.0 && some.same_top1 < 1.0, "{some:?}");
    assert_eq!(some.tokens, 4 * (CTX as u64 - 1 - CTX as u64 / 2));

    let f16 = llama::perplexity(&base, &text, CTX, WINDOWS, 2)?;
    let q3 = llama::perplexity(&quantized, &text, CTX, WINDOWS, 2)?;
    assert!(f16.perplexity > 1.0 && q3.perplexity > f16.perplexity, "{f16:?} {q3:?}");
    Ok(())
}

/// Importance of every matrix of a file, made up: no two columns are alike.
fn importance(file: &GgufFile) -> Vec<ImatrixEntry> {
    let matrices = file.tensors().iter().filter(|tensor| tensor.dims.len() == 2);
    matrices
        .enumerate()
        .map(|(at, tensor)| ImatrixEntry {
            name: tensor.name.clone(),
            values: (0..tensor.dims[0]).map(|i| 1.0 + ((i * 7 + at as u64 * 13) % 31) as f32).collect(),
        })
        .collect()
}

/// llama-quantize, fed with a recipe and an importance matrix, writes the tensors that `encode` makes.
#[test]
fn llama_cpp_follows_recipes_to_the_byte() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (f16, _) = export(&dir, "f16.gguf", |_| GgmlType::F16)?;
    let source = GgufFile::open(&f16)?;
    let importance = importance(&source);
    // Every type of the codecs at some matrix; the others, and a rule for many, by patterns.
    let types = ramp_gguf::QUANTIZED.iter().cycle();
    let wanted: Vec<(String, GgmlType)> = importance
        .iter()
        .zip(types)
        .map(|(entry, &ty)| (entry.name.clone(), ramp_gguf::fallback(ty, entry.values.len() as u64)))
        .collect();
    let path = dir.path().join("recipe.txt");
    Recipe::exact(wanted.iter().map(|(name, ty)| (name, *ty))).save(&path)?;

    let quantized = dir.path().join("quantized.gguf");
    llama::quantize(&f16, &quantized, "Q4_K_M".parse()?, &importance, &Recipe::open(&path)?, 2)?;
    let quantized = GgufFile::open(&quantized)?;
    for ((name, ty), entry) in wanted.iter().zip(&importance) {
        let found = quantized.tensor(name).context("a tensor is missing")?;
        assert_eq!(found.ty, *ty, "{name}");
        let weights = source.decode_tensor(name)?;
        let ours = ramp_gguf::encode(*ty, &weights, entry.values.len(), Some(&entry.values))?;
        assert!(quantized.tensor_data(name)? == ours, "{name}: the bytes of {ty} differ");
    }
    Ok(())
}

/// Every file type of llama-quantize gives each tensor the type that `mix::types` says.
#[test]
fn mixes_are_those_of_llama_cpp() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (f16, _) = export(&dir, "f16.gguf", |_| GgmlType::F16)?;
    let source = GgufFile::open(&f16)?;
    let facts = ModelFacts::read(source.metadata())?;
    let specs: Vec<TensorSpec> = source
        .tensors()
        .iter()
        .map(|info| TensorSpec::new(info.name.as_str(), info.dims.as_slice(), info.ty))
        .collect();
    let importance = importance(&source);
    for &ftype in LlamaFtype::ALL {
        let Ok(file_type) = ftype.name().parse() else { continue };
        for imatrix in [&[][..], &importance] {
            let path = dir.path().join("theirs.gguf");
            llama::quantize(&f16, &path, file_type, imatrix, &Recipe::new(), 2)?;
            let theirs = GgufFile::open(&path)?;
            let options = MixOptions { has_imatrix: !imatrix.is_empty(), ..MixOptions::default() };
            for (spec, ty) in specs.iter().zip(mix::types(&facts, ftype, &specs, &options)?) {
                let found = theirs.tensor(&spec.name).context("a tensor is missing")?;
                assert_eq!(found.ty, ty, "{ftype} {}", spec.name);
            }
        }
    }
    Ok(())
}

#[test]
fn cut_files_are_refused_with_a_reason() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (path, _) = export(&dir, "mixed.gguf", mixed)?;
    let bytes = fs::read(&path)?;
    let cut = dir.path().join("cut.gguf");
    fs::write(&cut, &bytes[..bytes.len() / 2])?;
    let error = Model::load(&cut).err().context("a cut file must not load")?.to_string();
    assert!(error.contains("cut.gguf") && !error.contains("no reason"), "{error}");
    Ok(())
}
