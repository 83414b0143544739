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

#[test]
fn g7_finds_a_seal_that_is_missing() {
    finds(XTASK, "G7", "missing-seal", "what the seals forbid");
}

#[test]
fn g7_finds_a_stranger_who_is_trusted() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped, because only root can play another user");
        return;
    }
    finds(XTASK, "G7", "trusted-stranger", "changed while the handler had them");
}

#[test]
fn g8_finds_a_length_that_is_not_checked() {
    finds(XTASK, "G8", "unchecked-length", "which is a violation");
}
