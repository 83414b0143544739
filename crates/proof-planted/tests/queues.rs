//! What tries queues finds the faults that are planted for it.

use wigwag_testing::finds;

/// Walks share one processor with their tracer, all of them the same one: they take turns.
static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());

const PROGRAM: &str = env!("CARGO_BIN_EXE_xtask-planted");

#[test]
fn g25_finds_messages_that_a_dead_one_had_and_that_are_not_marked() {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    finds(PROGRAM, "G25", "unmarked-delivery", "comes without a mark");
}

#[test]
fn g25_finds_messages_that_died_with_their_sender() {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    finds(PROGRAM, "G25", "forgotten-orphan", "0 messages came of a sender that had committed");
}

#[test]
fn g25_finds_messages_that_died_with_their_receiver() {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    finds(PROGRAM, "G25", "early-acknowledgement", "a receiver that lives has not acknowledged all");
}
