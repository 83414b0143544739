//! Handshakes over real sockets, both ways, with the harm that the fuzzer chooses.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| wigwag_proof::hostile::fuzzed::handshakes(bytes));
