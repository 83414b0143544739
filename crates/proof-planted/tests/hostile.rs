//! What the harnesses against hostile peers must find, or they prove nothing.

use wigwag_testing::finds;

const XTASK: &str = env!("CARGO_BIN_EXE_xtask-planted");

#[test]
fn g6_finds_a_length_that_is_not_checked() {
    finds(XTASK, "G6", "unchecked-length", "which is a violation");
}

#[test]
fn g6_finds_a_depth_that_is_believed() {
    finds(XTASK, "G6", "unchecked-depth", "panicked: ");
}

#[test]
fn g6_finds_a_head_that_is_read_twice() {
    finds(XTASK, "G6", "double-fetch", "its head changed after it was checked");
}

#[test]
fn g6_finds_a_reply_that_is_not_checked() {
    finds(XTASK, "G6", "unchecked-reply", "where Violation was right");
}

#[test]
fn g21_finds_a_slot_that_is_forgotten() {
    finds(XTASK, "G21", "forgotten-slot", "slots are free");
}
