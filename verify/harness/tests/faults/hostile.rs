//! What the harnesses against hostile peers must find, or they prove nothing.

use crate::PROGRAM;
use wigwag_testing::finds;

#[test]
fn g6_finds_a_length_that_is_not_checked() {
    finds(PROGRAM, "G6", "unchecked-length", "which is a violation");
}

#[test]
fn g6_finds_a_depth_that_is_believed() {
    finds(PROGRAM, "G6", "unchecked-depth", "panicked: ");
}

#[test]
fn g6_finds_a_head_that_is_read_twice() {
    finds(PROGRAM, "G6", "double-fetch", "its head changed after it was checked");
}

#[test]
fn g6_finds_a_reply_that_is_not_checked() {
    finds(PROGRAM, "G6", "unchecked-reply", "where Violation was right");
}

#[test]
fn g21_finds_a_slot_that_is_forgotten() {
    finds(PROGRAM, "G21", "forgotten-slot", "slots are free");
}

#[test]
fn g7_finds_a_seal_that_is_missing() {
    finds(PROGRAM, "G7", "missing-seal", "what the seals forbid");
}

#[test]
fn g7_finds_a_other_user_who_is_trusted() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped, because only root can play another user");
        return;
    }
    finds(PROGRAM, "G7", "trusted-other-user", "changed while the handler had them");
}

#[test]
fn g8_finds_a_length_that_is_not_checked() {
    finds(PROGRAM, "G8", "unchecked-length", "which is a violation");
}
