//! Hostile peers, at the smallest scale. `cargo xtask prove` has more of it.

use wigwag_testing::holds;

const XTASK: &str = env!("CARGO_BIN_EXE_prove");

#[test]
fn g6_no_byte_in_memory_or_message_makes_a_peer_panic() {
    holds(XTASK, "G6");
}

#[test]
fn g21_a_seeded_simulation_agrees_with_its_model() {
    holds(XTASK, "G21");
}

#[test]
fn g7_live_attackers_hurt_no_honest_client() {
    holds(XTASK, "G7");
}

#[test]
fn g8_the_corpus_of_the_fuzz_targets_holds() {
    holds(XTASK, "G8");
}
