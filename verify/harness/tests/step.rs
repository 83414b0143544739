//! At every step: the goals at the smallest scale.

/// Walks share one processor with their tracer, all of them the same one: they take turns.
static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());

const PROGRAM: &str = env!("CARGO_BIN_EXE_prove");

#[test]
fn g3_killed_at_every_step() {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    wigwag_testing::holds(PROGRAM, "G3");
}

#[test]
fn g4_stopped_forked_or_robbed_at_every_step() {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    wigwag_testing::holds(PROGRAM, "G4");
}

#[test]
fn g5_lied_to_after_every_instruction() {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    wigwag_testing::holds(PROGRAM, "G5");
}

#[test]
fn g15_told_no_at_every_system_call() {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    wigwag_testing::holds(PROGRAM, "G15");
}
