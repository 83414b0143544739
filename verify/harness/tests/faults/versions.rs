//! Foreign peers of a library with faults.

use crate::PROGRAM;
use wigwag_testing::finds;

#[test]
fn g23_finds_versions_that_nobody_looks_at() {
    finds(PROGRAM, "G23", "unchecked-version", "not refused by name");
}
