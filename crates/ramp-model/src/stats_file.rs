//! Calibration statistics as a file.
//!
//! One safetensors file, little-endian as that format is. For each matrix with an input, under its GGUF name `W`
//! (such as `blk.0.attn_q.weight`):
//!
//! | tensor | type | shape | |
//! |---|---|---|---|
//! | `W.mean_abs` | F32 | `[in]` | mean of abs(x) |
//! | `W.max_abs` | F32 | `[in]` | largest abs(x) |
//! | `W.sum_sq` | F64 | `[in]` | sum of x² over all tokens |
//!
//! The metadata key `ramp` holds [`StatsHeader`] as JSON, and with it the number of tokens of each matrix.

use std::{collections::BTreeMap, collections::HashMap, fs, io::Write, path::Path};

use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    layer::LayerId,
    taps::{CalibrationStats, ChannelStats},
};

/// Version of the layout.
const VERSION: u32 = 1;
/// What the file is, in its header.
const KIND: &str = "calibration statistics";
/// Three numbers per channel of each matrix: some megabytes for the largest models.
const MAX_FILE_BYTES: u64 = 1 << 30;

/// Where statistics come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatsHeader {
    /// `calibration statistics`.
    kind: String,
    /// Version of the layout.
    version: u32,
    /// Name of the model.
    pub model: String,
    /// Names of the texts.
    pub datasets: Vec<String>,
    /// Windows of text that were run.
    pub chunks: u64,
    /// Tokens of a window.
    pub chunk_size: u64,
    /// Tokens that each matrix has seen.
    counts: BTreeMap<LayerId, u64>,
}

impl StatsHeader {
    /// Of statistics that are about to be written.
    #[must_use]
    pub fn new(model: String, datasets: Vec<String>, chunks: u64, chunk_size: u64) -> Self {
        Self {
            kind: KIND.into(),
            version: VERSION,
            model,
            datasets,
            chunks,
            chunk_size,
            counts: BTreeMap::new(),
        }
    }
}

impl CalibrationStats {
    /// Writes the statistics; the file is complete or absent.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: &Path, header: &StatsHeader) -> Result<()> {
        let counts = self.iter().map(|(id, stats)| (id, stats.count)).collect();
        let header = StatsHeader { counts, ..header.clone() };
        let fail = |why: String| Error::Stats { path: path.to_owned(), why };
        let header = serde_json::to_string(&header).map_err(|e| fail(e.to_string()))?;
        let mut tensors: Vec<(String, Dtype, Vec<u8>)> = Vec::new();
        for (id, stats) in self.iter() {
            let f32s = |values: &[f32]| values.iter().flat_map(|x| x.to_le_bytes()).collect();
            tensors.push((format!("{id}.mean_abs"), Dtype::F32, f32s(&stats.mean_abs)));
            tensors.push((format!("{id}.max_abs"), Dtype::F32, f32s(&stats.max_abs)));
            let sums = stats.sum_sq.iter().flat_map(|x| x.to_le_bytes()).collect();
            tensors.push((format!("{id}.sum_sq"), Dtype::F64, sums));
        }
        let views = tensors.iter().map(|(name, dtype, bytes)| {
            let width = if *dtype == Dtype::F64 { 8 } else { 4 };
            let view = TensorView::new(*dtype, vec![bytes.len() / width], bytes);
            view.map(|view| (name, view)).map_err(|e| fail(e.to_string()))
        });
        let views = views.collect::<Result<Vec<_>>>()?;
        let metadata = HashMap::from([("ramp".to_owned(), header)]);
        let bytes = safetensors::serialize(views, Some(metadata)).map_err(|e| fail(e.to_string()))?;
        Ok(ramp_gguf::write_atomically(path, |file| file.write_all(&bytes))?)
    }

    /// Reads what [`CalibrationStats::save`] wrote.
    ///
    /// # Errors
    /// When the file cannot be read, is not such a file, or holds numbers that no activations have.
    pub fn open(path: &Path) -> Result<(Self, StatsHeader)> {
        let fail = |why: String| Error::Stats { path: path.to_owned(), why };
        let size = fs::metadata(path).map_err(Error::io(path))?.len();
        if size > MAX_FILE_BYTES {
            return Err(fail(format!("has {size} bytes, statistics have at most {MAX_FILE_BYTES}")));
        }
        let bytes = fs::read(path).map_err(Error::io(path))?;
        let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(|e| fail(e.to_string()))?;
        let json = metadata.metadata().as_ref().and_then(|map| map.get("ramp"));
        let json = json.ok_or_else(|| fail("has no metadata `ramp`".into()))?;
        let header: StatsHeader =
            serde_json::from_str(json).map_err(|e| fail(format!("metadata `ramp`: {e}")))?;
        if header.kind != KIND || header.version != VERSION {
            let (kind, version) = (&header.kind, header.version);
            return Err(fail(format!(
                "holds {kind:?} version {version}, expected {KIND:?} version {VERSION}"
            )));
        }
        let file = SafeTensors::deserialize(&bytes).map_err(|e| fail(e.to_string()))?;
        let mut stats = Self::default();
        for (&id, &count) in &header.counts {
            let tensor = |what: &str, dtype: Dtype| -> Result<Vec<f64>> {
                let name = format!("{id}.{what}");
                let view = file.tensor(&name).map_err(|e| fail(format!("{name}: {e}")))?;
                if view.dtype() != dtype || view.shape().len() != 1 {
                    let (found, shape) = (view.dtype(), view.shape());
                    return Err(fail(format!("{name} is {found:?} {shape:?}, expected {dtype:?} [in]")));
                }
                let values = numbers(view.data(), dtype);
                match values.iter().position(|x| !x.is_finite() || *x < 0.0) {
                    Some(at) => Err(fail(format!("{name} holds {} at {at}", values[at]))),
                    None => Ok(values),
                }
            };
            let f32s = |values: Vec<f64>| values.into_iter().map(|x| x as f32).collect::<Vec<f32>>();
            let mean_abs = f32s(tensor("mean_abs", Dtype::F32)?);
            let max_abs = f32s(tensor("max_abs", Dtype::F32)?);
            let sum_sq = tensor("sum_sq", Dtype::F64)?;
            if mean_abs.len() != max_abs.len() || mean_abs.len() != sum_sq.len() {
                let lengths = [mean_abs.len(), max_abs.len(), sum_sq.len()];
                return Err(fail(format!("{id} has {lengths:?} channels, expected the same three times")));
            }
            stats.insert(id, ChannelStats { mean_abs, max_abs, sum_sq, count });
        }
        Ok((stats, header))
    }
}

