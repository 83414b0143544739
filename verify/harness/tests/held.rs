//! What others can make a server hold, at the smallest scale: `cargo xtask prove --only G29` is the real one.

use wigwag_testing::holds;

#[test]
fn g29_what_others_hold_is_bounded_and_comes_back() {
    holds(env!("CARGO_BIN_EXE_prove"), "G29");
}
