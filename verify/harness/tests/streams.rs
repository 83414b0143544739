//! Streams whose ends are killed, stopped and lied to, at the smallest scale.

#[test]
fn g26_nothing_that_was_cut_off_looks_whole() {
    wigwag_testing::holds(env!("CARGO_BIN_EXE_prove"), "G26");
}
