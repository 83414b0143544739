//! Names and paths.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| wigwag::fuzzing::names(bytes));
