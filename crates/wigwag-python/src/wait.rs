//! How a thread of Python waits: it looks for a moment, then lets the others run, spins, and sleeps.
//!
//! A signal ends the sleep (EINTR), and then Python's handlers run: so Ctrl-C works at once, without a timer.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;

use crate::errors::Failure;

/// Looks before this thread lets the others run: one to two microseconds.
pub const LOOKS_ATTACHED: u32 = 64;

/// How long a call may take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    Never,
    At(Instant),
}

impl Limit {
    /// Of a number of seconds; none is for ever.
    pub fn after(timeout: Option<f64>) -> PyResult<Limit> {
        let Some(seconds) = timeout else { return Ok(Limit::Never) };
        if seconds.is_nan() || seconds < 0.0 {
            let why = format!("a timeout of {seconds} s: give seconds from 0.0 on, or None to wait for ever");
            return Err(PyValueError::new_err(why));
        }
        let at = Duration::try_from_secs_f64(seconds).ok().and_then(|time| Instant::now().checked_add(time));
        Ok(at.map_or(Limit::Never, Limit::At))
    }

    /// The point in time, if there is one.
    pub fn at(self) -> Option<Instant> {
        match self {
            Limit::Never => None,
            Limit::At(at) => Some(at),
        }
    }

    /// Or before, in that time.
    pub fn or_in(self, time: Option<Duration>) -> Limit {
        let at = time.and_then(|time| Instant::now().checked_add(time));
        self.at().into_iter().chain(at).min().map_or(Limit::Never, Limit::At)
    }

    /// Whether there is no time left.
    pub fn is_over(self) -> bool {
        self.at().is_some_and(|at| at <= Instant::now())
    }
}

/// A time in seconds, for options.
pub fn duration(seconds: f64, what: &str) -> PyResult<Duration> {
    Duration::try_from_secs_f64(seconds)
        .map_err(|_| PyValueError::new_err(format!("{what} of {seconds} s: give seconds from 0.0 on")))
}

/// How a sleep ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slept {
    Rang,
    Interrupted,
    TimedOut,
}

/// Sleeps until the descriptor is readable. Not while attached to the interpreter.
pub fn sleep(fd: BorrowedFd<'_>, limit: Limit) -> Result<Slept, Failure> {
    sleep_on(&mut [PollFd::new(&fd, PollFlags::IN)], limit)
}

/// As [`sleep`], also until the handle is closed by another thread.
pub fn sleep_unless_closed(fd: BorrowedFd<'_>, closing: &Closing, limit: Limit) -> Result<Slept, Failure> {
    sleep_on(&mut [PollFd::new(&fd, PollFlags::IN), PollFd::new(&closing.bell, PollFlags::IN)], limit)
}

/// Tells whoever sleeps that the handle is closed.
pub struct Closing {
    bell: OwnedFd,
    /// A child has the same bell, and must not ring it for its parent.
    process: u32,
}

impl Closing {
    pub fn new() -> Result<Closing, Failure> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let bell = bell.map_err(|error| Failure::Python(std::io::Error::from(error).into()))?;
        Ok(Closing { bell, process: std::process::id() })
    }

    /// For good.
    pub fn tell(&self) {
        if std::process::id() == self.process {
            // It cannot be full: it is rung once or twice.
            let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
        }
    }
}

fn sleep_on(descriptors: &mut [PollFd<'_>], limit: Limit) -> Result<Slept, Failure> {
    let timeout = limit.at().map(|at| {
        let left = at.saturating_duration_since(Instant::now()).min(Duration::from_secs(86_400));
        Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() }
    });
    match poll(descriptors, timeout.as_ref()) {
        Ok(0) if limit.is_over() => Ok(Slept::TimedOut),
        Ok(_) => Ok(Slept::Rang),
        Err(Errno::INTR) => Ok(Slept::Interrupted),
        Err(error) => Err(Failure::Python(std::io::Error::from(error).into())),
    }
}

/// What one step of a wait came to.
pub enum Step<T> {
    Done(T),
    TimedOut,
    /// A signal came: Python's handlers run, and the step is taken again.
    Interrupted,
}

/// Takes a step, which may sleep, again and again while detached from the interpreter, and lets signals be handled in
/// between. `None`: there is no time left.
pub fn wait<T: Send>(
    py: Python<'_>,
    mut step: impl FnMut() -> Result<Step<T>, Failure> + Send,
) -> Result<Option<T>, Failure> {
    loop {
        py.check_signals()?;
        match py.detach(&mut step)? {
            Step::Done(found) => return Ok(Some(found)),
            Step::TimedOut => return Ok(None),
            Step::Interrupted => {}
        }
    }
}
