//! How long a test waits for what must happen.

use std::sync::atomic::{AtomicBool, Ordering};
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

/// The longest that a test may take, on a machine that has much else to do.
const TEST_LIMIT: Duration = Duration::from_secs(120);

/// Runs a test that waits for ever where what it tests is broken: it fails then. Its thread
/// is left behind, and ends with the process.
#[track_caller]
pub fn limited(test: impl FnOnce() + Send + 'static) {
    let (running, ended) = std::sync::mpsc::channel::<()>();
    let name = std::thread::current().name().unwrap_or_default().to_owned();
    let test = move || {
        let _running = running;
        test();
    };
    let thread = std::thread::Builder::new().name(name).spawn(test).unwrap();
    if ended.recv_timeout(TEST_LIMIT) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
        panic!("the test waits for ever: it did not end within {TEST_LIMIT:?}");
    }
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Says, when it is dropped, that something is over: also when a test fails, so that nobody waits for ever for it.
pub struct Over<'a>(pub &'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}
