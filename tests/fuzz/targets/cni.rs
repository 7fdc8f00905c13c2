//! libFuzzer over `weft_fuzz::cni`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| weft_fuzz::cni::run(bytes));
