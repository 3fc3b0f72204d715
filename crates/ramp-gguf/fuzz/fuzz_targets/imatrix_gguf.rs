//! Any bytes as an importance matrix in a GGUF file.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ramp_gguf_fuzz::imatrix_gguf(bytes));
