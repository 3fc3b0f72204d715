//! What the writer refuses, and what it leaves behind.

use std::path::Path;

use ramp_gguf::{Error, GgmlType, GgufWriter, Metadata, TensorSpec, file_bytes};

fn specs() -> Vec<TensorSpec> {
    vec![TensorSpec::new("a", [32, 2], GgmlType::Q8_0), TensorSpec::new("b", [3], GgmlType::F32)]
}

fn files(folder: &Path) -> usize {
    std::fs::read_dir(folder).expect("the folder exists").count()
}

#[test]
fn order_length_and_completeness() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let mut writer = GgufWriter::create(&path, Metadata::new(), specs()).unwrap();
    let error = writer.write_tensor("b", &[0; 12]).unwrap_err();
    assert_eq!(error.to_string(), "tensor `b` was written where `a` is due");
    let error = writer.write_tensor("a", &[0; 67]).unwrap_err();
    assert_eq!(error.to_string(), "tensor `a`: 67 bytes where Q8_0 needs 68");
    // Neither has taken the place of a tensor.
    writer.write_tensor("a", &[0; 68]).unwrap();
    let error = writer.finish().unwrap_err();
    assert_eq!(error.to_string(), "1 tensors were not written, the first is `b`");
    assert_eq!(files(folder.path()), 0, "the temporary file is removed");

    let mut writer = GgufWriter::create(&path, Metadata::new(), specs()).unwrap();
    writer.write_tensor("a", &[0; 68]).unwrap();
    writer.write_tensor("b", &[0; 12]).unwrap();
    assert!(
        matches!(writer.write_tensor("c", &[]), Err(Error::WrongOrder { expected, .. }) if expected == "nothing")
    );
    assert!(!path.exists(), "no file before it is finished");
    writer.finish().unwrap();
    assert_eq!(files(folder.path()), 1);
}

#[test]
fn a_dropped_writer_leaves_the_old_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    std::fs::write(&path, b"old").unwrap();
    let mut writer = GgufWriter::create(&path, Metadata::new(), specs()).unwrap();
    writer.write_tensor("a", &[0; 68]).unwrap();
    assert_eq!(files(folder.path()), 2);
    drop(writer);
    assert_eq!(files(folder.path()), 1);
    assert_eq!(std::fs::read(&path).unwrap(), b"old");
}

#[test]
fn paths_that_cannot_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing").join("model.gguf");
    let error = GgufWriter::create(&missing, Metadata::new(), specs()).unwrap_err();
    assert!(error.to_string().starts_with(&format!("cannot create {}", missing.display())), "{error}");
    let error = GgufWriter::create(folder.path(), Metadata::new(), specs()).unwrap_err();
    assert!(matches!(error, Error::NotARegularFile { .. }));
}

#[test]
fn parts_that_make_no_valid_file() {
    let check = |metadata: Metadata, specs: &[TensorSpec], expected: &str| {
        assert_eq!(file_bytes(&metadata, specs).unwrap_err().to_string(), expected);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        let error = GgufWriter::create(path, metadata, specs.to_vec()).unwrap_err();
        assert_eq!(error.to_string(), expected);
        assert_eq!(files(folder.path()), 0);
    };
    let none = Metadata::new;
    let spec = |name: &str, dims: &[u64]| TensorSpec::new(name, dims, GgmlType::Q4_K);
    check([("", 1_u32)].into_iter().collect(), &[], "metadata key `` is not 1 to 65535 ASCII characters");
    check(
        [("general.alignment", 48_u32)].into_iter().collect(),
        &[],
        "general.alignment is 48, expected a power of two up to 65536",
    );
    check(none(), &[spec("", &[256])], "tensor name `` is not 1 to 63 bytes long");
    check(none(), &[spec("w", &[256]), spec("w", &[256])], "tensor `w` appears twice");
    check(none(), &[spec("w", &[])], "tensor `w`: 0 dimensions, expected 1 to 4");
    check(none(), &[spec("w", &[256, 0])], "tensor `w`: dimension 1 is 0 in [256, 0]");
    check(
        none(),
        &[spec("w", &[300])],
        "tensor `w`: rows of 300 weights do not divide into Q4_K blocks of 256",
    );
    check(
        none(),
        &[spec("w", &[1 << 40, 1 << 40])],
        "tensor `w`: dimensions [1099511627776, 1099511627776] have too many elements",
    );
    let huge: Vec<_> = (0..9).map(|i| TensorSpec::new(format!("w{i}"), [1 << 59], GgmlType::F32)).collect();
    check(none(), &huge, "the bytes of the file overflow");
}

#[test]
fn a_file_without_tensors_is_not_padded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let metadata: Metadata = [("k", "v")].into_iter().collect();
    let bytes = GgufWriter::create(&path, metadata, vec![]).unwrap().finish().unwrap();
    assert_eq!(bytes, 24 + (8 + 1) + 4 + (8 + 1));
    assert_eq!(ramp_gguf::GgufFile::open(&path).unwrap().metadata().get_str("k").unwrap(), "v");
}

