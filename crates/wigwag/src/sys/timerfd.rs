//! A moment as a descriptor, for a reactor (timerfd_create(2)).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

use crate::error::{Error, Result};

/// A descriptor that becomes readable at the moment that was set.
#[derive(Debug)]
pub struct Timer(OwnedFd);

impl Timer {
    /// One that is not set.
    pub fn new() -> Result<Timer> {
        timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)
            .map(Timer)
            .map_err(|error| Error::io("create a timer", error))
    }

    /// Sets it anew; what it told of before is forgotten. `None`: never.
    pub fn set(&self, at: Option<Instant>) {
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let left = at.map_or(Duration::ZERO, |at| {
            // A year is never, and zero would be, too.
            at.saturating_duration_since(Instant::now())
                .clamp(Duration::from_nanos(1), Duration::from_secs(86_400 * 365))
        });
        let it_value = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        let spec = Itimerspec { it_interval: zero, it_value };
        // It cannot fail with a valid time.
        let _ = timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &spec);
    }
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
