//! The GGUF form: per weight `W` two F32 tensors, `W.in_sum2` of `ne` `{n_columns, n_matrices}` and `W.counts` of
//! `{1, n_matrices}`. Newer versions of llama-imatrix add further statistics under other suffixes, such as the plain
//! sums `W.in_sum`; they are skipped, as llama-quantize skips what it does not know.

use std::collections::HashMap;
use std::path::Path;

use super::{Imatrix, ImatrixEntry, reason};
use crate::{
    Error, GgmlType, GgufWriter, Header, Metadata, Result, TensorInfo, TensorSpec, TensorView, encode,
};

const SUMS: &str = ".in_sum2";
const COUNTS: &str = ".counts";
const DATASETS: &str = "imatrix.datasets";
const CHUNK_COUNT: &str = "imatrix.chunk_count";
const CHUNK_SIZE: &str = "imatrix.chunk_size";

pub(super) fn write(imatrix: &Imatrix, path: &Path) -> Result<()> {
    imatrix.check_not_empty()?;
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

pub(super) fn parse(bytes: &[u8]) -> Result<Imatrix> {
    let header = Header::parse(bytes)?;
    let metadata = &header.metadata;
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
    let view = |tensor| TensorView::new(tensor, header.data_of(bytes, tensor));
    let tensors: HashMap<&str, &TensorInfo> =
        header.tensors.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
    for tensor in &header.tensors {
        if let Some(name) = tensor.name.strip_suffix(SUMS) {
            let counts = tensors
                .get(format!("{name}{COUNTS}").as_str())
                .ok_or_else(|| reason(name, "sums without counts"))?;
            let entry = read_entry(name, view(tensor), view(counts))?;
            imatrix.insert(name, entry)?;
        } else if let Some(name) = tensor.name.strip_suffix(COUNTS)
            && !tensors.contains_key(format!("{name}{SUMS}").as_str())
        {
            return Err(reason(name, "counts without sums"));
        }
    }
    imatrix.check_not_empty()?;
    Ok(imatrix)
}

fn read_entry(name: &str, sums: TensorView<'_>, counts: TensorView<'_>) -> Result<ImatrixEntry> {
    let (sums_dims, counts_dims) = (&sums.info().dims, &counts.info().dims);
    if counts_dims[0] != 1 || sums.n_rows() != counts.n_rows() {
        return Err(reason(name, format!("sums are {sums_dims:?} and counts {counts_dims:?}")));
    }
    if (sums.ty(), counts.ty()) != (GgmlType::F32, GgmlType::F32) {
        let (sums, counts) = (sums.ty(), counts.ty());
        return Err(reason(name, format!("sums are {sums} and counts {counts}, both must be F32")));
    }
    let counts = counts
        .decode()?
        .into_iter()
        .map(|count| {
            if !count.is_finite() || count < 0.0 {
                return Err(reason(name, format!("a count is {count}")));
            }
            Ok(count.round() as u64)
        })
        .collect::<Result<_>>()?;
    Ok(ImatrixEntry { sums: sums.decode()?, counts })
}
