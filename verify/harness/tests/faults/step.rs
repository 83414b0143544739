//! The harnesses that walk operations find injected faults.

use crate::{PROGRAM, turn};

#[test]
fn g3_finds_a_descriptor_that_outlives_its_client() {
    let _turn = turn();
    wigwag_testing::finds(PROGRAM, "G3", "leaked-descriptor", "later holds");
}

#[test]
fn g3_finds_clients_that_do_not_watch_for_their_servers_end() {
    let _turn = turn();
    wigwag_testing::finds(PROGRAM, "G3", "missing-wake-on-death", "hangs");
}

#[test]
fn g4_finds_a_server_that_watches_the_socket_alone() {
    let _turn = turn();
    wigwag_testing::finds(PROGRAM, "G4", "socket-alone", "later holds");
}

#[test]
fn g5_finds_a_second_look_at_a_head_that_was_checked() {
    let _turn = turn();
    wigwag_testing::finds(PROGRAM, "G5", "double-fetch", "a server, head");
}

#[test]
fn g5_finds_a_length_that_is_not_compared() {
    let _turn = turn();
    wigwag_testing::finds(PROGRAM, "G5", "unchecked-length", "a server, head");
}

#[test]
fn g5_finds_a_reply_that_is_not_checked() {
    let _turn = turn();
    wigwag_testing::finds(PROGRAM, "G5", "unchecked-reply", "a client, head");
}

#[test]
fn g15_finds_a_default_user() {
    let _turn = turn();
    wigwag_testing::finds(PROGRAM, "G15", "default-user", "credentials");
}
