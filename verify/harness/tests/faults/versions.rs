//! Foreign peers of a library with faults.

use crate::PROGRAM;
use wigwag_testing::finds;

#[test]
fn g23_finds_versions_that_nobody_looks_at() {
    finds(PROGRAM, "G23", "unchecked-version", "not refused by name");
}

#[test]
fn g23_finds_features_that_nobody_looks_at() {
    finds(PROGRAM, "G23", "unchecked-features", "a client that requires feature");
}

#[test]
fn g23_finds_a_clock_that_nobody_looks_at() {
    finds(PROGRAM, "G23", "one-clock", "WELCOME to a client of another clock");
}

#[test]
fn g23_finds_what_a_session_of_version_1_must_not_have() {
    finds(PROGRAM, "G23", "mixed-versions", "the client's line in a session of version 1");
}
