//! The GGUF form: per weight `W` two F32 tensors, `W.in_sum2` of `ne` `{n_columns, n_matrices}` and `W.counts` of
//! `{1, n_matrices}`.

use std::path::Path;

use super::{Imatrix, ImatrixEntry, reason};
use crate::{Error, GgmlType, GgufFile, GgufWriter, Metadata, Result, TensorInfo, TensorSpec, encode};

const SUMS: &str = ".in_sum2";
const COUNTS: &str = ".counts";
const DATASETS: &str = "imatrix.datasets";
const CHUNK_COUNT: &str = "imatrix.chunk_count";
const CHUNK_SIZE: &str = "imatrix.chunk_size";

pub(super) fn write(imatrix: &Imatrix, path: &Path) -> Result<()> {
    let mut metadata = Metadata::new();
    metadata.insert("general.type", "imatrix");
    metadata.insert(DATASETS, imatrix.datasets.clone());
    metadata.insert(CHUNK_COUNT, imatrix.chunk_count);
    metadata.insert(CHUNK_SIZE, imatrix.chunk_size);
    let mut specs = Vec::new();
    for (name, entry) in &imatrix.entries {
        let (columns, matrices) = (entry.n_columns() as u64, entry.counts.len() as u64);
        specs.push(TensorSpec::new(format!("{name}{SUMS}"), [columns, matrices], GgmlType::F32));
        specs.push(TensorSpec::new(format!("{name}{COUNTS}"), [1, matrices], GgmlType::F32));
    }
    let mut writer = GgufWriter::create(path, metadata, specs)?;
    for (name, entry) in &imatrix.entries {
        let counts: Vec<f32> = entry.counts.iter().map(|&count| count as f32).collect();
        for (suffix, values) in [(SUMS, &entry.sums), (COUNTS, &counts)] {
            let bytes = encode(GgmlType::F32, values, values.len(), None)?;
            writer.write_tensor(&format!("{name}{suffix}"), &bytes)?;
        }
    }
    writer.finish().map(drop)
}

pub(super) fn read(path: &Path) -> Result<Imatrix> {
    let file = GgufFile::open(path)?;
    let metadata = file.metadata();
    let kind = metadata.get_str("general.type")?;
    if kind != "imatrix" {
        return Err(Error::Imatrix { reason: format!("general.type is `{kind}`") });
    }
    let mut imatrix = Imatrix {
        datasets: metadata.get_array_str(DATASETS)?.to_vec(),
        chunk_count: metadata.get_u32(CHUNK_COUNT)?,
        chunk_size: metadata.get_u32(CHUNK_SIZE)?,
        ..Imatrix::default()
    };
    for tensor in file.tensors() {
        if let Some(name) = tensor.name.strip_suffix(SUMS) {
            let counts =
                file.tensor(&format!("{name}{COUNTS}")).ok_or_else(|| reason(name, "sums without counts"))?;
            let entry = read_entry(&file, name, tensor, counts)?;
            imatrix.insert(name, entry)?;
        } else if let Some(name) = tensor.name.strip_suffix(COUNTS) {
            if file.tensor(&format!("{name}{SUMS}")).is_none() {
                return Err(reason(name, "counts without sums"));
            }
        } else {
            return Err(reason(&tensor.name, "neither sums nor counts"));
        }
    }
    Ok(imatrix)
}

fn read_entry(file: &GgufFile, name: &str, sums: &TensorInfo, counts: &TensorInfo) -> Result<ImatrixEntry> {
    let matrices = |info: &TensorInfo| info.dims[1..].iter().product::<u64>();
    if counts.dims[0] != 1 || matrices(sums) != matrices(counts) {
        return Err(reason(name, format!("sums are {:?} and counts {:?}", sums.dims, counts.dims)));
    }
    if (sums.ty, counts.ty) != (GgmlType::F32, GgmlType::F32) {
        return Err(reason(name, format!("sums are {} and counts {}, both must be F32", sums.ty, counts.ty)));
    }
    let counts = file
        .decode_tensor(&counts.name)?
        .into_iter()
        .map(|count| {
            if !count.is_finite() || count < 0.0 {
                return Err(reason(name, format!("a count is {count}")));
            }
            Ok(count.round() as u64)
        })
        .collect::<Result<_>>()?;
    Ok(ImatrixEntry { sums: file.decode_tensor(&sums.name)?, counts })
}
