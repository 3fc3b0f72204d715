//! Any bytes as a GGUF file: an error, or a file of which everything that is promised holds.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ramp_gguf_fuzz::reader(bytes));
