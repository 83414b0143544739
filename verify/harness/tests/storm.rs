//! Processes are killed at random: the smallest storms, as `cargo test` runs them.

use wigwag_testing::holds;

#[test]
fn g1_nobody_notices_clients_that_are_killed() {
    holds(env!("CARGO_BIN_EXE_prove"), "G1");
}

#[test]
fn g2_clients_come_back_after_servers_that_are_killed() {
    holds(env!("CARGO_BIN_EXE_prove"), "G2");
}

#[test]
fn g10_a_death_is_noticed_on_either_side() {
    holds(env!("CARGO_BIN_EXE_prove"), "G10");
}

#[test]
fn g18_permits_are_conserved_when_holders_and_waiters_are_killed() {
    holds(env!("CARGO_BIN_EXE_prove"), "G18");
}

#[test]
fn g22_nothing_grows_in_a_soak() {
    holds(env!("CARGO_BIN_EXE_prove"), "G22");
}
