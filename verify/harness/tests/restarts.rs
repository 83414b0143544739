//! Servers that are killed and started again, a small number of times.

/// `cargo xtask prove`.
const PROGRAM: &str = env!("CARGO_BIN_EXE_prove");

#[test]
fn g30_clients_that_follow_lose_no_call_and_have_none_executed_twice() {
    wigwag_testing::holds(PROGRAM, "G30");
}
