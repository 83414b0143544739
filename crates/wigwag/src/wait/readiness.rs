//! How a task waits for a ring, and for the answer to a connect.

use std::os::fd::AsRawFd;
use std::task::{Context, Poll, ready};

use tokio::io::unix::AsyncFd;

/// Waits for the next ring. What rang before has been forgotten by then: the caller looks again, and comes back if it
/// finds nothing.
///
/// So whatever comes after this must tell of itself anew. An eventfd does with each write, and an epoll with each event
/// of what is in it, whatever was left there. Code that leaves something behind reports it again: `SocketEvents::read`,
/// and the serving thread, which rings its own bell.
pub fn poll_ring<T: AsRawFd>(watched: &AsyncFd<T>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
    let mut guard = ready!(watched.poll_read_ready(context))?;
    guard.clear_ready();
    Poll::Ready(Ok(()))
}
