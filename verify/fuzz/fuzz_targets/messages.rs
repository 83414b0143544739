//! The decoders of control messages, both ways.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| wigwag::fuzzing::messages(bytes));
