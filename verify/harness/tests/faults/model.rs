//! The counters on a library with faults. Those of the models are injected in the models: see
//! `verify/harness/tests/model.rs`.

use crate::PROGRAM;
use wigwag_testing::{finds, finds_at};

#[test]
fn g16_finds_a_sequence_of_32_bits() {
    finds(PROGRAM, "G16", "narrow-sequence", "0xfffffff0");
}

#[test]
fn g16_finds_a_sequence_that_does_not_wrap() {
    finds(PROGRAM, "G16", "wide-sequence", "0xfffffffffffff0");
}

#[test]
fn g19_finds_a_sleep_on_an_unread_letter() {
    finds_at(PROGRAM, "G19", "unread-message", "waiting", "ci");
}
