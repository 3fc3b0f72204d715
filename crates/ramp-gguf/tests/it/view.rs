//! Tensors without a copy.

use ramp_gguf::{Error, GgmlType, GgufFile, GgufWriter, Metadata, TensorSpec, encode};

use crate::bytes::Bytes;

fn weights(n: usize) -> Vec<f32> {
    (0..n).map(|i| (i as f32 * 0.37).sin()).collect()
}

/// A Q4_K tensor `w` of four rows and an F32 tensor `v` of three.
fn open() -> (tempfile::TempDir, GgufFile) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("model.gguf");
    let specs =
        vec![TensorSpec::new("w", [512, 2, 2], GgmlType::Q4_K), TensorSpec::new("v", [2, 3], GgmlType::F32)];
    let mut writer = GgufWriter::create(&path, Metadata::new(), specs).expect("a valid file");
    writer.encode_tensor("w", &weights(2048), None).expect("a valid file");
    writer.encode_tensor("v", &weights(6), None).expect("a valid file");
    writer.finish().expect("a valid file");
    (folder, GgufFile::open(&path).expect("a valid file"))
}

#[test]
fn rows() {
    let (_folder, file) = open();
    let view = file.view("w").unwrap();
    assert_eq!((view.n_rows(), view.info().n_per_row(), view.ty()), (4, 512, GgmlType::Q4_K));
    let whole = encode(GgmlType::Q4_K, &weights(2048), 512, None).unwrap();
    assert_eq!(view.bytes(), whole);
    assert_eq!(view.row(2).unwrap(), &whole[2 * 288..3 * 288]);
    let all = view.decode().unwrap();
    assert_eq!(view.decode_rows(1..3).unwrap(), all[512..1536]);
    assert!(view.decode_rows(4..4).unwrap().is_empty());
    for (start, end) in [(4, 5), (0, 5), (u64::MAX, 0), (3, 2)] {
        let error = view.rows(start..end).unwrap_err();
        assert!(matches!(error.root(), Error::RowRange { n_rows: 4, .. }), "{error}");
    }
    assert_eq!(
        view.row(u64::MAX).unwrap_err().to_string(),
        format!("tensor `w`: rows {0} to {0} of 4", u64::MAX)
    );
}

#[test]
fn blocks_are_the_mapped_bytes() {
    let (_folder, file) = open();
    let view = file.view("v").unwrap();
    let floats: &[f32] = view.blocks().unwrap();
    assert_eq!(floats, weights(6));
    assert_eq!(floats.as_ptr().cast(), view.bytes().as_ptr());
    let blocks: &[[u8; 144]] = file.view("w").unwrap().blocks().unwrap();
    assert_eq!(blocks.len(), 8);
    let error = view.blocks::<[u8; 144]>().unwrap_err();
    assert_eq!(error.to_string(), "tensor `v`: a block of F32 has 4 bytes, not 144");
}

#[test]
fn blocks_need_their_alignment() {
    // Aligned to single bytes, the data starts where the infos end.
    let (_folder, _path, file) =
        Bytes::start(3, 1, 1).key("general.alignment", 4).u32(1).info("wxy", &[1], 0, 0).data(1, 4).open();
    let file = file.unwrap();
    assert_eq!(file.data_start() % 4, 0, "the name is chosen so that a byte more misaligns the data");
    let (_folder, _path, file) =
        Bytes::start(3, 1, 1).key("general.alignment", 4).u32(1).info("wxyz", &[1], 0, 0).data(1, 4).open();
    let file = file.unwrap();
    let error = file.view("wxyz").unwrap().blocks::<f32>().unwrap_err();
    assert!(matches!(error.root(), Error::MisalignedView { alignment: 4 }), "{error}");
    assert_eq!(file.decode_tensor("wxyz").unwrap(), [0.0]);
}

#[test]
fn scales_that_are_not_finite_are_found() {
    let (_folder, file) = open();
    assert!(file.views().all(|view| view.check_finite().is_ok()));

    // Three rows of one block; the second has an infinite scale.
    let block = [&[0x00, 0x7c][..], &[1; 32]].concat();
    let (_folder, _path, file) =
        Bytes::start(3, 1, 0).info("w", &[32, 3], 8, 0).data(32, 34).raw(&block).raw(&[0; 34]).open();
    let error = file.unwrap().view("w").unwrap().check_finite().unwrap_err();
    assert_eq!(error.to_string(), "tensor `w`: weight at row 1, column 0 is inf");
}
