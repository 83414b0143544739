//! The descriptor of a doorbell: an eventfd that is rung by writing and never read.
//!
//! The sleeper registers it edge-triggered, so a ring is one `write` and a sleep is one `epoll_wait`; no `read` puts
//! the counter back, and with 2^64 rings of room none is needed. See eventfd(2) and epoll(7).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, eventfd};

use crate::error::{Error, Result};

/// An eventfd that wakes one sleeper.
#[derive(Debug)]
pub struct Bell(OwnedFd);

impl Bell {
    /// Makes a bell: non-blocking, closed on exec.
    pub fn new() -> Result<Bell> {
        let made = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC);
        made.map(Bell).map_err(|error| Error::io("create a doorbell", error))
    }

    /// Takes a descriptor that came over the socket.
    pub fn from_fd(fd: OwnedFd) -> Bell {
        Bell(fd)
    }

    /// The same bell by another descriptor.
    pub fn duplicate(&self) -> Result<Bell> {
        self.0.try_clone().map(Bell).map_err(|error| Error::io("copy a doorbell's descriptor", error))
    }

    /// Takes all rings back, so that the descriptor is not readable any more: for bells that only this process has.
    pub fn silence(&self) {
        let _ = crate::sys::retry(|| rustix::io::read(&self.0, &mut [0u8; 8]));
    }

    /// Rings. A full counter means that it is ringing already, and an error has no other cure than the peer's death.
    pub fn ring(&self) {
        let _ = crate::sys::retry(|| rustix::io::write(&self.0, &1u64.to_ne_bytes()));
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
