//! libFuzzer over `weft_fuzz::api`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| weft_fuzz::api::run(bytes));
