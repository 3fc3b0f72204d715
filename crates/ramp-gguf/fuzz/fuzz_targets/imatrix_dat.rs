//! Any bytes as an importance matrix in the older form.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ramp_gguf_fuzz::imatrix_dat(bytes));
