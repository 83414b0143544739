//! What tries queues finds the faults that are injected for it.

use crate::{PROGRAM, turn};
use wigwag_testing::{finds, finds_one_of};

#[test]
fn g25_finds_messages_that_a_dead_one_had_and_that_are_not_marked() {
    let _turn = turn();
    finds(PROGRAM, "G25", "unmarked-delivery", "comes without a mark");
}

#[test]
fn g25_finds_messages_that_died_with_their_sender() {
    let _turn = turn();
    finds(PROGRAM, "G25", "forgotten-orphan", "0 messages came of a sender that had committed");
}

#[test]
fn g25_finds_messages_that_died_with_their_receiver() {
    let _turn = turn();
    // Under load the receiver that closes has had its first message by then, which is lost.
    let ways = ["a receiver that lives has not acknowledged all", "the next receiver got [1, 2]"];
    finds_one_of(PROGRAM, "G25", "early-acknowledgement", &ways);
}

#[test]
fn g25_finds_messages_that_move_to_another_receiver_without_the_mark() {
    let _turn = turn();
    let ways = ["comes without a mark", "unmarked", "was not marked"];
    finds_one_of(PROGRAM, "G25", "unmarked-move", &ways);
}

#[test]
fn g25_finds_messages_of_an_idle_sender_that_stay_with_the_dead() {
    let _turn = turn();
    finds(PROGRAM, "G25", "idle-stand-in", "made no call, and its messages");
}

#[test]
fn g25_finds_messages_that_died_with_one_of_several_receivers() {
    let _turn = turn();
    finds(PROGRAM, "G25", "forgotten-member", "was told that all is acknowledged, and its messages");
}

#[test]
fn g25_finds_a_sleep_that_nobody_ends() {
    let _turn = turn();
    finds(PROGRAM, "G25", "unrung-sleep", "a sender waits for what it sent");
}
