//! The sums of an unfinished calibration pass as a file.
//!
//! A safetensors file, little-endian as that format is. For each matrix with an input, under its GGUF name `W`: `W.abs`
//! and `W.sum_sq` (F64, `[in]`), `W.max_abs` (F32, `[in]`); where Gram matrices are gathered, `W.gram` (F64,
//! `[in, in]`) for the first of the matrices that share an input. The metadata key `ramp` says what the sums belong to.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::Path,
};

use ramp_gguf::MappedFile;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    calibration::{Calibration, Job, LayerSums, Sums},
    error::{Error, Result},
    gram::Gram,
    layer::LayerId,
};

const VERSION: u32 = 1;
const KIND: &str = "unfinished calibration";

#[derive(Debug, Serialize, Deserialize)]
struct Header {
    kind: String,
    version: u32,
    model: String,
    windows: u64,
    tokens: u64,
    text: String,
    gram: bool,
    /// Windows in the sums.
    done: u64,
    /// Tokens that each matrix has seen.
    counts: BTreeMap<LayerId, u64>,
    /// Layers that share a Gram matrix, by the first of them, and its tokens.
    grams: BTreeMap<LayerId, (Vec<LayerId>, u64)>,
}

enum Values<'a> {
    F32(&'a [f32]),
    F64(&'a [f64]),
}

impl Values<'_> {
    fn bytes(&self) -> usize {
        match self {
            Self::F32(values) => size_of_val(*values),
            Self::F64(values) => size_of_val(*values),
        }
    }

    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        match self {
            Self::F32(values) => values.iter().try_for_each(|x| out.write_all(&x.to_le_bytes())),
            Self::F64(values) => values.iter().try_for_each(|x| out.write_all(&x.to_le_bytes())),
        }
    }
}

