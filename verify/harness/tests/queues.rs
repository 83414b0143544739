//! Queues whose senders and receivers are killed, stopped and lied to, at the smallest scale.

#[test]
fn g25_what_was_committed_is_received() {
    wigwag_testing::holds(env!("CARGO_BIN_EXE_prove"), "G25");
}
