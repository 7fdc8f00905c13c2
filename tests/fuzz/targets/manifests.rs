//! libFuzzer over `weft_fuzz::manifests`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| weft_fuzz::manifests::run(bytes));
