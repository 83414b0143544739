//! Histories that a generator makes of a seed, at the smallest scale.

#[test]
fn g27_what_each_party_knows_agrees_with_what_happened() {
    wigwag_testing::holds(env!("CARGO_BIN_EXE_prove"), "G27");
}