/// Writes the sums, tensor by tensor: Gram matrices are too large for a second copy.
pub(crate) fn save(pass: &Calibration<'_>, path: &Path, job: &Job) -> Result<()> {
    let Sums { layers, grams, .. } = &pass.sums;
    let mut tensors: Vec<(String, Vec<usize>, Values<'_>)> = Vec::new();
    for (first, (gram, _)) in grams {
        tensors.push((format!("{first}.gram"), vec![gram.width(); 2], Values::F64(gram.sum())));
    }
    for (id, sums) in layers {
        tensors.push((format!("{id}.abs"), vec![sums.abs.len()], Values::F64(&sums.abs)));
        tensors.push((format!("{id}.sum_sq"), vec![sums.sq.len()], Values::F64(&sums.sq)));
    }
    for (id, sums) in layers {
        tensors.push((format!("{id}.max_abs"), vec![sums.max_abs.len()], Values::F32(&sums.max_abs)));
    }
    let header = Header {
        kind: KIND.into(),
        version: VERSION,
        model: job.model.clone(),
        windows: job.windows,
        tokens: job.tokens,
        text: job.text.clone(),
        gram: job.gram,
        done: pass.done as u64,
        counts: layers.iter().map(|(id, sums)| (*id, sums.count)).collect(),
        grams: grams.iter().map(|(id, (gram, layers))| (*id, (layers.clone(), gram.count()))).collect(),
    };
    let fail = |e: serde_json::Error| Error::Stats { path: path.to_owned(), why: e.to_string() };
    let mut index = serde_json::Map::new();
    index.insert("__metadata__".into(), json!({ "ramp": serde_json::to_string(&header).map_err(fail)? }));
    let mut offset = 0;
    for (name, shape, values) in &tensors {
        let dtype = if matches!(values, Values::F32(_)) { "F32" } else { "F64" };
        let end = offset + values.bytes();
        index.insert(name.clone(), json!({ "dtype": dtype, "shape": shape, "data_offsets": [offset, end] }));
        offset = end;
    }
    let index = serde_json::to_vec(&index).map_err(fail)?;
    // Spaces up to a multiple of 8, as the format asks for.
    let padding = index.len().next_multiple_of(8) - index.len();
    Ok(ramp_gguf::write_atomically(path, |file| {
        file.write_all(&((index.len() + padding) as u64).to_le_bytes())?;
        file.write_all(&index)?;
        file.write_all(&b"       "[..padding])?;
        tensors.iter().try_for_each(|(.., values)| values.write(file))
    })?)
}

/// Reads sums back, and the windows that are in them.
pub(crate) fn open(path: &Path, job: &Job) -> Result<(Sums, usize)> {
    let fail = |why: String| Error::Stats { path: path.to_owned(), why };
    let file = MappedFile::open(path)?;
    let (_, metadata) = SafeTensors::read_metadata(&file).map_err(|e| fail(e.to_string()))?;
    let json = metadata.metadata().as_ref().and_then(|map| map.get("ramp"));
    let json = json.ok_or_else(|| fail("has no metadata `ramp`".into()))?;
    let header: Header = serde_json::from_str(json).map_err(|e| fail(format!("metadata `ramp`: {e}")))?;
    if header.kind != KIND || header.version != VERSION {
        let (kind, version) = (&header.kind, header.version);
        return Err(fail(format!("holds {kind:?} version {version}, expected {KIND:?} version {VERSION}")));
    }
    header.check(path, job)?;

    let file = SafeTensors::deserialize(&file).map_err(|e| fail(e.to_string()))?;
    let tensor =
        |name: String, dtype: Dtype, shape: &dyn Fn(&[usize]) -> bool| -> Result<(Vec<f64>, usize)> {
            let view = file.tensor(&name).map_err(|e| fail(format!("{name}: {e}")))?;
            if view.dtype() != dtype || !shape(view.shape()) {
                return Err(fail(format!("{name} is {:?} {:?}", view.dtype(), view.shape())));
            }
            let values: Vec<f64> = match dtype {
                Dtype::F64 => view.data().as_chunks().0.iter().map(|&x| f64::from_le_bytes(x)).collect(),
                _ => view.data().as_chunks().0.iter().map(|&x| f64::from(f32::from_le_bytes(x))).collect(),
            };
            match values.iter().position(|x| !x.is_finite()) {
                Some(at) => Err(fail(format!("{name} holds {} at {at}", values[at]))),
                None => Ok((values, view.shape()[0])),
            }
        };
    let mut layers = BTreeMap::new();
    for (&id, &count) in &header.counts {
        let (abs, width) = tensor(format!("{id}.abs"), Dtype::F64, &|shape| shape.len() == 1)?;
        let (sq, _) = tensor(format!("{id}.sum_sq"), Dtype::F64, &|shape| shape == [width])?;
        let (max_abs, _) = tensor(format!("{id}.max_abs"), Dtype::F32, &|shape| shape == [width])?;
        let max_abs = max_abs.into_iter().map(|x| x as f32).collect();
        layers.insert(id, LayerSums { abs, max_abs, sq, count });
    }
    let mut grams = BTreeMap::new();
    for (first, (sharing, count)) in header.grams {
        let width = layers.get(&first).map_or(0, |sums: &LayerSums| sums.abs.len());
        let (sum, _) = tensor(format!("{first}.gram"), Dtype::F64, &|shape| shape == [width, width])?;
        grams.insert(first, (Gram::from_sum(width, sum, count), sharing));
    }
    Ok((Sums::with(job.gram, layers, grams), header.done as usize))
}

impl Header {
    /// Whether the sums belong to this pass; the error names the first thing that differs.
    fn check(&self, path: &Path, job: &Job) -> Result<()> {
        let short = |hash: &str| hash.chars().take(12).collect::<String>();
        let windows = |windows: u64, tokens: u64| format!("{windows} windows, {tokens} tokens");
        let gram = |gram: bool| if gram { "with" } else { "without" }.to_owned();
        let differs = [
            ("model", short(&self.model), short(&job.model)),
            ("windows", windows(self.windows, self.tokens), windows(job.windows, job.tokens)),
            ("text", short(&self.text), short(&job.text)),
            ("Gram matrices", gram(self.gram), gram(job.gram)),
        ];
        if let Some((what, found, expected)) = differs.into_iter().find(|(_, a, b)| a != b) {
            return Err(Error::OtherCalibration { path: path.to_owned(), what, found, expected });
        }
        if self.done > job.windows {
            let why = format!("holds {} windows of {}", self.done, job.windows);
            return Err(Error::Stats { path: path.to_owned(), why });
        }
        Ok(())
    }
}
