//! Any bytes as blocks of every type that has a decoder: the first byte picks the type.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ramp_gguf_fuzz::decode(bytes));
