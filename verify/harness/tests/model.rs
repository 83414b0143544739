//! The models and the counters, at the smallest scale: see `verify/harness/src/model`.

use wigwag_proof::model::explore::{Protocol, inject};
use wigwag_proof::model::handshake::Handshake;
use wigwag_proof::model::sleeping::Sleeping;
use wigwag_proof::model::turns::Turns;
use wigwag_testing::holds;

const PROGRAM: &str = env!("CARGO_BIN_EXE_prove");

#[track_caller]
fn every_injected_bug_is_found<M: Protocol>() {
    for (bug, property) in M::BUGS {
        let steps = inject::<M>(*bug, property).unwrap_or_else(|why| panic!("{why}"));
        println!("{}: {bug:?} violates \"{property}\" within {steps} steps", M::NAME);
    }
}

#[test]
fn bugs_of_the_handshake_are_found() {
    every_injected_bug_is_found::<Handshake>();
}

#[test]
fn bugs_of_the_slots_are_found() {
    every_injected_bug_is_found::<Turns>();
}

#[test]
fn bugs_of_waiting_are_found() {
    every_injected_bug_is_found::<Sleeping>();
}

#[test]
fn g16_numbers_that_are_about_to_wrap() {
    holds(PROGRAM, "G16");
}

#[test]
fn g19_every_order_of_steps() {
    holds(PROGRAM, "G19");
}

#[test]
fn g20_every_order_that_the_memory_model_allows() {
    holds(PROGRAM, "G20"); // not here: see there
}
