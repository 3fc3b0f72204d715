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
