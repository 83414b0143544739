//! How long a test waits for what must happen.

use std::time::{Duration, Instant};

/// The longest that anything here may take. Only a hang, or a lost wake-up, is longer; no test asserts less.
pub const LIMIT: Duration = Duration::from_secs(30);

/// Waits until something is true; fails with `what` when it never is.
pub fn eventually(what: &str, mut is_true: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_true() {
        assert!(begin.elapsed() < LIMIT, "{what}: not within {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
