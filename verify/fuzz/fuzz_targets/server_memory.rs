//! A server whose client writes what the fuzzer says into the shared memory.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| wigwag_proof::hostile::fuzzed::server_memory(bytes));
