//! Histories find the faults that are injected for them, each in one that has what it takes.

use crate::PROGRAM;
use wigwag_testing::{finds_in_history, finds_in_history_one_of};

#[test]
fn g27_finds_a_thread_that_hears_a_bufferful_and_no_more() {
    finds_in_history(PROGRAM, "G27", "one-look", 19703413308, "nothing happens");
}

#[test]
fn g27_finds_streams_that_look_whole_after_a_panic() {
    finds_in_history(PROGRAM, "G27", "good-end-in-panic", 5122308202, "looks whole");
}

#[test]
fn g27_finds_a_sender_that_waits_longer_than_it_was_told() {
    finds_in_history(PROGRAM, "G27", "patient-search", 3496438449, "nothing happens");
}

#[test]
fn g27_finds_a_stopped_waiter_that_keeps_the_permit() {
    finds_in_history(PROGRAM, "G27", "kept-call", 5247267319, "nothing happens");
}

#[test]
fn g27_finds_a_client_for_tasks_that_forgets_what_is_under_way() {
    finds_in_history(PROGRAM, "G27", "uncounted-calls", 88914340, "it panicked");
}

#[test]
fn g27_finds_a_batch_that_is_lost_in_a_shutdown() {
    finds_in_history(PROGRAM, "G27", "lost-batch", 77, "nobody has acknowledged it");
}

#[test]
fn g27_finds_messages_after_the_end() {
    finds_in_history(PROGRAM, "G27", "second-life", 9393716045, "after the end had been told");
}

#[test]
fn g27_finds_a_handler_that_panics_before_its_future_exists() {
    finds_in_history(PROGRAM, "G27", "uncaught-start", 11811005688, "Unanswered");
}

#[test]
fn d5_g27_finds_a_sender_that_does_not_look_at_what_it_is_granted() {
    finds_in_history(PROGRAM, "G27", "unchecked-grant", 4762366689, "it panicked");
}

#[test]
fn d2_g27_finds_a_shutdown_that_counts_what_comes_again() {
    finds_in_history(PROGRAM, "G27", "counted-again", 121, "the end was told before it came");
}

#[test]
fn d4_g27_finds_bytes_of_another_user_that_are_skipped() {
    finds_in_history(PROGRAM, "G27", "skipped-copy", 6586476774, "of the stream is wrong");
}

#[test]
fn w12_g27_finds_a_forked_child_that_touches_what_it_has_not() {
    finds_in_history(PROGRAM, "G27", "unchecked-child", 7213925786, "ended by signal 11");
}

#[test]
fn g27_finds_an_end_that_tries_for_ever_beside_the_dead() {
    finds_in_history(PROGRAM, "G27", "unseen-death", 2472189510, "nothing happens");
}

#[test]
fn g27_finds_duplicates_that_stay_open_when_a_call_is_given_up() {
    finds_in_history_one_of(PROGRAM, "G27", "kept-duplicates", 28949277368, &["descriptors are left"]);
}

#[test]
fn g27_finds_descriptors_that_are_given_to_another_call() {
    finds_in_history(PROGRAM, "G27", "swapped-descriptors", 25874599540, "is another");
}

#[test]
fn g27_finds_errors_that_lose_on_their_way_whether_the_request_was_executed() {
    finds_in_history(PROGRAM, "G27", "forgotten-fate", 17180519652, "was passed on");
}

#[test]
fn g27_finds_halves_that_lose_a_byte_when_they_are_reunited() {
    finds_in_history(PROGRAM, "G27", "lossy-reunite", 18627913546, "of the stream is wrong");
}

#[test]
fn g27_finds_a_permit_that_goes_with_a_future_that_was_given_up() {
    // The future has to be given up between the grant and the look: four runs of five have that.
    let ways = ["death", "nothing happens"];
    finds_in_history_one_of(PROGRAM, "G27", "cancelled-permit", 17179961863, &ways);
}

#[test]
fn g27_finds_messages_that_have_their_number_before_their_bytes() {
    finds_in_history(PROGRAM, "G27", "early-sequence", 37486372547, "is not what was published");
}

#[test]
fn g27_finds_entries_that_are_read_without_a_second_look() {
    finds_in_history_one_of(PROGRAM, "G27", "unchecked-entry", 34843720199, &["is not what was published"]);
}

#[test]
fn g27_finds_losses_that_are_told_wrong_by_one() {
    finds_in_history(PROGRAM, "G27", "short-loss", 41559210421, "were told as lost");
}

#[test]
fn g27_finds_bodies_that_are_written_to_while_they_are_held() {
    let ways = ["has changed while it was held", "is not what was published"];
    finds_in_history_one_of(PROGRAM, "G27", "early-release", 39764273997, &ways);
}

#[test]
fn g27_finds_subscribers_that_are_gone_and_counted_on() {
    finds_in_history(PROGRAM, "G27", "unnoticed-leave", 36121497325, "nothing happens");
}

#[test]
fn g27_finds_messages_that_are_let_go_of_before_all_have_taken_them() {
    let ways = ["was not cut off", "that cuts nobody off"];
    finds_in_history_one_of(PROGRAM, "G27", "released-unread", 35371505605, &ways);
}
