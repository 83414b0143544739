//! Waiting for an effect of another thread, without sleeping: thousands of times in a trial.

use std::time::Instant;

use wigwag_testing::LIMIT;

/// Waits until something is true; a hang is a panic that says `what`.
pub fn until(what: &str, mut is_true: impl FnMut() -> bool) {
    let begin = Instant::now();
    for looks in 0u64.. {
        if is_true() {
            return;
        }
        std::thread::yield_now();
        assert!(looks % 1024 != 0 || begin.elapsed() < LIMIT, "{what}: not within {LIMIT:?}");
    }
}
