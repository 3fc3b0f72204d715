//! ggml's codecs, for the bytes and the times that ours are compared with.

use std::ffi::c_void;

use llama_cpp_sys_2 as sys;
use ramp_gguf::GgmlType;

/// `ggml_quantize_chunk`: encodes whole rows of `n_per_row` weights into `bytes`.
///
/// # Panics
/// When a length does not fit the others.
pub fn ggml_encode(
    ty: GgmlType,
    weights: &[f32],
    n_per_row: usize,
    imatrix: Option<&[f32]>,
    bytes: &mut [u8],
) {
    let rows = weights.len() / n_per_row;
    assert_eq!(weights.len(), rows * n_per_row);
    assert_eq!(bytes.len() as u64, ty.tensor_bytes(rows, n_per_row).expect("whole blocks"));
    assert!(imatrix.is_none_or(|imatrix| imatrix.len() == n_per_row));
    let imatrix = imatrix.map_or(std::ptr::null(), <[f32]>::as_ptr);
    // SAFETY: the function reads `rows * n_per_row` weights and, unless null, `n_per_row` values of importance, and
    // writes `rows` encoded rows: the lengths that are checked above. It keeps no pointer.
    let written = unsafe {
        sys::ggml_quantize_chunk(
            ty.id() as sys::ggml_type,
            weights.as_ptr(),
            bytes.as_mut_ptr().cast::<c_void>(),
            0,
            rows as i64,
            n_per_row as i64,
            imatrix,
        )
    };
    assert_eq!(written, bytes.len(), "{ty}");
}

/// ggml's `to_float` of a type: decodes whole blocks. F32 has none and is copied.
///
/// # Panics
/// When a length does not fit the other.
pub fn ggml_decode(ty: GgmlType, bytes: &[u8], weights: &mut [f32]) {
    assert_eq!(bytes.len(), ty.row_bytes(weights.len()).expect("whole blocks"));
    // SAFETY: the table has a row for every id of the enum, and lives as long as the program.
    let traits = unsafe { &*sys::ggml_get_type_traits(ty.id() as sys::ggml_type) };
    match traits.to_float {
        // SAFETY: the function reads the blocks of that many weights and writes the weights; lengths as checked.
        Some(to_float) => unsafe {
            to_float(bytes.as_ptr().cast::<c_void>(), weights.as_mut_ptr(), weights.len() as i64);
        },
        None => {
            assert_eq!(ty, GgmlType::F32);
            for (weight, bytes) in weights.iter_mut().zip(bytes.as_chunks().0) {
                *weight = f32::from_le_bytes(*bytes);
            }
        }
    }
}

/// `ggml_validate_row_data`: whether no scale of the blocks is infinite or NaN.
pub fn ggml_is_valid(ty: GgmlType, bytes: &[u8]) -> bool {
    // SAFETY: the function reads that many bytes.
    unsafe {
        sys::ggml_validate_row_data(ty.id() as sys::ggml_type, bytes.as_ptr().cast::<c_void>(), bytes.len())
    }
}
