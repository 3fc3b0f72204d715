//! Models in several files.

use std::path::{Path, PathBuf};

use ramp_gguf::{Error, GgmlType, GgufFile, GgufWriter, Metadata, TensorSpec, Value};

/// The keys of a part.
fn part_keys(no: u16, count: u16, tensors: i32) -> Metadata {
    let mut metadata = Metadata::new();
    if no == 0 {
        metadata.insert("general.architecture", "llama");
    }
    metadata.insert("split.no", no);
    metadata.insert("split.count", count);
    metadata.insert("split.tensors.count", tensors);
    metadata
}

/// Writes a part with F32 tensors of 3 elements, each the number at the end of its name.
fn write_part(path: &Path, metadata: Metadata, names: &[&str]) {
    let specs = names.iter().map(|name| TensorSpec::new(*name, [3], GgmlType::F32)).collect();
    let mut writer = GgufWriter::create(path, metadata, specs).expect("a valid part");
    for name in names {
        let value: f32 = name[1..].parse().expect("a number");
        writer.encode_tensor(name, &[value; 3], None).expect("a valid part");
    }
    writer.finish().expect("a valid part");
}

fn part_path(folder: &Path, no: u16, count: u16) -> PathBuf {
    folder.join(format!("model-{:05}-of-{count:05}.gguf", no + 1))
}

/// Three parts with four tensors; the last has none, and one has another alignment.
fn three_parts() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let names: [&[&str]; 3] = [&["w0", "w1"], &["w2", "w3"], &[]];
    for (no, names) in (0..).zip(names) {
        let mut metadata = part_keys(no, 3, 4);
        if no == 1 {
            metadata.insert("general.alignment", 8_u32);
        }
        write_part(&part_path(folder.path(), no, 3), metadata, names);
    }
    folder
}

/// Replaces one part and gives the error of opening the model by its first part.
fn error_with_part(no: u16, metadata: Metadata, names: &[&str]) -> Error {
    let folder = three_parts();
    write_part(&part_path(folder.path(), no, 3), metadata, names);
    GgufFile::open(part_path(folder.path(), 0, 3)).expect_err("the parts do not fit")
}

#[test]
fn any_part_opens_the_whole_model() {
    let folder = three_parts();
    for no in 0..3 {
        let file = GgufFile::open(part_path(folder.path(), no, 3)).unwrap();
        let names: Vec<_> = file.tensors().iter().map(|tensor| tensor.name.as_str()).collect();
        assert_eq!(names, ["w0", "w1", "w2", "w3"]);
        for (at, view) in file.views().enumerate() {
            assert_eq!(view.decode().unwrap(), [at as f32; 3]);
            assert_eq!(file.decode_tensor(view.name()).unwrap(), [at as f32; 3]);
        }
        // What describes a part does not describe the model.
        let keys: Vec<_> = file.metadata().iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["general.architecture"]);
        assert_eq!(file.path(), part_path(folder.path(), 0, 3));
        let paths: Vec<_> = file.part_paths().map(Path::to_owned).collect();
        assert_eq!(paths, [0, 1, 2].map(|no| part_path(folder.path(), no, 3)));
        let bytes: u64 = paths.iter().map(|path| path.metadata().unwrap().len()).sum();
        assert_eq!(file.file_len(), bytes);
    }
}

#[test]
fn a_model_of_one_part_is_an_ordinary_file() {
    let folder = tempfile::tempdir().unwrap();
    for count in [0, 1] {
        let path = folder.path().join("any.gguf");
        write_part(&path, part_keys(0, count, 1), &["w7"]);
        assert_eq!(GgufFile::open(&path).unwrap().decode_tensor("w7").unwrap(), [7.0; 3]);
    }
}

#[test]
fn the_name_must_give_the_place_of_the_part() {
    let folder = three_parts();
    let path = folder.path().join("renamed.gguf");
    std::fs::rename(part_path(folder.path(), 0, 3), &path).unwrap();
    let error = GgufFile::open(&path).unwrap_err();
    assert!(matches!(error.root(), Error::SplitName { no: 0, count: 3, .. }));
    assert!(error.to_string().ends_with("must have a name that ends in `-00001-of-00003.gguf`"), "{error}");
}

#[test]
fn every_part_must_be_there() {
    let folder = three_parts();
    let missing = part_path(folder.path(), 1, 3);
    std::fs::remove_file(&missing).unwrap();
    let error = GgufFile::open(part_path(folder.path(), 0, 3)).unwrap_err();
    assert!(error.to_string().starts_with(&format!("cannot open {}", missing.display())), "{error}");
}

#[test]
fn parts_must_agree() {
    let names = ["w2", "w3"];
    let error = error_with_part(1, part_keys(2, 3, 4), &names);
    assert!(matches!(error.root(), Error::SplitNo { expected: 1, found: 2 }), "{error}");
    let error = error_with_part(1, part_keys(1, 4, 4), &names);
    assert!(matches!(error.root(), Error::SplitCount { expected: 3, found: 4 }), "{error}");
    let error = error_with_part(0, part_keys(3, 3, 4), &names);
    assert!(matches!(error.root(), Error::SplitNoRange { no: 3, count: 3 }), "{error}");
    let error = error_with_part(1, Metadata::new(), &names);
    assert!(matches!(error.root(), Error::MissingKey { key } if key == "split.no"), "{error}");
    let error = error_with_part(1, part_keys(1, 3, 4), &["w2", "w1"]);
    assert!(matches!(error.root(), Error::DuplicateTensor { name } if name == "w1"), "{error}");
    let error = error_with_part(1, part_keys(1, 3, 4), &["w2"]);
    assert!(matches!(error.root(), Error::SplitTensors { expected: 4, found: 3 }), "{error}");
    let mut keys = part_keys(0, 3, 4);
    keys.remove("split.tensors.count");
    let error = error_with_part(0, keys, &["w0", "w1"]);
    assert!(matches!(error.root(), Error::MissingKey { .. }), "{error}");
}

#[test]
fn split_keys_have_their_types() {
    let mut keys = part_keys(0, 3, 4);
    keys.insert("split.count", Value::U32(3));
    let error = GgufWriter::create("unused", keys, vec![]).unwrap_err();
    assert_eq!(error.to_string(), "metadata key `split.count` is u32, expected u16");
}
