//! Foreign peers of a library with faults.

use wigwag_testing::finds;

const PROGRAM: &str = env!("CARGO_BIN_EXE_xtask-planted");

#[test]
fn g23_finds_versions_that_nobody_looks_at() {
    finds(PROGRAM, "G23", "unchecked-version", "not refused by name");
}
