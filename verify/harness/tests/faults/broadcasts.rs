//! What tries broadcasts finds the faults that are injected for it.

use crate::{PROGRAM, turn};
use wigwag_testing::{finds, finds_one_of};

#[test]
fn g31_finds_a_message_that_has_its_number_before_its_bytes() {
    let _turn = turn();
    finds(PROGRAM, "G31", "early-sequence", "is torn");
}

#[test]
fn g31_finds_an_entry_that_is_read_without_a_second_look() {
    let _turn = turn();
    finds(PROGRAM, "G31", "unchecked-entry", "is torn");
}

#[test]
fn g31_finds_losses_that_are_told_wrong_by_one() {
    let _turn = turn();
    finds_one_of(PROGRAM, "G31", "short-loss", &["was next", "were lost of"]);
}

#[test]
fn g31_finds_a_body_that_is_written_to_while_it_is_held() {
    let _turn = turn();
    finds(PROGRAM, "G31", "early-release", "is torn");
}

#[test]
fn g31_finds_a_publisher_that_does_not_notice_who_is_gone() {
    let _turn = turn();
    finds(PROGRAM, "G31", "unnoticed-leave", "the crowd is gone");
}
