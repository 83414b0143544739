//! Waits that the library does by itself, so that Ctrl-C is heard meanwhile.

use std::sync::Mutex;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use wigwag::{Error, ErrorKind};

use crate::errors::Failure;
use crate::turn::lock;
use crate::wait::Limit;

/// A signal is heard at the latest after that.
const SLICE: Duration = Duration::from_millis(25);

/// Does something once in a thread of its own while other threads run. If a signal's handler raises, the thread is left
/// to come to its end by itself, and what it makes is dropped there.
pub fn in_thread<T: Send + 'static>(
    py: Python<'_>,
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> PyResult<T> {
    let (told, hears) = channel();
    let thread = std::thread::Builder::new().name("wigwag-connect".into()).spawn(move || drop(told.send(work())));
    if let Err(error) = thread {
        return Err(error.into());
    }
    let hears = Mutex::new(hears); // only so that it may be used while detached
    let mut pause = Duration::from_millis(1);
    loop {
        let heard = py.detach(|| lock(&hears).recv_timeout(pause));
        match heard {
            Ok(outcome) => return Ok(outcome.map_err(Failure::from)?),
            Err(RecvTimeoutError::Timeout) => py.check_signals()?,
            Err(RecvTimeoutError::Disconnected) => {
                return Err(pyo3::exceptions::PyRuntimeError::new_err("the connecting thread panicked"));
            }
        }
        pause = (pause * 2).min(SLICE);
    }
}

/// Waits in slices, each of which may end with a timeout that leaves nothing behind. `None`: no time is left.
pub fn in_slices<T: Send>(
    py: Python<'_>,
    limit: Limit,
    slice: impl Fn(Duration) -> Result<T, Error> + Sync,
) -> PyResult<Option<T>> {
    loop {
        py.check_signals()?;
        let left = limit.at().map_or(SLICE, |at| at.saturating_duration_since(Instant::now()));
        let is_last = left <= SLICE && limit.at().is_some();
        match py.detach(|| slice(left.min(SLICE))) {
            Ok(found) => return Ok(Some(found)),
            Err(error) if matches!(error.kind(), ErrorKind::TimedOut { .. }) && !is_last => {}
            Err(error) if matches!(error.kind(), ErrorKind::TimedOut { .. }) => return Ok(None),
            Err(error) => return Err(Failure::from(error).into()),
        }
    }
}
