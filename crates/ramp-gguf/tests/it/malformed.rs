//! One broken rule per test: the variant, and the value and name in the message.

use ramp_gguf::{Error, Header};

use crate::bytes::Bytes;

const F32: u32 = 0;
const Q4_K: u32 = 12;

/// One tensor `w` with this info and no metadata, followed by plenty of data.
fn one_tensor(dims: &[u64], type_id: u32, offset: u64) -> Bytes {
    Bytes::start(3, 1, 0).info("w", dims, type_id, offset).data(32, 4096)
}

/// One key `k` of this type, followed by these bytes.
fn one_key(type_id: u32, value: &[u8]) -> Bytes {
    Bytes::start(3, 0, 1).key("k", type_id).raw(value)
}

macro_rules! assert_error {
    ($bytes:expr, $variant:pat $(if $guard:expr)?) => {
        let bytes = $bytes;
        match bytes.parse() {
            Err(error) => match error.root() {
                $variant $(if $guard)? => {}
                _ => panic!("expected {}, found {error:?}", stringify!($variant)),
            },
            Ok(header) => panic!("expected {}, found {header:?}", stringify!($variant)),
        }
    };
}

#[test]
fn the_bytes_of_these_tests_are_valid_until_broken() {
    for version in [2, 3] {
        let file = Bytes::start(version, 2, 1)
            .key("general.alignment", 4)
            .u32(64)
            .info("a", &[3, 1, 1, 2], F32, 0)
            .info("b", &[256], Q4_K, 64)
            .data(64, 64 + 144);
        let header = file.parse().unwrap();
        assert_eq!((header.version, header.alignment, header.tensors.len()), (version, 64, 2));
        assert_eq!(header.tensors[0].n_elements(), 6);
        assert_eq!(header.tensors[1].n_bytes, 144);
    }
    assert_eq!(one_key(7, &[1]).parse().unwrap().metadata.len(), 1);
    assert!(one_tensor(&[4], F32, 0).parse().is_ok());
}

#[test]
fn magic() {
    assert_error!(Bytes(b"GGML\x03\0\0\0".to_vec()), Error::BadMagic { found } if found == b"GGML");
    assert_error!(Bytes(vec![]), Error::BadMagic { found } if found.is_empty());
    assert_error!(Bytes(b"GG".to_vec()), Error::BadMagic { .. });
}

#[test]
fn version() {
    assert_error!(Bytes::start(1, 0, 0), Error::UnsupportedVersion { version: 1 });
    assert_error!(Bytes::start(4, 0, 0), Error::UnsupportedVersion { version: 4 });
    assert_error!(Bytes::start(0, 0, 0), Error::UnsupportedVersion { version: 0 });
    assert_error!(Bytes::start(3_u32.swap_bytes(), 0, 0), Error::BigEndian { .. });
}

#[test]
fn counts_beyond_the_file() {
    for count in [1, 1 << 32, u64::MAX] {
        assert_error!(
            Bytes::start(3, count, 0),
            Error::CountTooLarge { what: "tensors", limit: 0, count: found } if *found == count
        );
        assert_error!(
            Bytes::start(3, 0, count),
            Error::CountTooLarge { what: "metadata keys", limit: 0, .. }
        );
    }
}

#[test]
fn every_truncation_is_an_error() {
    let whole = Bytes::start(3, 2, 3)
        .key("text", 8)
        .string(b"value")
        .key("list", 9)
        .u32(8)
        .u64(2)
        .string(b"a")
        .string(b"b")
        .key("numbers", 9)
        .u32(4)
        .u64(3)
        .raw(&[0; 12])
        .info("a", &[8, 2], F32, 0)
        .info("b", &[256], Q4_K, 64)
        .data(32, 64 + 144);
    assert!(whole.parse().is_ok());
    for end in 0..whole.0.len() {
        assert!(Header::parse(&whole.0[..end]).is_err(), "{end} bytes parse");
    }
}

#[test]
fn truncated() {
    assert_eq!(
        Bytes(b"GGUF\x03".to_vec()).message(),
        "file ends inside the version: 4 bytes needed at offset 4, 1 left"
    );
    assert_error!(one_key(4, &[0, 0]), Error::Truncated { needed: 4, left: 2, .. });
}

#[test]
fn string_lengths() {
    assert_error!(
        Bytes::start(3, 0, 1).u64(u64::MAX).data(1, 64),
        Error::StringTooLong { length: u64::MAX, .. }
    );
    assert_error!(one_key(8, &100_u64.to_le_bytes()), Error::StringTooLong { length: 100, limit: 0, .. });
    // A limit of its own, below what the file could hold.
    let long = vec![b'a'; (1 << 24) + 1];
    assert_error!(
        Bytes::start(3, 0, 1).key("k", 8).string(&long),
        Error::StringTooLong { limit: 0x100_0000, .. }
    );
}

