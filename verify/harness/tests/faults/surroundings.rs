//! What tries surroundings finds the faults that are injected for it.

use crate::PROGRAM;
use wigwag_testing::finds;

#[test]
fn g28_finds_a_directory_that_is_left_to_the_umask() {
    finds(PROGRAM, "G28", "umasked-directory", "and 700 is right");
}

#[test]
fn g28_finds_a_name_that_is_not_taken_again() {
    finds(PROGRAM, "G28", "forsaken-name", "SocketRemoved x Exchange: it does not work any more");
}
