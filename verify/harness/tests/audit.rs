//! The audits at their smallest scale.

use wigwag_testing::holds;

#[test]
fn g9_no_control_word_is_read_twice() {
    holds(env!("CARGO_BIN_EXE_prove"), "G9");
}

#[test]
fn g24_no_changed_check_goes_unnoticed() {
    holds(env!("CARGO_BIN_EXE_prove"), "G24");
}
