//! What others can make a server hold, on a library with faults: the harness finds what was injected for it.

use crate::PROGRAM;
use wigwag_testing::finds;

/// Where other users cannot be played, the harness says so.
fn is_possible() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        println!("not tried: only root can play other users");
    }
    is_root
}

#[test]
fn g29_finds_welcomes_that_nobody_counts() {
    if is_possible() {
        finds(PROGRAM, "G29", "uncounted-welcomes", "by `greet`, and the bound is 16");
    }
}

#[test]
fn g29_finds_memory_that_is_kept_and_not_charged() {
    if is_possible() {
        finds(PROGRAM, "G29", "forgotten-memory", "by `keep-open`, and the bound is 8");
    }
}

#[test]
fn g29_finds_descriptors_that_travel_with_other_users() {
    if is_possible() {
        finds(PROGRAM, "G29", "trusted-carrier", "by `carry`, and the bound is 0");
    }
}

#[test]
fn g29_finds_that_who_is_slow_to_wake_is_served_on() {
    if is_possible() {
        finds(PROGRAM, "G29", "patient-wake", "by `watch`, and the bound is 0");
    }
}
