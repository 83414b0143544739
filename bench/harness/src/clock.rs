//! Time: reading it, and letting it pass the way an ordinary program does.

use rustix::thread::{NanosleepRelativeResult, clock_nanosleep_absolute, clock_nanosleep_relative};
use rustix::time::{ClockId, Timespec, clock_gettime};

/// Nanoseconds in a second.
pub const SECOND: u64 = 1_000_000_000;

/// Pauses below this are thought through, not slept through: with the kernel's default timer slack of 50 us, which
/// no ordinary program changes, a shorter sleep would not be the pause that was asked for.
pub const SHORTEST_SLEEP: u64 = 50_000;

/// The monotonic clock in nanoseconds.
#[inline]
pub fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * SECOND + time.tv_nsec as u64
}

/// Sleeps until a point of the monotonic clock. The timer slack is the system's default.
pub fn sleep_until(at: u64) {
    let request = timespec(at);
    while clock_nanosleep_absolute(ClockId::Monotonic, &request).is_err() {}
}

/// A pause between calls: computing when it is short, sleeping otherwise.
pub fn pause(duration: u64) {
    if duration >= SHORTEST_SLEEP {
        let mut rest = timespec(duration);
        while let NanosleepRelativeResult::Interrupted(left) = clock_nanosleep_relative(ClockId::Monotonic, &rest) {
            rest = left;
        }
    } else if duration > 0 {
        think_until(now() + duration);
    }
}

/// Computes until a point of the monotonic clock.
pub fn think_until(at: u64) {
    while now() < at {}
}

fn timespec(duration: u64) -> Timespec {
    Timespec { tv_sec: (duration / SECOND) as i64, tv_nsec: (duration % SECOND) as i64 }
}
