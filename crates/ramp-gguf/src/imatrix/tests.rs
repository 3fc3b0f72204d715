//! Both file forms, and what is refused.

use super::{Imatrix, ImatrixEntry};
use crate::{Error, GgmlType, GgufWriter, Metadata, TensorSpec};

fn sample() -> Imatrix {
    let mut imatrix = Imatrix {
        datasets: vec!["a.txt".into(), "b.txt".into()],
        chunk_count: 3,
        chunk_size: 512,
        ..Imatrix::default()
    };
    let dense = ImatrixEntry { sums: vec![1536.0, 0.0, 768.0], counts: vec![1536] };
    let experts = ImatrixEntry { sums: vec![1024.0, 512.0, 0.0, 0.0], counts: vec![512, 0] };
    imatrix.insert("blk.0.ffn_down.weight", dense).unwrap();
    imatrix.insert("blk.0.ffn_down_exps.weight", experts).unwrap();
    imatrix
}

fn open(bytes: &[u8]) -> Result<Imatrix, Error> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("imatrix");
    std::fs::write(&path, bytes).unwrap();
    Imatrix::open(path)
}

#[test]
fn importance_is_the_mean_and_one_where_nothing_was_seen() {
    let imatrix = sample();
    assert_eq!(imatrix.entries()["blk.0.ffn_down.weight"].importance(), [1.0, 0.0, 0.5]);
    assert_eq!(imatrix.entries()["blk.0.ffn_down_exps.weight"].importance(), [2.0, 1.0, 1.0, 1.0]);
}

#[test]
fn gguf_round_trip() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("imatrix.gguf");
    sample().save(&path).unwrap();
    assert_eq!(Imatrix::open(&path).unwrap(), sample());
    // The last tensor is padded: loaders that read data into memory expect it.
    assert_eq!(path.metadata().unwrap().len() % 32, 0);
}

#[test]
fn dat_bytes_are_those_of_the_format() {
    let mut imatrix = Imatrix { chunk_count: 2, chunk_size: 512, ..Imatrix::default() };
    imatrix.datasets.push("t".into());
    imatrix.insert("w", ImatrixEntry { sums: vec![2048.0], counts: vec![1024] }).unwrap();
    imatrix.insert("unseen", ImatrixEntry { sums: vec![0.0], counts: vec![0] }).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("imatrix.dat");
    imatrix.save_dat(&path).unwrap();
    let expected = [
        &1_i32.to_le_bytes()[..], // entries
        &1_i32.to_le_bytes(),     // length of the name
        b"w",
        &2_i32.to_le_bytes(), // calls
        &1_i32.to_le_bytes(), // values
        &4.0_f32.to_le_bytes(),
        &2_i32.to_le_bytes(), // chunks
        &1_i32.to_le_bytes(), // length of the dataset's name
        b"t",
    ]
    .concat();
    assert_eq!(std::fs::read(path).unwrap(), expected);
}

#[test]
fn dat_round_trip_keeps_the_importance() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("imatrix.dat");
    sample().save_dat(&path).unwrap();
    let read = Imatrix::open(&path).unwrap();
    assert_eq!((read.chunk_count, read.chunk_size), (3, 512));
    assert_eq!(read.datasets, ["a.txt, b.txt"]);
    for (name, entry) in sample().entries() {
        assert_eq!(read.entries()[name].importance(), entry.importance(), "{name}");
    }
    assert_eq!(read.entries()["blk.0.ffn_down.weight"].counts, [1536]);
}

#[test]
fn dat_without_trailer_and_without_calls() {
    let bytes = [
        &1_i32.to_le_bytes()[..],
        &1_i32.to_le_bytes(),
        b"w",
        &0_i32.to_le_bytes(),
        &1_i32.to_le_bytes(),
        &4.0_f32.to_le_bytes(),
    ]
    .concat();
    let imatrix = open(&bytes).unwrap();
    assert_eq!(imatrix.entries()["w"].importance(), [4.0]);
    assert_eq!((imatrix.chunk_count, imatrix.datasets.len()), (0, 0));
}

#[test]
fn every_truncation_of_a_dat_file_is_an_error_or_lacks_only_the_trailer() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("imatrix.dat");
    sample().save_dat(&path).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let trailer = 4 + 4 + "a.txt, b.txt".len();
    for end in 0..bytes.len() {
        let read = open(&bytes[..end]);
        assert_eq!(read.is_ok(), end == bytes.len() - trailer, "{end}: {read:?}");
    }
}

