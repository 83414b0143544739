//! Crowds and limits, at the smallest scale: `cargo xtask prove --only G11,G12,G13,G14,G17` is the real one.

use wigwag_testing::holds;

#[test]
fn g11_clients_that_connect_and_leave_again_and_again_leave_nothing() {
    holds(env!("CARGO_BIN_EXE_prove"), "G11");
}

#[test]
fn g12_connectors_that_never_finish_delay_nobody_and_are_dropped() {
    holds(env!("CARGO_BIN_EXE_prove"), "G12");
}

#[test]
fn g13_without_descriptors_the_answer_is_a_sentence() {
    holds(env!("CARGO_BIN_EXE_prove"), "G13");
}

#[test]
fn g14_little_memory_is_the_end_of_those_who_take_more() {
    holds(env!("CARGO_BIN_EXE_prove"), "G14");
}

#[test]
fn g17_the_number_of_a_dead_process_means_nothing() {
    holds(env!("CARGO_BIN_EXE_prove"), "G17");
}