#[test]
fn parts_of_a_tensor_are_the_tensor() {
    let folder = tempfile::tempdir().unwrap();
    let whole: Vec<u8> = (0..68).collect();
    let write = |parts: &[usize]| {
        let path = folder.path().join("model.gguf");
        let mut writer = GgufWriter::create(&path, Metadata::new(), specs()).unwrap();
        let mut start = 0;
        for &end in parts {
            assert_eq!(writer.next_tensor().map(|spec| spec.name.as_str()), Some("a"));
            writer.append("a", &whole[start..end]).unwrap();
            start = end;
        }
        writer.append("b", &[7; 12]).unwrap();
        assert_eq!(writer.next_tensor(), None);
        writer.finish().unwrap();
        std::fs::read(&path).unwrap()
    };
    let expected = write(&[68]);
    assert_eq!(write(&[1, 1, 40, 68]), expected);
    assert_eq!(write(&[67, 68]), expected);
}

#[test]
fn parts_must_add_up() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let mut writer = GgufWriter::create(&path, Metadata::new(), specs()).unwrap();
    writer.append("a", &[0; 60]).unwrap();
    let error = writer.append("a", &[0; 9]).unwrap_err();
    assert_eq!(error.to_string(), "tensor `a`: 69 bytes of data where 68 are due");
    let error = writer.write_tensor("a", &[0; 68]).unwrap_err();
    assert_eq!(error.to_string(), "tensor `a`: only 60 of 68 bytes were written");
    let error = writer.encode_tensor("a", &[0.0; 64], None).unwrap_err();
    assert!(matches!(error.root(), Error::UnfinishedTensor { expected: 68, found: 60 }));
    assert!(matches!(writer.append("b", &[]), Err(Error::WrongOrder { .. })));
    let error = writer.finish().unwrap_err();
    assert!(matches!(error, Error::MissingTensors { missing: 2, .. }), "a part is not a tensor: {error}");
}

/// Encoding in parts gives what encoding at once gives, expert by expert with the importance of each.
#[test]
fn weights_are_encoded_on_their_way() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    // More weights per expert than are encoded at once.
    let (n_per_row, rows, experts) = (1024, 4100, 2);
    let matrix = n_per_row * rows;
    let weights: Vec<f32> =
        (0..matrix * experts).map(|i| ((i % 7919) as f32 * 0.11).sin() * ((i % 13) as f32)).collect();
    let importance: Vec<f32> = (0..n_per_row * experts).map(|i| 1.0 + (i % 5) as f32).collect();
    let dims = [n_per_row as u64, rows as u64, experts as u64];
    let specs = vec![TensorSpec::new("w", dims, GgmlType::Q3_K)];
    let mut writer = GgufWriter::create(&path, Metadata::new(), specs.clone()).unwrap();
    writer.encode_tensor("w", &weights, Some(&importance)).unwrap();
    writer.finish().unwrap();
    let expected: Vec<u8> = weights
        .chunks(matrix)
        .zip(importance.chunks(n_per_row))
        .flat_map(|(w, i)| ramp_gguf::encode(GgmlType::Q3_K, w, n_per_row, Some(i)).unwrap())
        .collect();
    let file = ramp_gguf::GgufFile::open(&path).unwrap();
    assert!(file.tensor_data("w").unwrap() == expected, "the bytes differ");

    let mut writer = GgufWriter::create(&path, Metadata::new(), specs).unwrap();
    let error = writer.encode_tensor("w", &weights[1..], None).unwrap_err();
    assert!(matches!(error.root(), Error::NotWholeRows { .. }));
    let error = writer.encode_tensor("w", &weights, Some(&importance[..n_per_row])).unwrap_err();
    assert!(matches!(error.root(), Error::ImatrixLength { expected: 2048, found: 1024 }));
    // The row in an error counts from the start of the tensor.
    let mut broken = weights;
    let last = broken.len() - 1;
    broken[last] = f32::NAN;
    let error = writer.encode_tensor("w", &broken, None).unwrap_err();
    assert_eq!(error.to_string(), "tensor `w`: weight at row 8199, column 1023 is NaN");
}

#[test]
fn keys_have_the_types_that_llama_cpp_reads() {
    let mut metadata = Metadata::new();
    metadata.insert("general.architecture", "llama");
    metadata.insert("llama.block_count", 2_u64);
    let expected = "metadata key `llama.block_count` is u64, expected u32";
    assert_eq!(file_bytes(&metadata, &[]).unwrap_err().to_string(), expected);
    assert_eq!(GgufWriter::create("unused", metadata, vec![]).unwrap_err().to_string(), expected);
}

#[test]
fn other_alignments() {
    for alignment in [1_u32, 8, 64, 4096] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        let metadata: Metadata = [("general.alignment", alignment)].into_iter().collect();
        let mut writer = GgufWriter::create(&path, metadata, specs()).unwrap();
        writer.write_tensor("a", &[1; 68]).unwrap();
        writer.write_tensor("b", &[2; 12]).unwrap();
        let bytes = writer.finish().unwrap();
        assert_eq!(bytes % u64::from(alignment), 0);
        let file = ramp_gguf::GgufFile::open(&path).unwrap();
        for (tensor, value) in file.tensors().iter().zip([1, 2]) {
            assert_eq!((file.data_start() + tensor.offset) % u64::from(alignment), 0);
            let data = file.tensor_data(&tensor.name).unwrap();
            assert!(data.iter().all(|&byte| byte == value));
        }
    }
}
