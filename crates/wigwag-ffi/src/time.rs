//! Times, as C gives them: nanoseconds, with a meaning for what is below zero.

use std::time::Duration;

/// Waits as long as it takes, where a function has a `timeout_ns`. Every negative number means the same.
pub const WIGWAG_FOREVER: i64 = -1;

/// How long a call may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// As long as it takes.
    Forever,
    /// Not at all.
    Now,
    /// So long.
    For(Duration),
}

impl Patience {
    /// What C has said.
    #[inline(always)]
    pub fn of(timeout_ns: i64) -> Patience {
        match timeout_ns {
            ..0 => Patience::Forever,
            0 => Patience::Now,
            _ => Patience::For(Duration::from_nanos(timeout_ns.unsigned_abs())),
        }
    }
}

/// A time in an option: `None` if nothing is said, and for what is negative as long as nobody lives to see the end of.
pub fn optional(time_ns: i64) -> Option<Duration> {
    match Patience::of(time_ns) {
        Patience::Now => None,
        Patience::For(time) => Some(time),
        Patience::Forever => Some(Duration::from_nanos(i64::MAX.unsigned_abs())),
    }
}
