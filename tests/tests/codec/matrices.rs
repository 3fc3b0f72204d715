//! Weights to compare codecs on: seeded ones of every kind, and those of real models.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// Some rows of weights.
pub(super) struct Matrix {
    pub(super) name: String,
    pub(super) columns: usize,
    pub(super) weights: Vec<f32>,
}

/// splitmix64, the state advanced before it is mixed.
pub(super) struct SplitMix64(pub(super) u64);

impl SplitMix64 {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    }

    /// From 0 to 1.
    pub(super) fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / 16_777_216.0
    }

    fn signed(&mut self) -> f32 {
        self.unit() + self.unit() - 1.0
    }
}

/// Rows of 1024 weights of every kind that once made a quantizer fail.
pub(super) fn kinds() -> Vec<Matrix> {
    const COLUMNS: usize = 1024;
    const ROWS: usize = 16;
    type Kind = (&'static str, fn(&mut SplitMix64, usize) -> f32);
    let kinds: [Kind; 14] = [
        ("random", |random, _| random.signed() * 0.05),
        ("positive", |random, _| random.unit()),
        ("negative", |random, _| -random.unit()),
        ("sparse", |random, _| if random.next() % 16 == 0 { random.signed() } else { 0.0 }),
        ("sparse sub-blocks", |random, i| if i / 32 % 3 == 0 { random.signed() } else { 0.0 }),
        ("zeros of both signs", |random, _| if random.next() % 2 == 0 { 0.0 } else { -0.0 }),
        ("constant", |_, i| if i / 1024 % 2 == 0 { 0.375 } else { -0.375 }),
        ("two values", |random, _| if random.next() % 2 == 0 { 0.25 } else { -0.25 }),
        ("steps", |random, _| (random.signed() * 8.0).round() / 8.0),
        (
            "outliers",
            |random, _| if random.next() % 64 == 0 { random.signed() * 30.0 } else { random.signed() * 0.01 },
        ),
        ("magnitudes", |random, i| random.signed() * 2.0_f32.powi((i / 32 * 7 % 50) as i32 - 40)),
        ("subnormal", |random, i| random.signed() * 2.0_f32.powi(-120 - (i / 32 % 30) as i32)),
        ("large", |random, i| random.signed() * 2.0_f32.powi((i / 1024) as i32 + 10)),
        ("extreme", |random, i| random.signed() * 2.0_f32.powi(8 * (i / 1024) as i32 + 7)),
    ];
    let mut random = SplitMix64(11);
    let mut matrices = Vec::new();
    for (name, kind) in kinds {
        let weights: Vec<f32> = (0..ROWS * COLUMNS).map(|i| kind(&mut random, i)).collect();
        if matches!(name, "large" | "extreme") {
            // Row by row: one that is refused must not hide the others.
            for (row, weights) in weights.chunks(COLUMNS).enumerate() {
                let name = format!("{name} {row}");
                matrices.push(Matrix { name, columns: COLUMNS, weights: weights.to_vec() });
            }
        } else {
            matrices.push(Matrix { name: name.to_owned(), columns: COLUMNS, weights });
        }
    }
    matrices
}

/// The folders of `zoo` with weights, and none where there is no such folder.
pub(super) fn zoo(zoo: &Path) -> Result<Vec<PathBuf>> {
    if !zoo.is_dir() {
        return Ok(Vec::new());
    }
    let mut models = Vec::new();
    for entry in fs::read_dir(zoo)? {
        let path = entry?.path();
        if path.join("config.json").is_file() {
            models.push(path);
        }
    }
    models.sort();
    Ok(models)
}

/// Rows taken of each matrix of a model.
const ROWS: usize = 8;

/// Some rows of every matrix of a folder's safetensors files, evenly spread over it.
pub(super) fn of_model(folder: &Path) -> Result<Vec<Matrix>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "safetensors") {
            files.push(path);
        }
    }
    files.sort();
    let mut matrices = Vec::new();
    for path in files {
        let file = fs::read(&path)?;
        of_file(&file, &mut matrices).with_context(|| format!("cannot read {}", path.display()))?;
    }
    Ok(matrices)
}

#[derive(Deserialize)]
struct TensorInfo {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: [usize; 2],
}

fn of_file(file: &[u8], matrices: &mut Vec<Matrix>) -> Result<()> {
    let (length, rest) = file.split_first_chunk::<8>().context("no header")?;
    let (header, data) =
        rest.split_at_checked(u64::from_le_bytes(*length) as usize).context("a cut header")?;
    let mut header: BTreeMap<String, serde_json::Value> = serde_json::from_slice(header)?;
    header.remove("__metadata__");
    for (name, info) in header {
        let info: TensorInfo = serde_json::from_value(info)?;
        let [rows, columns] = info.shape[..] else { continue };
        if columns < 32 {
            continue;
        }
        let data = data.get(info.data_offsets[0]..info.data_offsets[1]).context("cut data")?;
        let size = if info.dtype == "F32" { 4 } else { 2 };
        ensure!(data.len() == rows * columns * size, "{name} has another size than its shape");
        let mut weights = Vec::new();
        for row in (0..rows).step_by(rows.div_ceil(ROWS)) {
            let row = &data[row * columns * size..][..columns * size];
            match info.dtype.as_str() {
                "F32" => weights.extend(row.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes))),
                "BF16" => {
                    let bits =
                        row.as_chunks().0.iter().map(|bytes| u32::from(u16::from_le_bytes(*bytes)) << 16);
                    weights.extend(bits.map(f32::from_bits));
                }
                "F16" => {
                    let mut decoded = vec![0.0; columns];
                    ramp_gguf::decode(ramp_gguf::GgmlType::F16, row, &mut decoded)?;
                    weights.extend(decoded);
                }
                other => anyhow::bail!("{name} is of type {other}"),
            }
        }
        matrices.push(Matrix { name, columns, weights });
    }
    Ok(())
}
