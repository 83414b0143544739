//! What tries streams finds the faults that are injected for it.

use crate::{PROGRAM, turn};
use wigwag_testing::finds;

#[test]
fn g26_finds_an_end_that_looks_good() {
    let _turn = turn();
    finds(PROGRAM, "G26", "good-end", "looks whole");
}

#[test]
fn g26_finds_bytes_that_are_published_before_they_are_written() {
    let _turn = turn();
    finds(PROGRAM, "G26", "early-bytes", "stream is wrong");
}

#[test]
fn g26_finds_counts_that_are_believed() {
    let _turn = turn();
    finds(PROGRAM, "G26", "unchecked-count", "a ring of lies");
}

#[test]
fn g26_finds_writers_that_nobody_wakes() {
    let _turn = turn();
    finds(PROGRAM, "G26", "unrung-writer", "TimedOut");
}