fn numbers(bytes: &[u8], dtype: Dtype) -> Vec<f64> {
    if dtype == Dtype::F64 {
        bytes.as_chunks().0.iter().map(|&x| f64::from_le_bytes(x)).collect()
    } else {
        bytes.as_chunks().0.iter().map(|&x| f64::from(f32::from_le_bytes(x))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::Role;

    fn example() -> CalibrationStats {
        let mut stats = CalibrationStats::default();
        let one = ChannelStats {
            mean_abs: vec![0.5, 0.25],
            max_abs: vec![3.0, 1.0],
            // Not a number that f32 has.
            sum_sq: vec![16_777_217.0, 0.0],
            count: 1024,
        };
        stats.insert(LayerId::Block { block: 3, role: Role::Down }, one.clone());
        stats.insert(LayerId::Output, ChannelStats { count: 7, ..one });
        stats
    }

    #[test]
    fn statistics_round_trip() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stats.safetensors");
        let header = StatsHeader::new("nano".into(), vec!["text".into()], 2, 512);
        example().save(&path, &header).unwrap();
        let (stats, read) = CalibrationStats::open(&path).unwrap();
        assert_eq!(stats, example());
        assert_eq!((read.model.as_str(), read.chunks, read.chunk_size), ("nano", 2, 512));
        assert_eq!(read.counts[&LayerId::Output], 7);
    }

    #[test]
    fn other_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let error = |path: &Path| CalibrationStats::open(path).unwrap_err().to_string();
        assert!(error(&path).contains("/x: "));
        fs::write(&path, b"no").unwrap();
        assert!(error(&path).contains("/x: "));
        let none: Vec<(String, TensorView<'_>)> = Vec::new();
        fs::write(&path, safetensors::serialize(none.clone(), None).unwrap()).unwrap();
        assert!(error(&path).contains("has no metadata `ramp`"));
        let header = |edit: &dyn Fn(&mut StatsHeader)| {
            let mut header = StatsHeader::new("m".into(), Vec::new(), 1, 1);
            edit(&mut header);
            let json = serde_json::to_string(&header).unwrap();
            let metadata = HashMap::from([("ramp".to_owned(), json)]);
            fs::write(&path, safetensors::serialize(none.clone(), Some(metadata)).unwrap()).unwrap();
            error(&path)
        };
        assert!(header(&|h| h.version = 9).contains("version 9"));
        assert!(header(&|h| h.kind = "policy".into()).contains("\"policy\""));
        assert!(
            header(&|h| h.counts = BTreeMap::from([(LayerId::Output, 1)])).contains("output.weight.mean_abs")
        );
        let mut bad = example();
        bad.insert(
            LayerId::Output,
            ChannelStats { mean_abs: vec![f32::NAN], max_abs: vec![1.0], sum_sq: vec![1.0], count: 1 },
        );
        bad.save(&path, &StatsHeader::new("m".into(), Vec::new(), 1, 1)).unwrap();
        assert!(error(&path).contains("output.weight.mean_abs holds NaN at 0"));
    }
}
