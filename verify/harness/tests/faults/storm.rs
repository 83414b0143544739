//! The storms find the faults that are injected for them.

use crate::PROGRAM;
use wigwag_testing::finds;

#[test]
fn g1_finds_a_leaked_descriptor() {
    finds(PROGRAM, "G1", "leaked-descriptor", "the server has leaked");
}

#[test]
fn g1_finds_a_reply_that_lacks_a_byte() {
    finds(PROGRAM, "G1", "short-reply", "bytes long and not");
}

#[test]
fn g1_finds_a_turn_that_is_passed_too_early() {
    finds(PROGRAM, "G1", "early-turn", "Violation");
}

#[test]
fn g2_finds_clients_that_are_not_told_of_the_death() {
    finds(PROGRAM, "G2", "missing-wake-on-death", "did not come back");
}

#[test]
fn g2_finds_an_error_that_is_wrong_about_what_was_executed() {
    finds(PROGRAM, "G2", "wrong-fate", "was executed");
}

#[test]
fn g10_finds_clients_that_are_not_told_of_the_death() {
    finds(PROGRAM, "G10", "missing-wake-on-death", "not told");
}

#[test]
fn g10_finds_a_server_that_watches_the_socket_alone() {
    finds(PROGRAM, "G10", "socket-alone", "(forked) was not noticed");
}

#[test]
fn g18_finds_a_permit_that_is_not_given_back() {
    finds(PROGRAM, "G18", "lost-permit", "got no permit");
}

#[test]
fn g18_finds_a_permit_that_two_have() {
    finds(PROGRAM, "G18", "doubled-permit", "the one permit of semaphore");
}

#[test]
fn g18_finds_waiters_that_do_not_look_after_the_dead() {
    finds(PROGRAM, "G18", "missing-sweep", "beside a permit that is free or a dead one's");
}

#[test]
fn g22_finds_a_leaked_descriptor() {
    finds(PROGRAM, "G22", "leaked-descriptor", "descriptors");
}

#[test]
fn g22_finds_leaked_memory() {
    finds(PROGRAM, "G22", "leaked-memory", "KiB of memory of its own");
}
