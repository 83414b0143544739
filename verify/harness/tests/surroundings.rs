//! The world as it is, at the smallest scale.

#[test]
fn g28_it_works_or_one_sentence_says_why_not() {
    wigwag_testing::holds(env!("CARGO_BIN_EXE_prove"), "G28");
}