#[test]
fn lying_dat_lengths_are_refused() {
    for (bytes, expected) in [
        ([i32::MAX; 5], "2147483647 imatrix entries, but at most 1 are possible here"),
        ([-1; 5], "the number of entries is -1"),
        ([1, i32::MAX, 0, 0, 0], "file ends inside a name: 2147483647 bytes needed"),
        ([1, 0, 1, i32::MAX, 0], "file ends inside the values of an entry: 8589934588 bytes needed"),
        ([1, 0, 1, 0, 0], "0 sums do not divide into 1 matrices"),
        ([0; 5], "0 imatrix entries"),
    ] {
        let bytes: Vec<u8> = bytes.into_iter().flat_map(i32::to_le_bytes).collect();
        let message = open(&bytes).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn values_that_are_no_sums_of_squares_are_refused() {
    for bad in [f32::NAN, f32::INFINITY, -1.0] {
        let entry = ImatrixEntry { sums: vec![1.0, bad], counts: vec![1] };
        let error = Imatrix::default().insert("w", entry).unwrap_err();
        assert!(error.to_string().starts_with("imatrix: `w`: the sum of squares of column 1"), "{error}");
    }
}

#[test]
fn merging_adds_sums_and_counts() {
    let mut imatrix = sample();
    let mut other = Imatrix { chunk_count: 1, chunk_size: 512, ..Imatrix::default() };
    other.datasets.push("c.txt".into());
    let dense = ImatrixEntry { sums: vec![0.0, 512.0, 0.0], counts: vec![512] };
    other.insert("blk.0.ffn_down.weight", dense.clone()).unwrap();
    other.insert("blk.1.ffn_down.weight", dense.clone()).unwrap();
    imatrix.merge(&other).unwrap();
    let merged = &imatrix.entries()["blk.0.ffn_down.weight"];
    assert_eq!((&merged.sums[..], &merged.counts[..]), (&[1536.0, 512.0, 768.0][..], &[2048][..]));
    assert_eq!(imatrix.entries()["blk.1.ffn_down.weight"], dense);
    assert_eq!((imatrix.chunk_count, imatrix.datasets.len()), (4, 3));

    let before = imatrix.clone();
    let mut odd = Imatrix::default();
    odd.insert("a", dense).unwrap();
    odd.insert("blk.0.ffn_down.weight", ImatrixEntry { sums: vec![1.0], counts: vec![1] }).unwrap();
    assert!(matches!(imatrix.merge(&odd), Err(Error::Imatrix { .. })));
    assert_eq!(imatrix, before);
}

/// A file of one or two tensors with these names, shapes and types, all values 1.
fn gguf(kind: &str, tensors: &[(&str, [u64; 2], GgmlType)]) -> Result<Imatrix, Error> {
    let mut metadata = Metadata::new();
    metadata.insert("general.type", kind);
    metadata.insert("imatrix.datasets", vec!["t".to_owned()]);
    metadata.insert("imatrix.chunk_count", 1_u32);
    metadata.insert("imatrix.chunk_size", 512_u32);
    let specs: Vec<_> = tensors.iter().map(|(name, dims, ty)| TensorSpec::new(*name, *dims, *ty)).collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("imatrix.gguf");
    let mut writer = GgufWriter::create(&path, metadata, specs).unwrap();
    for (name, dims, ty) in tensors {
        let ones = vec![1.0; (dims[0] * dims[1]) as usize];
        writer.write_tensor(name, &crate::encode(*ty, &ones, dims[0] as usize, None).unwrap()).unwrap();
    }
    writer.finish().unwrap();
    Imatrix::open(path)
}

#[test]
fn gguf_files_of_another_kind_are_refused() {
    use GgmlType::{F16, F32};
    let check = |result: Result<Imatrix, Error>, expected: &str| {
        let error = result.unwrap_err();
        assert!(matches!(&error, Error::InFile { .. }), "{error}");
        assert!(error.to_string().ends_with(expected), "{error}");
    };
    let (sums, counts) = ("w.in_sum2", "w.counts");
    assert!(gguf("imatrix", &[(sums, [4, 1], F32), (counts, [1, 1], F32)]).is_ok());
    check(gguf("model", &[]), "imatrix: general.type is `model`");
    check(gguf("imatrix", &[(sums, [4, 1], F32)]), "`w`: sums without counts");
    check(gguf("imatrix", &[(counts, [1, 1], F32)]), "`w`: counts without sums");
    check(gguf("imatrix", &[("w", [1, 1], F32)]), "imatrix: there are no entries");
    check(
        gguf("imatrix", &[(sums, [4, 2], F32), (counts, [1, 1], F32)]),
        "`w`: sums are [4, 2] and counts [1, 1]",
    );
    check(
        gguf("imatrix", &[(sums, [4, 1], F16), (counts, [1, 1], F32)]),
        "`w`: sums are F16 and counts F32, both must be F32",
    );
}

/// Newer versions of llama-imatrix write plain sums next to the squares.
#[test]
fn further_statistics_are_skipped() {
    use GgmlType::F32;
    let tensors = [("w.in_sum", [4, 1], F32), ("w.in_sum2", [4, 1], F32), ("w.counts", [1, 1], F32)];
    let imatrix = gguf("imatrix", &tensors).unwrap();
    assert_eq!(imatrix.entries()["w"].importance(), [1.0; 4]);
}

/// The tensors' names, shapes and order, which llama-quantize finds by name and llama-imatrix writes so.
#[test]
fn gguf_layout() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("imatrix.gguf");
    sample().save(&path).unwrap();
    let file = crate::GgufFile::open(&path).unwrap();
    let tensors: Vec<_> = file.tensors().iter().map(|info| (info.name.as_str(), &info.dims[..])).collect();
    assert_eq!(
        tensors,
        [
            ("blk.0.ffn_down.weight.in_sum2", &[3, 1][..]),
            ("blk.0.ffn_down.weight.counts", &[1, 1]),
            ("blk.0.ffn_down_exps.weight.in_sum2", &[2, 2]),
            ("blk.0.ffn_down_exps.weight.counts", &[1, 2]),
        ]
    );
    assert!(file.tensors().iter().all(|info| info.ty == GgmlType::F32));
    let metadata = file.metadata();
    assert_eq!(metadata.get_str("general.type").unwrap(), "imatrix");
    assert_eq!(metadata.get_array_str("imatrix.datasets").unwrap(), ["a.txt", "b.txt"]);
    assert_eq!(metadata.get_u32("imatrix.chunk_count").unwrap(), 3);
    assert_eq!(metadata.get_u32("imatrix.chunk_size").unwrap(), 512);
    assert_eq!(metadata.len(), 4);
}

#[test]
fn an_imatrix_without_entries_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("imatrix");
    for result in [Imatrix::default().save(&path), Imatrix::default().save_dat(&path)] {
        assert_eq!(result.unwrap_err().to_string(), "imatrix: there are no entries");
    }
    assert!(!path.exists());
}

