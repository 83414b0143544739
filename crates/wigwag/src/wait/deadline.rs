//! Until when a call may wait: the three answers that every blocking call has.

use std::time::{Duration, Instant};

use crate::sys::clock;

/// How long to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deadline {
    /// Do not wait: look once.
    Now,
    /// Up to a point in time.
    At(Instant),
    /// No deadline: wait as long as it takes.
    Never,
}

impl Deadline {
    /// `timeout` from now. One that is farther than the clock can say is [`Deadline::Never`].
    pub fn after(timeout: Duration) -> Deadline {
        clock::deadline_after(timeout).into()
    }

    /// Whether no time is left.
    pub fn is_over(self) -> bool {
        match self {
            Deadline::Now => true,
            Deadline::At(at) => at <= Instant::now(),
            Deadline::Never => false,
        }
    }

    /// The time that is left; `None` without an end.
    pub fn remaining(self) -> Option<Duration> {
        match self {
            Deadline::Now => Some(Duration::ZERO),
            Deadline::At(at) => Some(at.saturating_duration_since(Instant::now())),
            Deadline::Never => None,
        }
    }

    /// The point in time, for the kernel; `None` without an end.
    pub fn as_instant(self) -> Option<Instant> {
        match self {
            Deadline::Now => Some(Instant::now()),
            Deadline::At(at) => Some(at),
            Deadline::Never => None,
        }
    }
}

impl From<Option<Instant>> for Deadline {
    /// `None`: as long as it takes.
    fn from(at: Option<Instant>) -> Deadline {
        at.map_or(Deadline::Never, Deadline::At)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn w8_a_deadline_is_over_when_no_time_is_left() {
        let past = Deadline::At(Instant::now());
        for over in [Deadline::Now, past, Deadline::after(Duration::ZERO)] {
            assert!(over.is_over(), "{over:?}");
            assert_eq!(over.remaining(), Some(Duration::ZERO), "{over:?}");
            assert!(over.as_instant().is_some_and(|at| at <= Instant::now()), "{over:?}");
        }
        let hour = Duration::from_secs(3600);
        let ahead = Deadline::after(hour);
        assert!(!ahead.is_over());
        assert!(ahead.remaining().is_some_and(|left| left <= hour && !left.is_zero()));
        assert!(ahead.as_instant().is_some_and(|at| at > Instant::now()));
    }

    #[test]
    fn w8_a_timeout_beyond_the_clock_never_ends() {
        let never = Deadline::after(Duration::MAX);
        assert_eq!(never, Deadline::Never);
        assert!(!never.is_over());
        assert_eq!((never.remaining(), never.as_instant()), (None, None));
    }
}