#[test]
fn keys() {
    let key = |key: &str| Bytes::start(3, 0, 1).key(key, 0).raw(&[1]).data(1, 8);
    assert_error!(key(""), Error::BadKey { .. });
    assert_error!(key("größe"), Error::BadKey { key } if key == "größe");
    assert_error!(key(&"k".repeat(65536)), Error::BadKey { key } if key.len() == 80);
    assert!(key(&"k".repeat(65535)).parse().is_ok());
    let twice = Bytes::start(3, 0, 2).key("k", 0).raw(&[1]).key("k", 0).raw(&[2]).data(1, 8);
    assert_error!(twice, Error::DuplicateKey { key } if key == "k");
}

#[test]
fn value_types() {
    assert_error!(one_key(13, &[0; 8]), Error::UnknownValueType { id: 13, key } if key == "k");
    let element = |id: u32| one_key(9, &[&id.to_le_bytes()[..], &1_u64.to_le_bytes(), &[0; 8]].concat());
    assert_error!(element(13), Error::UnknownValueType { id: 13, .. });
    assert_error!(element(9), Error::NestedArray { key } if key == "k");
}

#[test]
fn bools() {
    assert_error!(one_key(7, &[2]), Error::BadBool { byte: 2, key } if key == "k");
    let array = [&7_u32.to_le_bytes()[..], &2_u64.to_le_bytes(), &[1, 255]].concat();
    assert_error!(one_key(9, &array), Error::BadBool { byte: 255, .. });
}

#[test]
fn text_is_utf8() {
    assert_error!(Bytes::start(3, 0, 1).key("k", 8).string(b"\xff"), Error::NotUtf8 { what } if what.contains("`k`"));
    assert_error!(Bytes::start(3, 0, 1).string(b"\xff\xfe").u32(0).data(1, 8), Error::NotUtf8 { .. });
    assert_error!(Bytes::start(3, 1, 0).string(b"\xff").data(1, 64), Error::NotUtf8 { .. });
}

#[test]
fn array_lengths() {
    let array =
        |id: u32, count: u64| one_key(9, &[&id.to_le_bytes()[..], &count.to_le_bytes(), &[0; 16]].concat());
    for id in 0..=12 {
        if id != 9 {
            assert_error!(array(id, u64::MAX), Error::ArrayTooLong { count: u64::MAX, .. });
            // Times the size of an element this would wrap around.
            assert_error!(array(id, 1 << 62), Error::ArrayTooLong { .. });
        }
    }
    assert_error!(array(4, 5), Error::ArrayTooLong { count: 5, limit: 4, .. });
    assert!(array(4, 4).parse().is_ok());
    assert_error!(array(8, 3), Error::ArrayTooLong { count: 3, limit: 2, .. });
}

#[test]
fn alignment() {
    let alignment = |value: u32| Bytes::start(3, 0, 1).key("general.alignment", 4).u32(value);
    for value in [0, 3, 33, 1 << 17, u32::MAX] {
        assert_error!(alignment(value), Error::BadAlignment { found } if *found == value);
    }
    for value in [1, 8, 1 << 16] {
        assert_eq!(alignment(value).parse().unwrap().alignment, u64::from(value));
    }
    let wrong_type = Bytes::start(3, 0, 1).key("general.alignment", 10).u64(32);
    assert_error!(wrong_type, Error::WrongType { expected: "u32", found: "u64", .. });
}

#[test]
fn tensor_names() {
    let named = |name: &str| Bytes::start(3, 1, 0).info(name, &[4], F32, 0).data(32, 32);
    assert_error!(named(""), Error::BadTensorName { .. });
    assert_error!(named(&"n".repeat(64)), Error::BadTensorName { .. });
    assert!(named(&"n".repeat(63)).parse().is_ok());
    let twice = Bytes::start(3, 2, 0).info("w", &[8], F32, 0).info("w", &[8], F32, 32).data(32, 64);
    assert_error!(twice, Error::DuplicateTensor { name } if name == "w");
}

#[test]
fn dimensions() {
    assert_error!(one_tensor(&[], F32, 0), Error::BadDimCount { n_dims: 0 });
    assert_error!(one_tensor(&[1; 5], F32, 0), Error::BadDimCount { n_dims: 5 });
    assert_error!(one_tensor(&[4, 0, 2], F32, 0), Error::ZeroDim { axis: 1, dims } if *dims == [4, 0, 2]);
    for dims in [&[1 << 63][..], &[1 << 32, 1 << 32], &[1 << 21, 1 << 21, 1 << 21, 2], &[u64::MAX, 1]] {
        assert_error!(one_tensor(dims, F32, 0), Error::TooManyElements { .. });
    }
    assert_eq!(one_tensor(&[0], F32, 0).message(), "tensor `w`: dimension 0 is 0 in [0]");
}

