//! ramp-gguf's codecs against ggml's own, byte by byte.

mod matrices;

use std::path::Path;

use anyhow::{Result, bail, ensure};
use ramp_ggml::{ggml_decode, ggml_encode, ggml_is_valid};
use ramp_gguf::{Error, GgmlType, decode, encode, fallback};

use self::matrices::{Matrix, SplitMix64, kinds, zoo};

const TYPES: [GgmlType; 15] = [
    GgmlType::F32,
    GgmlType::F16,
    GgmlType::BF16,
    GgmlType::Q2_K,
    GgmlType::Q3_K,
    GgmlType::Q4_K,
    GgmlType::Q5_K,
    GgmlType::Q6_K,
    GgmlType::Q8_0,
    GgmlType::Q4_0,
    GgmlType::Q4_1,
    GgmlType::Q5_0,
    GgmlType::Q5_1,
    GgmlType::IQ4_NL,
    GgmlType::IQ4_XS,
];

/// Weights beyond this can be too large for a scale of some type.
const LARGE: f32 = 60_000.0;

#[test]
fn every_kind_of_row_has_the_bytes_of_ggml() -> Result<()> {
    for matrix in kinds() {
        compare_all(&matrix)?;
    }
    Ok(())
}

#[test]
fn real_weights_have_the_bytes_of_ggml() -> Result<()> {
    let shared = std::env::var_os("RAMP_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"), std::path::PathBuf::from);
    let nano = Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/nano");
    let models = zoo(&shared.join("zoo"))?;
    if models.is_empty() {
        println!("skipped all models but nano: there is no {}", shared.join("zoo").display());
    }
    for model in std::iter::once(nano).chain(models) {
        let matrices = matrices::of_model(&model)?;
        ensure!(!matrices.is_empty(), "{} has no matrices", model.display());
        let mut bytes = 0;
        for matrix in &matrices {
            bytes += compare_all(matrix)?;
        }
        println!("{}: {bytes} bytes of {} matrices equal ggml's", model.display(), matrices.len());
    }
    Ok(())
}

#[test]
fn any_bytes_decode_as_in_ggml() -> Result<()> {
    let mut random = SplitMix64(7);
    for ty in TYPES {
        let bytes: Vec<u8> = (0..256 * ty.type_size()).map(|_| random.next() as u8).collect();
        compare_decoded(ty, &bytes, 256 * ty.block_size(), "random bytes")?;
    }
    Ok(())
}

/// Compares a matrix in every type that fits its rows, with and without importance. Returns the bytes compared.
fn compare_all(matrix: &Matrix) -> Result<usize> {
    let mut random = SplitMix64(matrix.columns as u64);
    let importance: Vec<f32> = (0..matrix.columns)
        .map(|_| match random.next() % 8 {
            0 => 0.0,
            1 => 1e-6 * random.unit(),
            2 => 1e4 * random.unit(),
            _ => random.unit(),
        })
        .collect();
    let mut types: Vec<GgmlType> = TYPES.iter().map(|&ty| fallback(ty, matrix.columns as u64)).collect();
    types.sort();
    types.dedup();
    let mut bytes = 0;
    for ty in types {
        for imatrix in [None, Some(&importance[..])] {
            bytes += compare(ty, matrix, imatrix)?;
        }
    }
    Ok(bytes)
}

fn compare(ty: GgmlType, matrix: &Matrix, imatrix: Option<&[f32]>) -> Result<usize> {
    let with = if imatrix.is_some() { "with importance" } else { "without importance" };
    let what = format!("{} {with}", matrix.name);
    let rows = matrix.weights.len() / matrix.columns;
    let mut theirs = vec![0; ty.tensor_bytes(rows, matrix.columns)? as usize];
    ggml_encode(ty, &matrix.weights, matrix.columns, imatrix, &mut theirs);
    let ours = match encode(ty, &matrix.weights, matrix.columns, imatrix) {
        Ok(ours) => ours,
        // Where RAMP refuses, ggml must have made something that it refuses to load itself, or lost large weights.
        Err(Error::WeightRange { row, .. }) => {
            let row = &matrix.weights[row * matrix.columns..][..matrix.columns];
            let largest = row.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
            ensure!(largest > LARGE || !ggml_is_valid(ty, &theirs), "{ty} {what}: refused without a reason");
            return Ok(0);
        }
        Err(error) => bail!("{ty} {what}: {error}"),
    };
    if ours != theirs {
        bail!("{ty} {what}: {}", worst_block(ty, matrix, &ours, &theirs)?);
    }
    compare_decoded(ty, &ours, matrix.weights.len(), &what)?;
    Ok(ours.len())
}

/// The block whose weights differ most, and how many blocks differ.
fn worst_block(ty: GgmlType, matrix: &Matrix, ours: &[u8], theirs: &[u8]) -> Result<String> {
    let (w, b) = (ty.block_size(), ty.type_size());
    let (mut worst, mut differing) = ((-1.0, 0), 0);
    for (at, (a, b)) in ours.chunks(b).zip(theirs.chunks(b)).enumerate() {
        if a == b {
            continue;
        }
        differing += 1;
        let (mut x, mut y) = (vec![0.0; w], vec![0.0; w]);
        decode(ty, a, &mut x)?;
        decode(ty, b, &mut y)?;
        let difference = x.iter().zip(&y).fold(0.0_f32, |max, (x, y)| max.max((x - y).abs()));
        if difference > worst.0 {
            worst = (difference, at);
        }
    }
    let (difference, at) = worst;
    let (row, column) = (at * w / matrix.columns, at * w % matrix.columns);
    Ok(format!(
        "{differing} of {} blocks differ; the worst, by {difference}, is at row {row} column {column}\n  ramp {}\n  \
         ggml {}\n  weights {:?}",
        ours.len() / b,
        hex(&ours[at * b..][..b]),
        hex(&theirs[at * b..][..b]),
        &matrix.weights[at * w..][..w]
    ))
}

fn compare_decoded(ty: GgmlType, bytes: &[u8], weights: usize, what: &str) -> Result<()> {
    let (mut ours, mut theirs) = (vec![0.0; weights], vec![0.0; weights]);
    decode(ty, bytes, &mut ours)?;
    ggml_decode(ty, bytes, &mut theirs);
    let same = |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
    if let Some(at) = ours.iter().zip(&theirs).position(|pair| !same(pair)) {
        let block = at / ty.block_size() * ty.type_size();
        bail!(
            "{ty} {what}: weight {at} decodes to {} and in ggml to {}, block {}",
            ours[at],
            theirs[at],
            hex(&bytes[block..][..ty.type_size()])
        );
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
