//! Restarts, on a library with faults: the harness finds what was injected for it.

use wigwag_testing::{finds, finds_one_of};

use crate::{PROGRAM, turn};

#[test]
fn g30_finds_a_request_that_is_begun_and_not_marked() {
    let _turn = turn();
    finds(PROGRAM, "G30", "unmarked-begun", "was executed 2 times");
}

#[test]
fn g30_finds_a_call_that_is_passed_again_although_it_was_begun() {
    let _turn = turn();
    finds(PROGRAM, "G30", "passed-twice", "was executed 2 times");
}

#[test]
fn g30_finds_a_hang_up_that_is_taken_for_an_end() {
    let _turn = turn();
    finds(PROGRAM, "G30", "hang-up-alone", "hung up and lives");
}

#[test]
fn g30_finds_sessions_that_are_kept() {
    let _turn = turn();
    finds(PROGRAM, "G30", "kept-sessions", "process 0 of clients");
}

#[test]
fn g30_finds_a_holder_that_ends_for_an_heir_that_was_killed() {
    let ways = ["the holder has ended for an heir that was killed", "was told as TurnedAway, and nobody was killed"];
    let _turn = turn();
    finds_one_of(PROGRAM, "G30", "hasty-holder", &ways);
}

#[test]
fn g30_finds_a_holder_that_does_not_take_its_name_back() {
    let _turn = turn();
    finds(PROGRAM, "G30", "forsaking-holder", "no call is answered by one server alone");
}

#[test]
fn g30_finds_a_former_server_that_removes_what_is_its_heirs() {
    let ways = ["was told as TurnedAway, and nobody was killed", "an heir did not get the name"];
    let _turn = turn();
    finds_one_of(PROGRAM, "G30", "greedy-former", &ways);
}

#[test]
fn g30_finds_a_sender_that_is_welcomed_before_it_is_kept() {
    let _turn = turn();
    finds(PROGRAM, "G30", "hasty-welcome", "a sender was welcomed before the keeper had its memory");
}

#[test]
fn g30_finds_messages_that_a_keeper_does_not_mark() {
    let _turn = turn();
    finds_one_of(PROGRAM, "G30", "unmarked-kept", &["without a mark", " came after "]);
}

#[test]
fn g30_finds_messages_that_a_keeper_loses() {
    let _turn = turn();
    let ways = ["is lost: it came", "died with a receiver that had it"];
    finds_one_of(PROGRAM, "G30", "lost-kept", &ways);
}

#[test]
fn g30_finds_a_keeper_that_does_not_look_whether_a_move_had_begun() {
    let _turn = turn();
    finds_one_of(PROGRAM, "G30", "unread-move", &["without a mark", " came after "]);
}

#[test]
fn g30_finds_a_keeper_that_hands_on_for_a_sender_that_lives() {
    let _turn = turn();
    finds_one_of(PROGRAM, "G30", "hasty-keeper", &["without a mark", " came after "]);
}

#[test]
fn g30_finds_a_keeper_that_lets_go_of_what_is_not_acknowledged() {
    let _turn = turn();
    let ways = ["is lost: it came", "died with a receiver that had it"];
    finds_one_of(PROGRAM, "G30", "forgetful-keeper", &ways);
}