#[test]
fn importance_is_only_given_to_a_weight_of_the_same_width() {
    let imatrix = sample();
    assert_eq!(imatrix.importance("blk.0.ffn_down.weight", 3).unwrap().unwrap(), [1.0, 0.0, 0.5]);
    assert_eq!(imatrix.importance("output.weight", 3).unwrap(), None);
    let error = imatrix.importance("blk.0.ffn_down.weight", 4).unwrap_err();
    assert!(matches!(error.root(), Error::ImatrixLength { expected: 4, found: 3 }));
}

#[test]
fn keys_of_llama_quantize() {
    let mut imatrix = sample();
    let mut metadata = Metadata::new();
    let long = format!("{}é.gguf", "x".repeat(126));
    imatrix.quantize_keys(&long, &mut metadata);
    let expected: Metadata = [
        ("quantize.imatrix.file", crate::Value::from("x".repeat(126))),
        ("quantize.imatrix.dataset", "a.txt".into()),
        ("quantize.imatrix.entries_count", 2_u32.into()),
        ("quantize.imatrix.chunks_count", 3_u32.into()),
    ]
    .into_iter()
    .collect();
    assert_eq!(metadata, expected);

    imatrix.datasets.clear();
    imatrix.chunk_count = 0;
    let mut metadata = Metadata::new();
    imatrix.quantize_keys("a", &mut metadata);
    assert_eq!(metadata.len(), 2);
}
