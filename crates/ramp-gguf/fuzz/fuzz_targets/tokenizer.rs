//! Any bytes as `tokenizer.json` and, after a zero byte, as `tokenizer.model`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ramp_gguf_fuzz::tokenizer(bytes));
