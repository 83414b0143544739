//! Foreign peers, at the smallest scale: see `verify/harness/src/audit/versions.rs`.

#[test]
fn g23_foreign_peers() {
    wigwag_testing::holds(env!("CARGO_BIN_EXE_prove"), "G23");
}
