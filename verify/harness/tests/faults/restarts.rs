//! Restarts, on a library with faults: the harness finds what was injected for it.

use wigwag_testing::finds;

use crate::PROGRAM;

#[test]
fn g30_finds_a_request_that_is_begun_and_not_marked() {
    finds(PROGRAM, "G30", "unmarked-begun", "was executed 2 times");
}

#[test]
fn g30_finds_a_call_that_is_passed_again_although_it_was_begun() {
    finds(PROGRAM, "G30", "passed-twice", "was executed 2 times");
}

#[test]
fn g30_finds_a_hang_up_that_is_taken_for_an_end() {
    finds(PROGRAM, "G30", "hang-up-alone", "hung up and lives");
}

#[test]
fn g30_finds_sessions_that_are_kept() {
    finds(PROGRAM, "G30", "kept-sessions", "process 0 of clients");
}