#[test]
fn tensor_bytes_do_not_wrap() {
    // 2^62 elements of 4 bytes.
    assert_error!(one_tensor(&[1 << 62], F32, 0), Error::SizeOverflow { .. });
    assert_error!(one_tensor(&[1 << 60], F32, 0), Error::DataPastEnd { .. });
    // 2^61 bytes each: the sum wraps in the ninth.
    let many =
        (0..9).fold(Bytes::start(3, 9, 0), |bytes, i| bytes.info(&format!("w{i}"), &[1 << 59], F32, i << 61));
    assert_error!(many.data(32, 64), Error::DataPastEnd { .. });
    assert_error!(one_tensor(&[(1 << 62) - 1], F32, 0), Error::SizeOverflow { .. });
}

#[test]
fn blocks() {
    assert_error!(one_tensor(&[255, 2], Q4_K, 0), Error::RowNotBlockMultiple { n_per_row: 255, .. });
    // 512 weights, but not per row.
    assert_error!(one_tensor(&[128, 4], Q4_K, 0), Error::RowNotBlockMultiple { n_per_row: 128, .. });
}

#[test]
fn types() {
    assert_error!(one_tensor(&[32], 1000, 0), Error::UnknownTypeId { id: 1000 });
    for id in [4, 5, 31, 32, 33, 36, 37, 38] {
        assert_error!(one_tensor(&[256], id, 0), Error::RemovedTypeId { id: found } if *found == id);
    }
    assert_eq!(one_tensor(&[32], 43, 0).message(), "tensor `w`: unknown ggml type id 43");
}

#[test]
fn offsets() {
    assert_error!(one_tensor(&[4], F32, 8), Error::MisalignedOffset { offset: 8, alignment: 32 });
    assert_error!(one_tensor(&[4], F32, 32), Error::WrongOffset { expected: 0, found: 32 });
    let second =
        |offset| Bytes::start(3, 2, 0).info("a", &[9], F32, 0).info("b", &[1], F32, offset).data(32, 256);
    assert!(second(64).parse().is_ok());
    assert_error!(second(32), Error::WrongOffset { expected: 64, found: 32 });
    assert_error!(second(96), Error::WrongOffset { expected: 64, found: 96 });
    assert_error!(second(u64::MAX - 31), Error::WrongOffset { .. });
}

#[test]
fn data_past_the_end() {
    let short = |missing: usize| {
        let mut bytes = Bytes::start(3, 1, 0).info("w", &[8], F32, 0).data(32, 32);
        bytes.0.truncate(bytes.0.len() - missing);
        bytes
    };
    assert!(short(0).parse().is_ok());
    assert_error!(short(1), Error::DataPastEnd { end: 96 | 128, .. });
    assert_error!(short(32), Error::DataPastEnd { .. });
    // The file ends before the data section begins.
    let no_data = Bytes::start(3, 1, 0).info("w", &[8], F32, 0);
    assert_error!(no_data, Error::DataPastEnd { .. });
}

#[test]
fn the_last_tensor_need_not_be_padded() {
    let bytes = Bytes::start(3, 1, 0).info("w", &[1], F32, 0).data(32, 4);
    let (_folder, _path, file) = bytes.open();
    assert_eq!(file.unwrap().tensor_data("w").unwrap(), [0; 4]);
}

#[test]
fn the_file_is_named_in_the_error() {
    let (_folder, path, file) = one_tensor(&[0], F32, 0).open();
    let error = file.unwrap_err();
    assert_eq!(error.to_string(), format!("{}: tensor `w`: dimension 0 is 0 in [0]", path.display()));
    assert!(matches!(error.root(), Error::ZeroDim { .. }));

    let (_folder, path, file) = one_tensor(&[256], Q4_K, 0).open();
    let error = file.unwrap().tensor_data("v").unwrap_err();
    assert_eq!(error.to_string(), format!("{}: no tensor `v`", path.display()));
}

#[test]
fn types_without_a_decoder_can_be_inspected_but_not_decoded() {
    let iq2_s = 22;
    let (_folder, _path, file) = one_tensor(&[256, 2], iq2_s, 0).open();
    let file = file.unwrap();
    let tensor = file.tensor("w").unwrap();
    assert_eq!((tensor.ty.name(), tensor.n_bytes), ("IQ2_S", 164));
    assert_eq!(file.tensor_data("w").unwrap().len(), 164);
    assert!(matches!(file.decode_tensor("w").unwrap_err().root(), Error::CannotDecode { .. }));
}
