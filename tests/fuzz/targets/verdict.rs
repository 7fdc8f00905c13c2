//! libFuzzer over `weft_fuzz::verdict`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| weft_fuzz::verdict::run(bytes));
