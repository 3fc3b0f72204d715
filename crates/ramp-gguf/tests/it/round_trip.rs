//! What is written is what is read, for any metadata; and what is read never panics, for any bytes.

use proptest::prelude::*;
use ramp_gguf::{
    Array, GgmlType, GgufFile, GgufWriter, Header, Metadata, TensorSpec, Value, encode, file_bytes,
};

fn arrays() -> impl Strategy<Value = Array> {
    use prop::collection::vec;
    let n = 0..20_usize;
    prop_oneof![
        vec(any::<u8>(), n.clone()).prop_map(Array::from),
        vec(any::<i8>(), n.clone()).prop_map(Array::from),
        vec(any::<u16>(), n.clone()).prop_map(Array::from),
        vec(any::<i16>(), n.clone()).prop_map(Array::from),
        vec(any::<u32>(), n.clone()).prop_map(Array::from),
        vec(any::<i32>(), n.clone()).prop_map(Array::from),
        vec(any::<f32>(), n.clone()).prop_map(Array::from),
        vec(any::<bool>(), n.clone()).prop_map(Array::from),
        vec(any::<String>(), n.clone()).prop_map(Array::from),
        vec(any::<u64>(), n.clone()).prop_map(Array::from),
        vec(any::<i64>(), n.clone()).prop_map(Array::from),
        vec(any::<f64>(), n).prop_map(Array::from),
    ]
}

fn values() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<u8>().prop_map(Value::from),
        any::<i8>().prop_map(Value::from),
        any::<u16>().prop_map(Value::from),
        any::<i16>().prop_map(Value::from),
        any::<u32>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        any::<f32>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        arrays().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
    ]
}

fn metadata() -> impl Strategy<Value = Metadata> {
    prop::collection::vec(("[a-z][a-z0-9_.]{0,30}", values()), 0..20)
        .prop_map(|entries| entries.into_iter().collect())
}

fn specs() -> impl Strategy<Value = Vec<TensorSpec>> {
    let spec = (1..4_u64, prop::collection::vec(1..4_u64, 0..3), prop::sample::select(GgmlType::ALL));
    prop::collection::vec(spec, 0..6).prop_map(|specs| {
        specs
            .into_iter()
            .enumerate()
            .map(|(i, (blocks, mut dims, ty))| {
                dims.insert(0, blocks * ty.block_size() as u64);
                TensorSpec::new(format!("blk.{i}.weight"), dims, ty)
            })
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_file(metadata in metadata(), specs in specs(), alignment in prop::option::of(0..=16_u32)) {
        let mut metadata = metadata;
        if let Some(shift) = alignment {
            metadata.insert("general.alignment", 1_u32 << shift);
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        let mut writer = GgufWriter::create(&path, metadata.clone(), specs.clone()).unwrap();
        let data: Vec<Vec<u8>> = specs
            .iter()
            .enumerate()
            .map(|(i, spec)| vec![i as u8 + 1; spec.n_bytes().unwrap() as usize])
            .collect();
        for (spec, bytes) in specs.iter().zip(&data) {
            writer.write_tensor(&spec.name, bytes).unwrap();
        }
        let promised = writer.file_bytes();
        let written = writer.finish().unwrap();

        // The budget, the writer and the disk agree to the byte.
        prop_assert_eq!(written, file_bytes(&metadata, &specs).unwrap());
        prop_assert_eq!(written, promised);
        prop_assert_eq!(written, path.metadata().unwrap().len());

        let file = GgufFile::open(&path).unwrap();
        prop_assert_eq!(file.file_len(), written);
        prop_assert_eq!(file.version(), 3);
        prop_assert_eq!(file.metadata(), &metadata);
        prop_assert_eq!(file.tensors().len(), specs.len());
        for ((tensor, spec), bytes) in file.tensors().iter().zip(&specs).zip(&data) {
            prop_assert_eq!((&tensor.name, &tensor.dims, tensor.ty), (&spec.name, &spec.dims, spec.ty));
            prop_assert_eq!(file.tensor_data(&spec.name).unwrap(), &bytes[..]);
            let at = file.data_start() + tensor.offset;
            prop_assert_eq!(at % file.alignment(), 0);
        }
        // Every tensor is padded, the last one too.
        if !specs.is_empty() {
            prop_assert_eq!(written % file.alignment(), 0);
        }
    }

    /// A hostile file is an error or a file, never a panic and never a large allocation.
    #[test]
    fn any_damage(metadata in metadata(), specs in specs(), damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        let mut writer = GgufWriter::create(&path, metadata, specs.clone()).unwrap();
        for spec in &specs {
            writer.write_tensor(&spec.name, &vec![0; spec.n_bytes().unwrap() as usize]).unwrap();
        }
        writer.finish().unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(header) = Header::parse(&bytes) {
            for tensor in &header.tensors {
                let end = header.data_start + tensor.offset + tensor.n_bytes;
                prop_assert!(end <= bytes.len() as u64);
            }
        }
    }

    #[test]
    fn any_bytes(tail in prop::collection::vec(any::<u8>(), 0..300), counts in (0..4_u64, 0..4_u64)) {
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.extend(counts.0.to_le_bytes());
        bytes.extend(counts.1.to_le_bytes());
        bytes.extend(tail);
        let _ = Header::parse(&bytes);
    }
}

#[test]
fn exact_bytes_of_a_small_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let mut metadata = Metadata::new();
    metadata.insert("a.b", "xy");
    metadata.insert("n", vec![7_u16, 8]);
    let specs = vec![TensorSpec::new("w", [2, 1], GgmlType::F16)];
    let mut writer = GgufWriter::create(&path, metadata, specs).unwrap();
    writer.write_tensor("w", &encode(GgmlType::F16, &[1.0, -2.0], 2, None).unwrap()).unwrap();
    assert_eq!(writer.finish().unwrap(), 160);

    let mut expected = Vec::new();
    expected.extend(b"GGUF\x03\0\0\0");
    expected.extend(b"\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0");
    expected.extend(b"\x03\0\0\0\0\0\0\0a.b\x08\0\0\0\x02\0\0\0\0\0\0\0xy");
    expected.extend(b"\x01\0\0\0\0\0\0\0n\x09\0\0\0\x02\0\0\0\x02\0\0\0\0\0\0\0\x07\0\x08\0");
    expected.extend(b"\x01\0\0\0\0\0\0\0w\x02\0\0\0\x02\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x01\0\0\0");
    expected.extend([0; 8]);
    expected.resize(128, 0);
    expected.extend(b"\x00\x3c\x00\xc0");
    expected.resize(160, 0);
    assert_eq!(std::fs::read(&path).unwrap(), expected);
    assert_eq!(GgufFile::open(&path).unwrap().decode_tensor("w").unwrap(), [1.0, -2.0]);
}
