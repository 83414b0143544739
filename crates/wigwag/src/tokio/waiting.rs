//! How a task waits for a ring, and where it leaves what blocks.

use std::os::fd::AsRawFd;
use std::task::{Context, Poll, ready};

use tokio::io::unix::AsyncFd;

use crate::error::{Error, ErrorKind, Result};
use crate::sys::reactor::check_runtime;

/// Waits for the next ring. What rang before has been forgotten by then: the caller looks again, and comes back if it finds
/// nothing.
pub fn poll_ring<T: AsRawFd>(watched: &AsyncFd<T>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
    let mut guard = ready!(watched.poll_read_ready(context))?;
    guard.clear_ready();
    Poll::Ready(Ok(()))
}

/// Runs what blocks on a thread that may be blocked.
pub async fn off_the_runtime<T: Send + 'static>(run: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    check_runtime()?;
    match tokio::task::spawn_blocking(run).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => {
                Err(Error::new(ErrorKind::ServerClosed { maybe_executed: false }, "the tokio runtime is shutting down"))
            }
        },
    }
}
