#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rustic_hapi_fuzz::location(data));
