//! At every step: the goals at the smallest scale.

const PROGRAM: &str = env!("CARGO_BIN_EXE_xtask");

#[test]
fn g3_killed_at_every_step() {
    wigwag_testing::holds(PROGRAM, "G3");
}

#[test]
fn g4_stopped_forked_or_robbed_at_every_step() {
    wigwag_testing::holds(PROGRAM, "G4");
}

#[test]
fn g5_lied_to_after_every_instruction() {
    wigwag_testing::holds(PROGRAM, "G5");
}

#[test]
fn g15_told_no_at_every_system_call() {
    wigwag_testing::holds(PROGRAM, "G15");
}
