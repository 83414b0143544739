//! Publishers and subscribers that are killed and stopped, a small number of times.

/// `cargo xtask prove`.
const PROGRAM: &str = env!("CARGO_BIN_EXE_prove");

#[test]
fn g31_nothing_is_torn_nothing_lost_in_silence_and_nobody_keeps_a_publisher_waiting() {
    wigwag_testing::holds(PROGRAM, "G31");
}
